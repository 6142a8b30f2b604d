import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { plain, section, tags } from './man'
import { isNamedBy, Messages } from './messages'
import { put, scratch } from './system/scratch'

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
      ...['begin-again', 'commands', 'core-dumps', 'files', 'time', 'toml'].map((name) => `system/${name}.ts`),
    ],
    but: ['daemon/firewall/sockets.ts', 'daemon/ledger/rebase.ts'],
    pages: {
      'knockdaemon.8': { log: 'LOG', fault: 'DIAGNOSTICS' },
      'knockturn.toml.5': { fault: 'DIAGNOSTICS' },
    },
    passed: [
      'daemon/ahead.ts: message',
      'daemon/config.ts: error.message',
      'daemon/doors/ends.ts: why',
      'daemon/exposure/watch.ts: line',
      'daemon/reload.ts: reason(error)',
      'daemon/serve.ts: reason(error)',
      'daemon/server-keys.ts: `{folder}: {reason(error)}`',
      'daemon/taps/file.ts: inOneLine(explain(this.#path, error))',
      'daemon/taps/file.ts: message',
      "system/commands.ts: `{command} {args.slice(0, SHOWN_ARGS).join(' ')}: {line || 'it failed'}`",
      'system/files.ts: path',
      'system/toml.ts: `{path}:{error.line}: {message}`',
      'system/toml.ts: describe(path, text, issue, secrets)',
    ],
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

describe('what a source file says', () => {
  const said = (text: string) => {
    const folder = scratch()
    put(folder, 'a.ts', text)
    const { messages, escapes } = new Messages(folder).of(['a.ts'])
    return [...messages.map(({ kind, text }) => `${kind}: ${text}`), ...escapes]
  }

  it.each([
    ["log.error(\n  { a },\n  'over\\n' +\n    'lines',\n)", ['log: over\nlines']],
    [`const X = "it" as string\nthis.#log.warn(\`\${X} is \${x}\`)`, ['log: it is …']],
    ["log.info({}, is ? 'one' : 'two')", ['log: one', 'log: two']],
    ["const warn = (message: string) => log.warn(message)\nwarn('to a helper')", ['log: to a helper']],
    ["const say = (message: string) => log.warn(message)\nsay('to one that nobody knows')", ['a.ts: message']],
    ["function make() {\n  return ['first', ...rest].join(': ')\n}\nthis.#warn(make())", ['log: first: …']],
    ["const ALL = { a: 'one thing', b: 'another' }\nwarn(ALL[which])", ['log: one thing', 'log: another']],
    ["for (const line of [...(is ? ['a line'] : [])]) log.warn(line)", ['log: a line']],
    ["this.#news ||= 'late news'\nlog.warn(this.#news)", ['log: late news']],
    [`throw new UsageFault(\`\${path}: is wrong\`, { hint })`, ['fault: …: is wrong']],
    ["class OwnFault extends Fault {\n  constructor() {\n    super('its own')\n  }\n}", ['fault: its own']],
    ['throw new Fault(error.message)', ['a.ts: error.message']],
  ])('is read from %j', (text, messages) => {
    expect(said(text)).toEqual(messages)
  })

  it.each([
    ['one line', 'one line', true],
    ['another line', 'one line', false],
    ['one line', 'one line: and what to do', true],
    ['one line: and what', 'one line: and what to do', false],
    ['one line of ... s', 'one line of … s', true],
    ['tcpdump is gone', '… is gone: …', true],
    ['is gone', '…: is gone', true],
    ['gone', '…: is gone', false],
  ])('is named by %j: %j (%j)', (tag, text, is) => {
    expect(isNamedBy(tag, text)).toBe(is)
  })
})

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
