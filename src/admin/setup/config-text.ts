import { isDeepStrictEqual } from 'node:util'
import { parse } from 'smol-toml'
import { Fault } from '../../system/fault'
import { findTable } from '../../system/toml-edit'
import type { Answers } from './proposal'

/* The config that a set-up wants: made where there is none, else edited, so that nothing of an administrator's is lost. */

/** What a set-up decides in a config. Undefined: the entry is not to be there. */
type Entries = Readonly<Record<string, string | readonly string[] | undefined>>

/** The text of a new config. */
export function newConfig({ host, backend, guard, public: open }: Answers): string {
  const lines = [
    '# Written by "knockturn setup". See knockturn.toml(5); "knockdaemon --check" looks for faults.',
    `server = ${written(host)}`,
    '',
    '[firewall]',
    `backend = ${written(backend)}`,
    '# What opens by a knock only.',
    `guard = ${written(guard)}`,
    ...(guard === 'all' ? ['# What everyone reaches all the same.', `public = ${written(open)}`] : []),
  ]
  return `${lines.join('\n')}\n`
}

/**
 * Edits a config: entries that are as they should be stay as they stand, others are replaced, and the rest is nobody's business.
 * @param was a text that is a config
 * @param backend undefined: it stays as it is
 * @throws {Fault} where it is in a form that can't be edited line by line
 */
export function editedConfig(
  file: string,
  was: string,
  { guard, public: open, backend }: Pick<Answers, 'guard' | 'public'> & { readonly backend: string | undefined },
): string {
  const entries: Entries = {
    public: guard === 'all' ? open : undefined,
    guard,
    ...(backend === undefined ? {} : { backend }),
  }
  const before = firewallOf(was)
  const changed = Object.entries(entries).filter(([name, value]) => !isDeepStrictEqual(before[name], value))
  // No list is as good as an empty one.
  const needed = changed.filter(([name, value]) => !(name === 'public' && before[name] === undefined && value?.length === 0))
  const text = needed.reduce((text, [name, value]) => withEntry(text, name, value), was)
  const isRight =
    needed.every(([name, value]) => isDeepStrictEqual(firewallOf(text)[name], value)) && keepsRest(was, text, needed)
  if (isRight) return text
  const lines = needed.map(([name, value]) => (value === undefined ? `no ${name}` : `${name} = ${written(value)}`))
  throw new Fault(`${file}: its [firewall] is in a form that is not edited`, {
    hint: `write it as a plain table [firewall] with ${lines.join(', ')}`,
  })
}

/** What a config's text says of the guard, as it stands there. @param text that of a config without a fault */
export function guardOf(text: string): Pick<Answers, 'guard' | 'public'> {
  const { guard, public: open } = firewallOf(text) as { guard?: Answers['guard']; public?: string[] }
  return { guard: guard ?? [], public: open ?? [] }
}

/** Whether all but these entries of [firewall] says the same in both texts. */
function keepsRest(was: string, text: string, entries: readonly (readonly [string, unknown])[]): boolean {
  const rest = (source: string) => {
    try {
      const { firewall: _, ...others } = parse(source)
      const firewall = firewallOf(source)
      for (const [name] of entries) delete firewall[name]
      return { others, firewall }
    } catch {
      return null
    }
  }
  const after = rest(text)
  return after !== null && isDeepStrictEqual(rest(was), after)
}

/** What a text has in [firewall]; nothing where it is no TOML. */
function firewallOf(text: string): Record<string, unknown> {
  try {
    const { firewall } = parse(text)
    return typeof firewall === 'object' ? { ...(firewall as Record<string, unknown>) } : {}
  } catch {
    return {}
  }
}

/** Sets an entry of [firewall], or takes it away. */
function withEntry(text: string, name: string, value: string | readonly string[] | undefined): string {
  const lines = text.split('\n')
  const table = findTable(lines, (line) => /^\s*\[\s*firewall\s*\]/.test(line))
  const entry = value === undefined ? [] : [`${name} = ${written(value)}`]
  if (!table) return `${text.trimEnd()}\n\n[firewall]\n${entry.join('\n')}\n`
  const at = lines.findIndex((line, i) => i > table.from && i < table.to && new RegExp(`^\\s*${name}\\s*=`).test(line))
  if (at < 0) lines.splice(table.from + 1, 0, ...entry)
  else {
    const count = lengthOf(lines, at, table.to)
    const old = lines.slice(at, at + count)
    lines.splice(at, count, ...replaced(old, name, entry))
  }
  return lines.join('\n')
}

/** How many lines an entry has, which may be a list over several. */
function lengthOf(lines: readonly string[], at: number, to: number): number {
  for (let count = 1; at + count <= to; count++) if (isToml(lines.slice(at, at + count).join('\n'))) return count
  return 1
}

/** A new entry in the place of the old one: a comment behind it stays, and so do several lines, as comments. */
function replaced(old: readonly string[], name: string, entry: readonly string[]): string[] {
  if (old.length > 1) return [...old.map((line) => `# ${line}`), ...entry]
  const [line = ''] = old
  const starts = [...line.matchAll(/#/g)].map(({ index }) => index)
  // The first that is no part of the value.
  const start = starts.find((index) => isToml(line.slice(0, index)) && parse(line.slice(0, index))[name] !== undefined)
  const comment = start === undefined ? '' : line.slice(start)
  if (comment === '') return [...entry]
  return entry.length > 0 ? entry.map((one) => `${one} ${comment}`) : [comment]
}

function isToml(text: string): boolean {
  try {
    parse(text)
    return true
  } catch {
    return false
  }
}

/** A value as TOML has it: of these, as JSON has it, with a space behind each comma. */
const written = (value: string | readonly string[]): string =>
  typeof value === 'string' ? JSON.stringify(value) : `[${value.map((one) => JSON.stringify(one)).join(', ')}]`
