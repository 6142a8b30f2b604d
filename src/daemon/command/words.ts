/* The words of a user's program: what a config may say of them, and what stands in them for a lease. */

/** What stands for a door and its lease, in braces, in an argument. */
const PLACEHOLDERS = ['address', 'protocol', 'port', 'seconds', 'lease', 'key'] as const
export type Placeholder = (typeof PLACEHOLDERS)[number]

/** Any other brace is meant as it is: nft's sets have some. */
const PLACEHOLDER = /\{([A-Za-z_]+)\}/g

/**
 * What may stand for a placeholder: it is never an option, and no word that means anything to a shell, not even to that of another machine, which
 * is where ssh takes its arguments.
 */
const VALUE = /^[A-Za-z0-9:][A-Za-z0-9:./_-]*$/

/** A program is found by its path, or in PATH by a name that is no option. */
const PROGRAM = /^(?:\/[^{}]*[^/{}]|[A-Za-z0-9_][\w.+-]*)$/

/** What a user's program is called with: the program, and its arguments. */
export type Words = readonly [program: string, ...args: string[]]

/** Whether a text says where a program is. */
export const isProgram = (word: string): boolean => PROGRAM.test(word)

/** Whether a placeholder stands in one of the words. */
export const uses = (words: readonly string[], placeholder: Placeholder): boolean =>
  words.some((word) => word.includes(`{${placeholder}}`))

/** The placeholders of the words that are none of `known`, with their braces. */
export function strangers(words: readonly string[], known: readonly string[] = PLACEHOLDERS): string[] {
  return words.flatMap((word) => [...word.matchAll(PLACEHOLDER)].flatMap(([text, name]) => (known.includes(name) ? [] : text)))
}

/**
 * Puts values in the place of placeholders, each of them once: what a value says is not read again.
 * @throws {Error} where a value could be an option or mean something to a shell
 */
export function fill([program, ...args]: Words, values: Readonly<Record<Placeholder, string>>): Words {
  const checked = (name: Placeholder) => {
    if (!VALUE.test(values[name])) throw new Error(`${name} is no word for a program`)
    return values[name]
  }
  return [program, ...args.map((arg) => arg.replace(PLACEHOLDER, (_, name) => checked(name)))]
}
