/** Something that the user can fix. Its message is one clear line that says what is wrong, and where. */
export class Fault extends Error {
  /** What to do about it, if there is a remedy: a line of its own. */
  readonly hint: string | undefined

  constructor(message: string, { hint, ...options }: ErrorOptions & { readonly hint?: string | undefined } = {}) {
    super(message, options)
    this.hint = hint
  }
}

/** A fault in how a command was called: exit code 2. */
export class UsageFault extends Fault {}

/** The time that the user has set has run out before anything could be done: exit code 3. */
export class TimeFault extends Fault {}

/** What reading something gave: the thing, or every fault that was found in it. */
export type Read<T> =
  | { readonly value: T; readonly faults?: undefined }
  | { readonly value?: undefined; readonly faults: Fault[] }

/** Does something whose fault is no end: it is kept among the others. @returns what came of it; undefined where that is a fault */
export async function keepFault<T>(faults: Fault[], act: () => Promise<T> | T): Promise<T | undefined> {
  try {
    return await act()
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    faults.push(error)
    return undefined
  }
}

/** What was thrown, as an error. */
export const asError = (thrown: unknown): Error => (thrown instanceof Error ? thrown : new Error(String(thrown)))

/** The one line of any error, for a log or a fault's message. */
export function reason(error: unknown): string {
  const [line] = asError(error).message.split('\n')
  // Node names the path behind a comma; whoever asks for the reason has said it in front.
  return line.replace(/, \w+ '.*'$/, '')
}

/** The remedy of an error, if it is a fault that has one: for a fault that says more about it. */
export function hintOf(error: unknown): string | undefined {
  return error instanceof Fault ? error.hint : undefined
}

/** An error with its remedy in one line, for a warning. */
export function inOneLine(error: unknown): string {
  const hint = hintOf(error)
  return hint === undefined ? reason(error) : `${reason(error)}: ${hint}`
}

/** What a line of the log has about an error. A fault's remedy is a field of its own. */
export function explained(error: unknown): { readonly reason: string; readonly hint?: string } {
  const hint = hintOf(error)
  return { reason: reason(error), ...(hint === undefined ? {} : { hint }) }
}

/** Node's error code, such as ENOENT, or undefined. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined
}

/** Characters of what somebody has typed that are said back: enough to know which word is meant. */
const MAX_QUOTED = 60

/** What somebody has typed, as a message says it back: in quotes, and never more of it than tells what it is. */
export function quoted(text: string): string {
  return `"${text.slice(0, MAX_QUOTED)}"`
}

/** Names in one line, and how many more there are than `max`. */
export function listed(names: readonly string[], max: number): string {
  const more = names.length - max
  return `${names.slice(0, max).join(', ')}${more > 0 ? ` and ${more} more` : ''}`
}

/** What there is, behind a message that something is not there. @param names in one line; empty: there is nothing */
export function thereAre(names: string): string {
  return names === '' ? '(there are none)' : `(there are: ${names})`
}

/** What is not seen, or makes a terminal show the rest in another order or place: controls, line ends, bidi, zero width, half a pair. */
const UNSEEN = /[\p{Cc}\p{Zl}\p{Zp}\p{Cf}\p{Cs}\p{Default_Ignorable_Code_Point}]/gu

/**
 * Text that came from outside as one line that can't play tricks on a terminal, nor on who reads it. A line of JSON stays one that says the
 * same: these escapes are JSON's own.
 */
export function printable(text: string): string {
  return text.replace(UNSEEN, (unseen) =>
    unseen
      .split('')
      .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
      .join(''),
  )
}
