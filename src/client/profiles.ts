import { mkdir, realpath, rename, unlink, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, isAbsolute, join, resolve } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { stringify } from 'smol-toml'
import * as v from 'valibot'
import { ourConfigFolder, ourStateFolder } from '../keys/client-folder'
import { clientKeys, keyPath } from '../keys/keyring'
import { KEY_ID, KEY_ID_RULE } from '../protocol/key'
import { errorCode, Fault, quoted, reason, UsageFault } from '../system/fault'
import { changeText, readOurs } from '../system/files'
import { readToml } from '../system/toml'
import { findTable } from '../system/toml-edit'

/* The client's config: named sets of options, so that one word knocks. It holds no secret. */

/** Longest config in bytes: some hundreds of profiles. It says where to knock and whom to ask: others may read it, and not write. */
const MAX_CONFIG = 64 * 1024
/** Longest text of one entry: a path. */
const MAX_TEXT = 4096
/** The profile that the last knock is kept as, in a file of its own. */
const LAST = 'last'

/** An option that a profile may have an entry for. */
export interface Entry {
  /** How the profile calls it. */
  readonly name: string
  /** A flag is true; a value is a text, a number or a list of them; an optional value may also be true. */
  readonly kind: 'flag' | 'value' | 'optional'
  /** Reads the entry's text as the command line's. @throws {Error} whose message says what was expected */
  readonly read: (text: string) => unknown
}

/** Options by the names of their entries, each as it would be typed; true: without a value. */
export type Given = Readonly<Record<string, string | true>>

/** The client's config. */
export function clientConfig(): string {
  return join(ourConfigFolder(), 'config.toml')
}

/** Where the last knock is kept. */
function lastKnock(): string {
  return join(ourStateFolder(), 'last.toml')
}

/**
 * Reads the profiles of a config. A file that is not there has none.
 * @throws {Fault} the first fault, with file and line
 */
export async function readProfiles(path: string, entries: readonly Entry[]): Promise<ReadonlyMap<string, Given>> {
  const text = await readOurs(path, MAX_CONFIG)
  return text === null ? new Map() : parseProfiles(path, text, entries)
}

function parseProfiles(path: string, text: string, entries: readonly Entry[]): ReadonlyMap<string, Given> {
  const read = readToml(path, text, schemaOf(entries))
  if (read.faults) throw read.faults[0]
  return new Map(Object.entries(read.value.profile).map(([name, given]) => [name, onlyGiven(given as Loose)]))
}

type Loose = Readonly<Record<string, string | boolean | undefined>>

/** What is false or missing is not given. */
function onlyGiven(loose: Loose): Given {
  return Object.fromEntries(Object.entries(loose).filter((entry): entry is [string, string | true] => Boolean(entry[1])))
}

function schemaOf(entries: readonly Entry[]) {
  const fields = {
    // The names of options whose entries have others.
    server: v.optional(v.never('must be called "host"')),
    port: v.optional(v.never('must be called "services"')),
    ...Object.fromEntries(entries.map((entry) => [entry.name, v.optional(entrySchema(entry))])),
  }
  const name = v.pipe(v.string(), v.regex(KEY_ID, KEY_ID_RULE))
  return v.strictObject({ profile: v.optional(v.record(name, v.strictObject(fields)), {}) })
}

function entrySchema({ kind, read }: Entry) {
  const flag = v.boolean('true or false')
  if (kind === 'flag') return flag
  const plain = v.union([v.string(), v.pipe(v.number(), v.safeInteger())])
  const value = v.pipe(
    v.union([plain, v.array(plain)], 'a text, a whole number or a list of them'),
    v.transform((value) => [value].flat().join(',')),
    v.maxLength(MAX_TEXT, `at most ${MAX_TEXT} characters`),
    v.rawCheck(({ dataset, addIssue }) => {
      if (!dataset.typed || dataset.issues) return
      try {
        read(dataset.value)
      } catch (error) {
        // The command line's words, without its name for the option.
        addIssue({ message: /\bexpected (.*?)(?:, got .*)?$/.exec(reason(error))?.[1] ?? reason(error) })
      }
    }),
  )
  return kind === 'value' ? value : v.union([flag, value], (issue) => issue.issues?.at(-1)?.message ?? 'true or a value')
}

/**
 * The file of a profile's key: an id is the keyring's, and a path starts from the config's folder or, with ~/, from the home folder. Never
 * from the folder where one happens to be.
 */
export function keyOfProfile(path: string, key: string): string {
  if (key.startsWith('~/')) return join(homedir(), key.slice(2))
  if (isAbsolute(key)) return key
  return KEY_ID.test(key) && !key.endsWith('.key') ? keyPath(clientKeys(), key) : resolve(dirname(path), key)
}

/** A profile as a table of the config. */
function formatProfile(name: string, given: Given): string {
  const value = (entry: string, text: string | true) =>
    entry === 'services' && text !== true
      ? text.split(',')
      : text !== true && /^(0|-?[1-9]\d{0,8})$/.test(text)
        ? Number(text)
        : text
  const table = Object.fromEntries(Object.entries(given).map(([entry, text]) => [entry, value(entry, text)]))
  // A name with a dot in it has to be quoted.
  return `[profile.${/^[\w-]+$/.test(name) ? name : JSON.stringify(name)}]\n${stringify(table).trimEnd()}\n`
}

