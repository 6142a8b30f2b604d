import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { plain, section, tags } from './man'
import { isNamedBy, Messages } from './messages'

/* Every line of the log, every warning and every error of our programs is in a manual page, and no page has one that there is not. */

const ROOT = join(import.meta.dirname, '..')
const readPage = (name: string) => readFileSync(join(ROOT, 'docs/man', name), 'utf8')
const MESSAGES = new Messages(join(ROOT, 'src'))

interface Documented {
  readonly program: string
  /** Where its messages come from: files and folders of src. */
  readonly from: readonly string[]
  /** Those of them that another program alone prints. */
  readonly but?: readonly string[]
  /** Sections in which a list has lines of the log, or errors; more than one page may have them. */
  readonly pages: Readonly<Record<string, { readonly log?: string; readonly fault: string }>>
  /** Calls that pass on a message which is another's, or is chosen by what is not seen where it is logged. */
  readonly passed: readonly string[]
  /** Functions, by file and name, that give the lines of the log which are chosen so; and lines that only a type has. */
  readonly chosen: readonly (readonly [file: string, name: string] | string)[]
  /** Whether the pages are complete. */
  readonly isOn: boolean
}

const PROGRAMS: readonly Documented[] = [
  {
    program: 'knockdaemon',
    from: [
      'daemon',
      'gate',
      'cli/knockdaemon.ts',
      ...['commands', 'core-dumps', 'files', 'time', 'toml'].map((name) => `system/${name}.ts`),
    ],
    but: ['daemon/firewall/sockets.ts', 'daemon/ledger/rebase.ts'],
    pages: {
      'knockdaemon.8': { log: 'LOG', fault: 'DIAGNOSTICS' },
      'knockturn.toml.5': { fault: 'DIAGNOSTICS' },
    },
    passed: [],
    chosen: [['daemon/ahead.ts', 'ownAhead'], ['daemon/ahead.ts', 'baseAhead'], 'closed', 'expired'],
    isOn: true,
  },
  {
    program: 'knockturn',
    from: ['admin', 'cli/admin', 'keys', 'daemon/firewall/sockets.ts', 'daemon/ledger/rebase.ts'],
    pages: { 'knockturn.1': { fault: 'DIAGNOSTICS' } },
    passed: [],
    chosen: [],
    isOn: false,
  },
  {
    program: 'knockclient',
    from: ['client', 'cli/client'],
    pages: { 'knockclient.1': { fault: 'DIAGNOSTICS' } },
    passed: [],
    chosen: [],
    isOn: false,
  },
]

function filesIn(name: string): string[] {
  const path = join(ROOT, 'src', name)
  if (!statSync(path).isDirectory()) return [name]
  const files = readdirSync(path, { recursive: true, encoding: 'utf8' })
  return files.filter((file) => file.endsWith('.ts') && !file.endsWith('.d.ts')).map((file) => join(name, file))
}

describe.each(PROGRAMS.filter(({ isOn }) => isOn))('the manual of $program', ({ from, but = [], pages, passed, chosen }) => {
  const files = from.flatMap(filesIn).filter((file) => !but.includes(file))
  const { messages, escapes } = MESSAGES.of(files)
  const texts = (kind: 'log' | 'fault') => [...new Set(messages.filter((one) => one.kind === kind).map(({ text }) => text))]
  const listed = (kind: 'log' | 'fault') =>
    Object.entries(pages).flatMap(([page, sections]) => {
      const heading = sections[kind]
      return heading === undefined ? [] : tags(section(readPage(page), heading)).map((tag) => plain(tag))
    })

  const others = chosen.flatMap((one) => (typeof one === 'string' ? [one] : MESSAGES.returned(...one)))

  it('has been compared with every message: none is chosen where it can’t be seen', () => {
    expect([...new Set(escapes)].sort()).toEqual([...passed].sort())
  })

  it.each(['log', 'fault'] as const)('has every message of the kind "%s"', (kind) => {
    // What a daemon can start without is an error that is logged.
    const named = kind === 'log' ? listed('log') : [...listed('log'), ...listed('fault')]
    const wanted = [...texts(kind), ...(kind === 'log' ? others : [])]
    expect(wanted.length).toBeGreaterThan(20)
    expect(wanted.filter((text) => !named.some((tag) => isNamedBy(tag, text)))).toEqual([])
  })

  it.each(['log', 'fault'] as const)('has no other message of the kind "%s"', (kind) => {
    const wanted = kind === 'log' ? [...texts('log'), ...texts('fault'), ...others] : texts('fault')
    expect(listed(kind).filter((tag) => !wanted.some((text) => isNamedBy(tag, text)))).toEqual([])
  })
})
