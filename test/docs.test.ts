import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parse } from 'smol-toml'
import { describe, expect, it } from 'vitest'
import { man } from '../package.json'
import { openingOf, outcomesOf } from '../src/cli/client/outcome'
import { EXIT } from '../src/cli/voice'
import { findings, OTHER_WAYS, ofTouches } from '../src/client/diagnosis'
import type { Evidence, Finding } from '../src/client/evidence'
import { type Config, readConfig } from '../src/daemon/config'
import type { FleetConfig } from '../src/daemon/fleet/config'
import { formatKeyFile, type KeyFile, parseKeyFile } from '../src/keys/key-file'
import { windowAt } from '../src/protocol/key'
import { compose } from '../src/protocol/knock'
import { holdLedger, stateWith } from './admin/explain/daemon-state'
import { packetsTo, pcap } from './admin/replay/recordings'
import { type Program, run } from './cli/programs'
import { SILENCE } from './client/silence'
import { plain, section, tags } from './man'
import { keyText, put, scratch } from './system/scratch'

const ROOT = join(import.meta.dirname, '..')
const MAN = join(ROOT, 'docs/man')
const read = (...path: string[]) => readFileSync(join(ROOT, ...path), 'utf8')
const readPage = (name: string) => read('docs/man', name)

const PAGES: Record<Program, string> = {
  knockturn: 'knockturn.1',
  knockclient: 'knockclient.1',
  knockdaemon: 'knockdaemon.8',
}
const TOML = 'knockturn.toml.5'

/* ---- what a page says, from its source */

const examples = (page: string) => [...page.matchAll(/^\.EX\n([\s\S]*?)^\.EE$/gm)].map(([, text]) => plain(text))
const optionsIn = (text: string) =>
  [...text.matchAll(/(?<![\w-])-(?:-[a-z][a-z\d-]+|[a-zA-Z\d](?![\w-]))/g)].map(([option]) => option)
const set = (items: Iterable<string>) => [...new Set(items)].sort()

/* ---- what a program says, from its --help */

interface Help {
  readonly program: Program
  /** The program and the names of its commands. */
  readonly name: string
  readonly text: string
  /** Every name of every option. */
  readonly options: string[]
  /** The first name of each: the short one, where it has one. */
  readonly first: string[]
}

/** The help of a program, and that of each of its commands. */
async function helps(program: Program, path: string[] = []): Promise<Help[]> {
  // One program has so many options that its help shows the everyday ones alone.
  const all = program === 'knockclient' && path.length === 0 ? '--help-all' : '--help'
  const { stdout: text } = await run(program, [...path, all])
  const names = [...text.matchAll(/^ {2}(-\S+?)(?:, (--\S+))?(?: |$)/gm)].map(([, ...all]) => all.filter(Boolean))
  const commands = /^Commands:\n((?: .*\n)+)/m.exec(text)?.[1] ?? ''
  const own = [...commands.matchAll(/^ {2}(\w+)/gm)].map(([, name]) => name).filter((name) => name !== 'help')
  const below = await Promise.all(own.map((name) => helps(program, [...path, name])))
  const options = { options: names.flat(), first: names.map(([first]) => first) }
  return [{ program, name: [program, ...path].join(' '), text, ...options }, ...below.flat()]
}

const PROGRAMS = Object.keys(PAGES) as Program[]
const HELPS = (await Promise.all(PROGRAMS.map((program) => helps(program)))).flat()
/** Those that do something by themselves. */
const ACTING = ['knockclient', 'knockdaemon']
const LEAVES = HELPS.filter(({ name }) => ACTING.includes(name) || !HELPS.some((other) => other.name.startsWith(`${name} `)))
/** The options that every command has. */
const COMMON = ['-h', '--help', '-V', '--version']

describe('knockclient --help', async () => {
  const { stdout: short } = await run('knockclient', ['--help'])
  const whole = HELPS.find(({ name }) => name === 'knockclient')?.text ?? ''
  const optionLines = (text: string) =>
    text
      .replace(/\n {10,}/g, ' ')
      .split('\n')
      .filter((line) => /^ {2}-/.test(line))

  it('fits a terminal of 24 lines and 80 columns', () => {
    expect(short.trimEnd().split('\n').length).toBeLessThanOrEqual(24)
    expect(short.split('\n').filter((line) => line.length > 80)).toEqual([])
  })

  it('has each option in one line, in the words and the order of the whole help', () => {
    const words = (text: string) => optionLines(text).map((line) => line.trim().replace(/ {2,}/, ' '))
    const shown = words(short)
    expect(words(whole).filter((line) => shown.includes(line))).toEqual(shown)
  })

  it('names where the rest is', () => {
    expect(optionLines(short).at(-1)).toMatch(/^ {2}--help-all +print the help with all options and exit$/)
  })
})