/**
 * Adds a profile to a config, or with `force` puts it in the place of the one of that name; all else in the file stays as it is.
 * @throws {Fault} where the name is taken, or the file can't be changed without harm
 */
export async function saveProfile(
  path: string,
  name: string,
  given: Given,
  entries: readonly Entry[],
  force: boolean,
): Promise<void> {
  if (!KEY_ID.test(name)) throw new UsageFault(`<name> expected ${KEY_ID_RULE}, got ${quoted(name)}`)
  await mkdir(dirname(path), { recursive: true }).catch((error) => {
    throw new Fault(`${path}: cannot be written: ${reason(error)}`)
  })
  await changeProfiles(path, entries, (before, old) => {
    if (old.has(name) && !force)
      throw new Fault(`${path}: has a profile "${name}" already`, { hint: 'choose another name, or replace it with --force' })
    const table = formatProfile(name, given)
    return {
      text: old.has(name) ? replaceTable(before, name, table) : append(before, table),
      profiles: new Map([...old, [name, given]]),
      failure: `cannot add the profile "${name}" without changing the rest of the file`,
      hint: `write it by hand: ${table.trimEnd().replaceAll('\n', '; ')}`,
    }
  })
}

/**
 * Takes a profile out of a config; all else in the file stays as it is.
 * @throws {Fault} where it can't be taken out without harm
 */
export async function removeProfile(path: string, name: string, entries: readonly Entry[]): Promise<void> {
  await changeProfiles(path, entries, (before, old) => ({
    text: withoutTable(before, name),
    profiles: new Map([...old].filter(([other]) => other !== name)),
    failure: `cannot remove the profile "${name}" without changing the rest of the file`,
    hint: 'remove it by hand',
  }))
}

/** A config as it is to be, what profiles it has then, and what is wrong and to be done where it has not. */
interface Change {
  readonly text: string | null
  readonly profiles: ReadonlyMap<string, Given>
  readonly failure: string
  readonly hint: string
}

async function changeProfiles(
  path: string,
  entries: readonly Entry[],
  change: (before: string, old: ReadonlyMap<string, Given>) => Change,
): Promise<void> {
  // Where the config is a link, such as into a folder of dotfiles, it stays one.
  await changeText(await realpath(path).catch(() => path), async () => {
    const before = (await readOurs(path, MAX_CONFIG)) ?? ''
    const { text, profiles, failure, hint } = change(before, parseProfiles(path, before, entries))
    // A table may be written in ways that a look at its lines does not understand: then nothing is touched.
    if (text === null || !isDeepStrictEqual(readBack(path, text, entries), profiles))
      throw new Fault(`${path}: ${failure}`, { hint })
    return text
  })
}

function readBack(path: string, text: string, entries: readonly Entry[]): ReadonlyMap<string, Given> | null {
  try {
    return parseProfiles(path, text, entries)
  } catch {
    return null
  }
}

function append(before: string, table: string): string {
  const gap = before === '' ? '' : before.endsWith('\n') ? '\n' : '\n\n'
  return `${before}${gap}${table}`
}

/** Puts a table in the place of that of a profile; null where no line heads that. */
function replaceTable(before: string, name: string, table: string): string | null {
  const around = aroundTable(before, name)
  return around && [...around.above, table.trimEnd(), ...around.below].join('\n')
}

/** Takes out the table of a profile, and the gap in front of it; null where no line heads that. */
function withoutTable(before: string, name: string): string | null {
  const around = aroundTable(before, name)
  if (!around) return null
  const { above, below } = around
  const isGap = above.at(-1)?.trim() === '' && below[0]?.trim() === ''
  return [...(isGap ? above.slice(0, -1) : above), ...below].join('\n')
}

/** The lines in front of a profile's table and behind it. */
function aroundTable(before: string, name: string): { above: string[]; below: string[] } | null {
  const lines = before.split('\n')
  const heads = (line: string) => /^\s*\[\s*profile\s*\.\s*(["']?)([\w.-]+)\1\s*\]/.exec(line)?.[2] === name
  const table = findTable(lines, heads)
  if (!table) return null
  let to = table.to
  // What stands right above the next table is said of that one.
  while (/^\s*(#|$)/.test(lines[to - 1])) to--
  return { above: lines.slice(0, table.from), below: lines.slice(to) }
}

/**
 * The options of the last knock.
 * @throws {Fault} where there has been none, or it can't be read
 */
export async function readLast(entries: readonly Entry[]): Promise<Given> {
  const last = (await readProfiles(lastKnock(), entries)).get(LAST)
  if (!last) throw new Fault(`${lastKnock()}: there is no last knock`, { hint: 'knock once without --last' })
  return last
}

/** Keeps the options of a knock as the last one. @throws {Fault} where it can't be written */
export async function writeLast(given: Given): Promise<void> {
  const path = lastKnock()
  // Another run may do the same at the same time; the last one to rename wins. Not synced: a power cut may take it.
  const next = `${path}.${process.pid}`
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    await writeFile(next, `# The last knock, for knockclient --last.\n${formatProfile(LAST, given)}`, { mode: 0o600, flag: 'wx' })
    await rename(next, path)
  } catch (error) {
    if (errorCode(error) !== 'EEXIST') await unlink(next).catch(() => {})
    throw new Fault(`${path}: cannot be written: ${reason(error)}`)
  }
}
