import { parse, TomlError, type TomlTable } from 'smol-toml'
import * as v from 'valibot'
import { Fault, type Read } from './fault'

/** Faults of one file that are told: enough to see what is wrong with it. */
const MAX_FAULTS = 20

/**
 * Reads a TOML text by a schema.
 * @param secrets keys whose values never appear in a message
 * @returns what the schema makes of it, or every fault of the text, each with file and line
 */
export function readToml<S extends v.GenericSchema>(
  path: string,
  text: string,
  schema: S,
  secrets: readonly string[] = [],
): Read<v.InferOutput<S>> {
  let table: TomlTable
  try {
    table = parse(text)
  } catch (error) {
    // Only the first line of its message: the rest quotes the file, which may hold a secret.
    if (!(error instanceof TomlError)) throw error
    const [message] = error.message.split('\n')
    const hint = message.endsWith(': invalid value') ? 'put text in quotes, as in server = "gate.example"' : undefined
    return { faults: [new Fault(`${path}:${error.line}: ${message}`, { hint })] }
  }
  const result = v.safeParse(schema, table)
  if (result.success) return { value: result.output }
  // What is unknown comes first: an entry that seems to be missing may be there, misspelt.
  const issues = [...result.issues].sort((one, other) => Number(isUnknown(other)) - Number(isUnknown(one)))
  return { faults: issues.slice(0, MAX_FAULTS).map((issue) => new Fault(describe(path, text, issue, secrets))) }
}

/** Where the fault of a check of several entries lies: the keys that lead there, from a table on. */
export function leadingTo(table: object, ...keys: [string, ...string[]]): [v.IssuePathItem, ...v.IssuePathItem[]] {
  const [key, ...more] = keys
  const value = (table as Record<string, unknown>)[key]
  const item = { type: 'object', origin: 'value', input: table as Record<string, unknown>, key, value } as const
  const [next, ...rest] = more
  return next === undefined ? [item] : [item, ...leadingTo(value as object, next, ...rest)]
}

function describe(path: string, text: string, issue: v.BaseIssue<unknown>, secrets: readonly string[]): string {
  const keys = issue.path?.map(({ key }) => String(key)).filter((key) => !/^\d+$/.test(key)) ?? []
  const name = keys.join('.')
  // A key of the file's own may be of any length, and have line ends in it.
  const shown = show(name)
  const where = `${path}:${lineOf(text, keys)}`
  if (isUnknown(issue)) return `${where}: unknown entry ${shown}`
  if (issue.input === undefined) return `${where}: ${shown} is missing`
  // A rule between entries, each of which is right by itself.
  if (RULE.test(issue.message)) return `${where}: ${shown} ${issue.message}`
  // Our own wording where a schema has one, and not the library's.
  const expected = issue.message.startsWith('Invalid') ? (EXPECTED[issue.expected ?? ''] ?? issue.expected) : issue.message
  const got = secrets.includes(name) ? 'something else (not shown)' : show(issue.input)
  return `${where}: ${shown} expected ${expected}, got ${got}`
}

/** Whether an issue is about an entry that a table may not have. */
const isUnknown = ({ kind, type, expected }: v.BaseIssue<unknown>): boolean =>
  kind === 'schema' && type === 'strict_object' && expected === 'never'

/** How a message begins that is a whole predicate, and does not follow "expected". */
const RULE = /^(requires|must) /

const EXPECTED: Record<string, string> = {
  string: 'a string',
  number: 'a number',
  boolean: 'true or false',
  Array: 'an array',
  Date: 'an offset date-time such as 2026-01-31T12:00:00Z',
  Object: 'a table',
}

function show(value: unknown): string {
  const text = value instanceof Date ? value.toISOString() : written(value)
  return text.length > 60 ? `${text.slice(0, 60)}…` : text
}

/** Dotted keys make tables as deep as a file is long, and what is nested too deep can't be written down. */
function written(value: unknown): string {
  try {
    return JSON.stringify(value)
  } catch {
    return '…'
  }
}

/** The line on which a key stands, or its table's, or 1: enough to find it, without a second parser. */
function lineOf(text: string, keys: readonly string[]): number {
  for (let depth = keys.length; depth > 0; depth--) {
    const line = lineAt(text, keys.slice(0, depth))
    if (line !== null) return line
  }
  return 1
}

/**
 * The line on which a key or a table stands, by the keys that lead there.
 * @returns null where it is not written, or in another way than line by line (an inline table, a dotted key)
 */
export function lineAt(text: string, keys: readonly string[]): number | null {
  const lines = text.split('\n')
  let table = ''
  for (let i = 0; i < lines.length; i++) {
    const header = /^\s*\[\[?([^\]]*)\]/.exec(lines[i])
    if (header) table = header[1].trim()
    const key = header ? undefined : /^\s*("?)([\w-]+)\1\s*=/.exec(lines[i])?.[2]
    if ([table, key].filter(Boolean).join('.') === keys.join('.')) return i + 1
  }
  return null
}