describe('docs/man', () => {
  it('has the pages that package.json installs', () => {
    expect(set(man)).toEqual(set(readdirSync(MAN).map((name) => `docs/man/${name}`)))
  })

  it.each(readdirSync(MAN))('has in %s nothing that man(1) warns of', (name) => {
    const { status, stderr } = spawnSync('man', ['--warnings', '-E', 'UTF-8', '-l', '-Tutf8', '-Z', join(MAN, name)], {
      encoding: 'utf8',
    })
    expect([status, stderr]).toEqual([0, ''])
  })

  it.each(readdirSync(MAN))('has in %s no option that no program has', (name) => {
    const prose = readPage(name).replace(/^\.EX\n[\s\S]*?^\.EE$/gm, '')
    const known = new Set(HELPS.flatMap(({ options }) => options))
    expect(optionsIn(plain(prose)).filter((option) => !known.has(option))).toEqual([])
  })
})

describe.each(PROGRAMS)('the page of %s', (program) => {
  const page = readPage(PAGES[program])

  it('explains every option, and no other', () => {
    const own = HELPS.filter((help) => help.program === program).flatMap(({ options }) => options)
    expect(set(tags(section(page, 'OPTIONS')).flatMap(optionsIn))).toEqual(set(own))
  })

  it.each(LEAVES.filter((help) => help.program === program))(
    'has in its synopsis every option of $name by its first name, and no other',
    (help) => {
      const blocks = [...page.matchAll(/^\.SY "?(.*?)"?\n([\s\S]*?)^\.YS$/gm)].filter(([, name]) => name === help.name)
      const shown = blocks.flatMap(([, , text]) => optionsIn(plain(text)))
      expect(set([...shown, ...COMMON])).toEqual(set([...help.first, ...COMMON]))
    },
  )

  it('has every exit status', () => {
    const statuses = Object.values(EXIT).filter((status) => status !== EXIT.timeLimit || program === 'knockclient')
    expect(tags(section(page, 'EXIT STATUS'))).toEqual(statuses.map(String))
  })
})

describe.each<Program>(['knockclient', 'knockturn'])('the page of %s', (program) => {
  /** Text as it can be compared, whatever is bold, quoted or wrapped. */
  const bare = (text: string) =>
    plain(text)
      .toLowerCase()
      .replace(/"/g, '')
      .replace(/\s+/g, ' ')
      .replace(/ (?=[,;:.)])/g, '')
  const entries = section(readPage(PAGES[program]), 'OPTIONS')
    .split(/^\.TP\n/m)
    .map((entry) => ({ options: optionsIn(plain(entry.split('\n')[0])), text: bare(entry) }))

  it.each(HELPS.filter((help) => help.program === program))('has of each option the words of the help of $name', ({ text }) => {
    const lines = text.replace(/\n {10,}/g, ' ').matchAll(/^ {2}(-[^\s,]+).*? {2,}(\S.*?)(?: \(default: .*\))?$/gm)
    const different = [...lines].filter(([, option, words]) =>
      entries.every(({ options, text }) => !options.includes(option) || !text.includes(bare(words))),
    )
    expect(different.map(([, option, words]) => [option, words])).toEqual([])
  })
})

describe('the page of knockdaemon', () => {
  const page = readPage(PAGES.knockdaemon)

  it('has every word of a refusal', () => {
    const table = /^## Refusals$([\s\S]*?)^## /m.exec(read('docs/protocol.md'))?.[1] ?? ''
    const words = [...table.matchAll(/^\| ([a-z, -]+) \| (?!when)/gm)].flatMap(([, words]) => words.split(', '))
    expect(set(tags(section(page, 'REFUSALS')))).toEqual(set(words))
  })
})

