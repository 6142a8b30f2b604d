/** Something that the user can mend. Its message is the one clear line: what was expected, what came, where, what to do next. */
export class Fault extends Error {}

/** A fault in how a command was called: exit code 2. */
export class UsageFault extends Fault {}

/** What reading something gave: the thing, or every fault that was found in it. */
export type Read<T> =
  | { readonly value: T; readonly faults?: undefined }
  | { readonly value?: undefined; readonly faults: Fault[] }

/** The one line of any error, for a log or a fault's message. */
export function reason(error: unknown): string {
  const [line] = (error instanceof Error ? error.message : String(error)).split('\n')
  // Node names the path behind a comma; whoever asks for the reason has said it in front.
  return line.replace(/, \w+ '.*'$/, '')
}

/** Node's error code, such as ENOENT, or undefined. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined
}

/** Text that came from outside as one line that can't play tricks on a terminal. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, (control) => `\\u${control.charCodeAt(0).toString(16).padStart(4, '0')}`)
}