describe('docs/taps.md', () => {
  it('has CrowdSec pass over the lines that begin as those of our log rules', async () => {
    const { value } = await readConfig(put(scratch(), 'knockturn.toml', 'server = "gate.example"\n'))
    const [, prefix] = /^ {8}- "evt\.Line\.Raw contains '(.*)'"$/m.exec(read('docs/taps.md')) ?? []
    expect(prefix).toBe(value?.taps.prefix)
  })
})

describe('the page of the config', () => {
  const page = readPage(TOML)
  const [, defaults, , key] = examples(section(page, 'EXAMPLES'))
  const configs = examples(section(page, 'EXAMPLES')).slice(0, -1)
  const parsed = async (text: string) => (await readConfig(put(scratch(), 'knockturn.toml', text))).value

  /** The entries that a section explains, with their tables. */
  const entries = (heading: string) =>
    section(page, heading)
      .split(/^(?=\.SS )/m)
      .flatMap((part) => {
        const table = /^\.SS \[(.*)\]/.exec(part)?.[1]
        return tags(part).map((tag) => [table, tag.split(' ')[0]].filter(Boolean).join('.'))
      })
  /** The entries of an object, likewise, as TOML spells them. */
  const entriesOf = (value: object, table = ''): string[] =>
    Object.entries(value).flatMap(([name, entry]) => {
      const path = table + name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
      return Object.prototype.toString.call(entry) === '[object Object]' ? entriesOf(entry, `${path}.`) : [path]
    })

  it('explains every entry of the config, and no other', async () => {
    // A program's table has its entries where there is one.
    const program = '[firewall.command]\nopen = ["door", "{address}"]\nclose = ["door", "{address}"]'
    const shared = '[ledger]\netcd = ["https://10.0.0.1:2379"]'
    const { firewall, ledger, ...rest } = (await parsed(`server = ""\n${program}\n${shared}`)) as Config
    // What six entries say is one guard.
    const guard = { guard: 0, public: 0, guardExcept: 0, guardNetworks: 0, failOpenTo: 0, failOpenAfter: 0 }
    // What a fleet has in groups stands beside the path.
    const { fleet, ...file } = ledger
    const { endpoints: etcd, tls, ...others } = fleet as FleetConfig
    const all = { ...rest, firewall: { ...firewall, ...guard }, ledger: { ...file, ...others, ...tls, etcd } }
    expect(set(entries('THE CONFIG'))).toEqual(set(entriesOf(all)))
  })

  it('explains every entry of a key file, and no other', () => {
    const now = '2026-11-22T12:00:00Z'
    const grant = 'services = ["22/tcp"]\n[passcode]\npin = "0417"'
    const more = `host = "gate"\nexpires = ${now}\nrevoked = ${now}`
    const both = [
      { more, grant },
      { more: 'services = ["22/tcp"]\nmax = "1h"', grant: '' },
    ].map((file) => {
      const { value, faults } = parseKeyFile('', keyText(file))
      expect(faults).toBeUndefined()
      return entriesOf(value ? parse(formatKeyFile(value)) : {})
    })
    expect(set(entries('KEY FILES'))).toEqual(set(both.flat()))
  })

  it.each(configs)('has an example without a fault: %s', async (text) => {
    expect(await parsed(text)).toMatchObject({ server: 'gate.example' })
  })

  it.each([
    ['THE CONFIG', defaults],
    ['KEY FILES', key],
  ])('writes out every entry of %s', (heading, example) => {
    const whole = example.replace(/^# (?=\w+ = )/gm, '')
    expect(set(entriesOf(parse(whole)))).toEqual(set(entries(heading)))
  })

  it('writes out the defaults of a config', async () => {
    expect(await parsed(defaults)).toEqual(await parsed('server = "gate.example"'))
  })

  it('writes out the defaults of a key file', () => {
    const needed = key
      .split('\n')
      .filter((line) => /^(id|secret|server|created|host|services|\[grant\]|\[passcode\]|pin) ?/.test(line))
    expect(parseKeyFile('', key)).toEqual({ value: expect.anything() })
    expect(parseKeyFile('', key)).toEqual(parseKeyFile('', needed.join('\n')))
  })
})

/* ---- examples */

/** The calls of our programs in an example. */
const calls = (text: string) =>
  text
    .replace(/\\\n/g, ' ')
    .replace(/^setpriv .* (?=knockdaemon)/gm, '')
    .split(/\n|&&/)
    .map((call) => call.trim().split(/\s+/))
    .filter(([name]) => PROGRAMS.includes(name as Program))

/** A capture of a knock that is sent now. @param text of its key's file */
function recordedKnock(text: string): Uint8Array {
  const key = (parseKeyFile('', text).value as KeyFile).key
  const request = { action: 'open', protocol: 'tcp', once: false, salt: 0, port: 22, seconds: 60, address: '0.0.0.0' } as const
  return pcap(packetsTo(compose(key, windowAt(Date.now() / 1000, key.period), request), Date.now()))
}

/** Runs an example, or as much of it as changes nothing, where all is as the example takes it to be. */
function attempt([program, ...args]: string[]) {
  const folder = scratch()
  const [command, action] = args
  const make = (path: string, text: string) => {
    mkdirSync(join(folder, path, '..'), { recursive: true, mode: 0o700 })
    put(folder, path, text)
  }
  const text = keyText({ more: 'host = "gate.example"\n' })
  if (command !== 'add') make('.config/knockturn/keys/alice.key', keyText({ more: 'host = "gate.example"\n', grant: '' }))
  if (action !== 'new') make('keys/alice.key', text)
  if (action !== 'export') make('alice.key', text)
  if (action === 'rm') make('.config/knockturn/config.toml', '[profile.gate]\nservices = 22\n')
  if (action !== 'new') make('ledger', 'knockturn-ledger 1 0000000000000036\n')
  make('daemon.log', '')
  if (command === 'explain') {
    make('state.json', JSON.stringify(stateWith(text, join(folder, 'ledger'))))
    holdLedger(join(folder, 'ledger'))
  }
  if (command === 'replay') put(folder, 'knocks.pcap', recordedKnock(text))
  make('knockturn.toml', 'server = "gate.example"\nkeys = "keys"\n[ledger]\npath = "ledger"\n')
  // Where no daemon has ever been, and nothing that could be open.
  const alone =
    '[firewall]\nbackend = "command"\n[firewall.command]\nopen = ["true", "{address}"]\nclose = ["true", "{address}"]\n'
  make('alone/knockturn.toml', `server = "gate.example"\n${alone}[ledger]\npath = "ledger/ledger"\n`)
  make('guarded.toml', 'server = "gate.example"\nkeys = "keys"\n[firewall]\nguard = ["22/tcp"]\n')
  const more = {
    key: ['--keys', 'keys', ...(action === 'new' ? ['--config', 'knockturn.toml'] : [])],
    page: ['--address', '198.51.100.1', '--keys', 'keys'],
    ledger: ['--config', 'knockturn.toml'],
    fleet: ['--config', 'knockturn.toml'],
    log: ['--file', 'daemon.log'],
    explain: ['--config', 'knockturn.toml'],
    replay: ['--config', 'knockturn.toml'],
    guard: ['--config', 'guarded.toml', ...(action === 'save' ? ['--print'] : [])],
    ...Object.fromEntries(['status', 'lease', 'lock'].map((name) => [name, ['--config', 'alone/knockturn.toml']])),
    firewall: { install: ['--config', 'knockturn.toml', '--print'], remove: ['--print'] }[action ?? ''] ?? [],
  }
  const own = {
    knockturn: more[command as keyof typeof more] ?? [],
    knockclient: ['--dry-run'],
    knockdaemon: ['--config', 'knockturn.toml', '--check'],
  }
  // It would send something to a host of its own, and ask another for the time.
  if (program === 'knockclient' && command === 'doctor')
    return run('knockclient', ['doctor', '-r', '127.0.0.1'], { cwd: folder, env: { HOME: folder } })
  // These change nothing but what is theirs, and have no such options.
  if (command === 'add') return run('knockclient', [...args, '--no-knock'], { cwd: folder, env: { HOME: folder } })
  if (['profile', 'completion'].includes(command)) return run(program as Program, args, { cwd: folder, env: { HOME: folder } })
  const input = args.includes('--passphrase') || command === 'page' ? 'correct horse battery staple\n' : ''
  // Behind it, an option of `knockclient exec` would be one of its command.
  const at = ['connect', 'exec'].includes(command) ? 1 : args.length
  const given = args.toSpliced(at, 0, ...own[program as Program])
  return run(program as Program, given, { cwd: folder, env: { HOME: folder }, input })
}
/** Without privileges, these may not even look. */
const LOOKS_AT_FIREWALL = /^knockturn (setup|doctor|firewall (show|remove)|guard try|listen)/
/** What these say where no daemon has ever been. */
const FINDS_NOTHING = /^knockturn (status|lease close|lock remove|fleet)/
const NOTHING =
  /^knockturn: error: (no daemon is running|no lease that is in force fits|\S+ is not locked out|\S+: no etcd is set)/

describe('an example', () => {
  it.each(HELPS)('ends the help of $name', ({ name, text }) => {
    expect(text).toMatch(new RegExp(`\n\nExample:\n  ${name}.*\n$`))
  })

  const inHelps = HELPS.flatMap(({ name, text }) =>
    calls(text.split('Example:')[1]).map((call) => [`the help of ${name}`, call] as const),
  )
  const inPages = Object.values(PAGES).flatMap((name) =>
    examples(readPage(name)).flatMap((text) => calls(text).map((call) => [name, call] as const)),
  )
  it.each([...inHelps, ...inPages])('in %s works: %j', async (_, call) => {
    const { code, stderr } = await attempt(call)
    if (FINDS_NOTHING.test(call.join(' '))) return expect([code, stderr]).toEqual([1, expect.stringMatching(NOTHING)])
    expect([code, stderr]).toEqual(
      LOOKS_AT_FIREWALL.test(call.join(' '))
        ? [1, expect.stringMatching(/^knockturn: error: (iptables|nft|only root|tcpdump) /)]
        : [0, expect.any(String)],
    )
  })
})

/* ---- what a knock that is printed is worth */

it('knockclient.1 and --help warn that what --dry-run prints is a knock', () => {
  expect(readPage('knockclient.1')).toContain('What is printed is a knock that opens now')
  const printing = HELPS.filter(({ program, text }) => program === 'knockclient' && text.includes('--dry-run'))
  expect(printing.map(({ text }) => text.replace(/\s+/g, ' ').includes('which anyone who sees them can send now'))).toEqual([
    true,
    true,
    true,
  ])
})

/* ---- what the client says of a network */

describe('docs/cafe.md', () => {
  const [, networks = ''] = read('docs/cafe.md').split('<a id="networks"></a>')
  const rows = networks
    .split('\n## ')[0]
    .split('\n')
    .filter((line) => line.startsWith('| '))
  /** What is said, as the first column has it: words, and no option alone. */
  const said = rows.flatMap((row) =>
    row
      .split(' | ')[0]
      .split('`')
      .filter((text, at) => at % 2 === 1 && text.includes(' ')),
  )

  const silent: Evidence = { ...SILENCE, knocked: ['silence'], seen: new Set() }
  const linesOf = ({ seen, unknown, hint }: Finding) => [seen, unknown, hint].filter(Boolean).join('\n')
  const clock = (offset: number, scheme = 'https') => ({ clock: { source: `${scheme}://time.example/`, offset } })
  const found: Partial<Evidence>[] = [
    ...[{}, { datagram: 443, knocked: [] }, { services: new Map([[22, 'open']]) }, { seen: new Set(['ENETUNREACH']) }],
    ...[{ knocked: ['open'] }, { knocked: ['refused'] }, { named: '203.0.113.7' }, { mayTry4: true }],
    ...[95_000, -95_000, 950_000, 400].map((offset) => clock(offset)),
    ...[95_000, 400].map((offset) => clock(offset, 'ntp')),
  ]
  it.each([
    ...found.flatMap((evidence) => findings({ ...silent, ...evidence })).map(linesOf),
    ...ofTouches(['open'], OTHER_WAYS).map((finding) => `warning: ${linesOf(finding)}`),
    ...(['silence', 'refused', 'answered'] as const).map((outcome) => outcomesOf(new Map([[22, outcome]]), 30)),
    ...(['before', 'unclear'] as const).map((opening) => openingOf(22, opening)),
  ])('says what to type where the client says "%s"', (line) => {
    expect(said.filter((text) => line.includes(text))).not.toEqual([])
  })

  it('says each thing once', () => {
    expect(said).toEqual([...new Set(said)])
  })
})
