import { mkdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import fc from 'fast-check'
import { stringify } from 'smol-toml'
import { describe, expect, it } from 'vitest'
import { readConfig, type TapsConfig } from '../../src/daemon/config'
import { merged } from '../../src/daemon/guard'
import { type Cidr, formatAddress, formatCidr, parseCidr } from '../../src/protocol/address'
import { inOneLine } from '../../src/system/fault'
import { put, scratch } from '../system/scratch'
import { formatGuarded } from './guarded'

const ALL = [
  'server = "gate.example"',
  'keys = "/keys"',
  'skew = 2',
  'never_lock = ["192.0.2.1", "2001:db8::/32"]',
  '[taps]',
  'source = "stdin"',
  'target = "log"',
  'group = 7',
  'prefix = "DOOR: "',
  '[datagram]',
  'ports = []',
  '[firewall]',
  'backend = "dry-run"',
  'guard = ["22/tcp"]',
  'leases_per_key = 7',
  '[ledger]',
  'path = "/ledger"',
  '[passcode]',
  'base = 700',
  'pin_digits = 3',
]
/** What a config without a guard says of it. */
const NOTHING_GUARDED = { ports: [], interfaces: [], blocks: [], networks: null }
const lineOf = (name: string) => ALL.findIndex((line) => line.startsWith(name)) + 1
const replaced = (name: string, line: string) => ALL.map((old) => (old.startsWith(name) ? line : old)).join('\n')

async function read(text: string, folder = scratch()) {
  const { value, faults } = await readConfig(put(folder, 'knockturn.toml', text, 0o644))
  if (!value) throw faults[0]
  return value
}
/** The messages of the faults, without the file in front: `LINE: …`. */
async function faultsOf(text: string) {
  const path = put(scratch(), 'knockturn.toml', text)
  const { faults } = await readConfig(path)
  return (faults ?? []).map((fault) => {
    expect(fault.message.startsWith(`${path}:`)).toBe(true)
    return inOneLine(fault).slice(path.length + 1)
  })
}

describe('the config', () => {
  it('has the documented defaults', async () => {
    expect(await read('server = "gate.example"')).toEqual({
      server: 'gate.example',
      keys: '/etc/knockturn/keys',
      skew: 1,
      neverLock: [],
      taps: { source: 'nflog', file: null, target: 'nflog', group: 5, prefix: 'KNOCK: ' },
      datagram: { ports: [] },
      firewall: { backend: 'iptables', guard: NOTHING_GUARDED, leasesPerKey: 256, command: null },
      ledger: { path: '/var/lib/knockturn/ledger', fleet: null },
      passcode: { base: 48000, pinDigits: 4 },
    })
  })

  it('gives all that it says', async () => {
    const { neverLock, ...rest } = await read(ALL.join('\n'))
    expect(neverLock.map(({ bytes, bits }) => `${formatAddress(bytes)}/${bits}`)).toEqual(['192.0.2.1/32', '2001:db8::/32'])
    expect(rest).toEqual({
      server: 'gate.example',
      keys: '/keys',
      skew: 2,
      taps: { source: 'stdin', file: null, target: 'log', group: 7, prefix: 'DOOR: ' },
      datagram: { ports: [] },
      firewall: {
        backend: 'dry-run',
        guard: { ...NOTHING_GUARDED, ports: [{ protocol: 'tcp', ports: [22, 22] }] },
        leasesPerKey: 7,
        command: null,
      },
      ledger: { path: '/ledger', fleet: null },
      passcode: { base: 700, pinDigits: 3 },
    })
  })

  describe('that leaves the backend to the machine', () => {
    const auto = 'server = "x"\n[firewall]\nbackend = "auto"\nguard = ["22/tcp"]\n'
    const backendBeside = async (...names: string[]) => {
      const folder = scratch()
      for (const name of names) put(folder, name, '')
      return (await read(auto, folder)).firewall.backend
    }

    it.each([
      ['nftables', ['guard.nft']],
      ['iptables', ['guard.iptables', 'guard.ip6tables']],
      ['iptables', ['guard.ip6tables']],
      ['nftables', ['guard.nft', 'guard.iptables']],
    ])('has %s where the guard that is saved beside it is %j', async (backend, names) => {
      expect(await backendBeside(...names)).toBe(backend)
    })

    it('has nftables where no guard is saved and nft is installed, and else iptables', async () => {
      const path = process.env.PATH
      const folder = scratch()
      put(folder, 'nft', '#!/bin/sh\n', 0o755)
      try {
        process.env.PATH = folder
        expect(await backendBeside()).toBe('nftables')
      } finally {
        process.env.PATH = path
      }
    })

    it('needs a guard', async () => {
      expect(await faultsOf('server = "x"\n[firewall]\nbackend = "auto"\n')).toEqual([
        expect.stringMatching(/^3: "firewall.backend" requires a guard in \[firewall\]/),
      ])
    })
  })

  it('comes back from any text that says it', async () => {
    const folder = scratch()
    const path = fc.string({ minLength: 1, maxLength: 40 }).map((name) => resolve('/', name))
    const label = fc.string({ unit: 'binary', maxLength: 60 }).filter((label) => !label.includes('\0'))
    // With a space at its end a prefix is right for every target.
    const prefix = fc.stringMatching(/^[!-~][ -~]{0,27}$/).map((text) => `${text} `)
    const feed = (
      source: TapsConfig['source'],
      targets: TapsConfig['target'][],
      file: fc.Arbitrary<string | null> = fc.constant(null),
    ) => fc.record({ source: fc.constant(source), file, target: fc.constantFrom(...targets), group: fc.nat(65_535), prefix })
    const taps = fc.oneof(
      feed('nflog', ['nflog']),
      feed('file', ['nflog', 'log'], path),
      feed('journal', ['log']),
      feed('stdin', ['nflog', 'log']),
    )
    const anyPorts = fc
      .uniqueArray(fc.integer({ min: 1, max: 65_535 }), { maxLength: 15 })
      .map((ports) => ports.sort((a, b) => a - b))
    const range = fc
      .tuple(fc.integer({ min: 1, max: 65_535 }), fc.nat(500))
      .map(([low, more]) => [low, Math.min(low + more, 65_535)] as const)
    const protocol = fc.constantFrom('tcp' as const, 'udp' as const)
    const guarded = fc.array(fc.record({ protocol, ports: range }), { maxLength: 3 }).map(merged)
    const records = fc.record({
      server: label,
      keys: path,
      skew: fc.nat(10),
      neverLock: fc.array(fc.constantFrom('0.0.0.0/0', '198.51.100.7/32', '10.0.0.0/8', '2001:db8::/32', '::1/128')),
      taps,
      datagram: fc.record({ ports: anyPorts }),
      firewall: fc.record({
        backend: fc.constantFrom('iptables' as const, 'nftables' as const, 'dry-run' as const),
        guard: fc.record({
          ports: guarded,
          interfaces: fc.constant(['br-*']),
          blocks: fc.constant(['10.0.0.0/8', '2001:db8::/32'].map((text) => parseCidr(text) as Cidr)),
          networks: fc.constantFrom(null, []),
        }),
        leasesPerKey: fc.integer({ min: 1, max: 65_536 }),
      }),
      ledger: fc.record({ path }),
      passcode: fc.record({ base: fc.integer({ min: 1, max: 65_416 }), pinDigits: fc.nat(4) }),
    })
    // Only packets have a payload, and no port is one of two kinds.
    const configs = records.map(({ datagram, firewall, ...plain }) => {
      const config = { ...plain, ledger: { ...plain.ledger, fleet: null }, firewall: { ...firewall, command: null } }
      const isFree = (port: number) => port < config.passcode.base || port >= config.passcode.base + 120
      return { ...config, datagram: { ports: config.taps.source === 'nflog' ? datagram.ports.filter(isFree) : [] } }
    })
    await fc.assert(
      fc.asyncProperty(configs, async (config) => {
        const { neverLock, taps, passcode, firewall, ledger, ...rest } = config
        const { file, ...plain } = taps
        const asked = { base: passcode.base, pin_digits: passcode.pinDigits }
        const { backend, guard, leasesPerKey } = firewall
        const rules = {
          backend,
          guard: guard.ports.map(formatGuarded),
          guard_except: [...guard.interfaces, ...guard.blocks.map(formatCidr)],
          ...(guard.networks ? { guard_networks: guard.networks.map(formatCidr) } : {}),
          leases_per_key: leasesPerKey,
        }
        const source = file === null ? plain : { ...plain, file }
        const said = {
          ...rest,
          never_lock: neverLock,
          taps: source,
          firewall: rules,
          ledger: { path: ledger.path },
          passcode: asked,
        }
        const { neverLock: blocks, ...others } = await read(stringify(said), folder)
        expect({ ...others, neverLock: blocks.map(({ bytes, bits }) => `${formatAddress(bytes)}/${bits}`) }).toEqual(config)
      }),
    )
  })

  it.each([
    ['', undefined],
    ['fail_open_to = []', undefined],
    ['fail_open_to = ["198.51.100.0/24", "2001:db8::/32"]', 10],
    ['fail_open_to = ["10.0.0.0/8"]\nfail_open_after = "5m"', 5],
    ['fail_open_to = ["10.0.0.0/8"]\nfail_open_after = "301s"', 6],
    ['fail_open_to = ["10.0.0.0/8"]\nfail_open_after = "1d"', 1_440],
  ])('opens nothing for want of a daemon unless it is said: %j', async (lines, minutes) => {
    const { firewall } = await read(`server = "gate.example"\n[firewall]\nguard = ["22/tcp"]\n${lines}`)
    expect(firewall.guard.failOpen?.minutes).toBe(minutes)
  })

  it('takes relative paths from its own folder', async () => {
    const folder = scratch()
    const text = 'server = ""\nkeys = "keys"\n[taps]\nsource = "file"\nfile = "log/knocks"\n[ledger]\npath = "../state/ledger"'
    const { keys, taps, ledger } = await read(text, folder)
    expect([keys, taps.file, ledger.path]).toEqual(['keys', 'log/knocks', '../state/ledger'].map((path) => join(folder, path)))
  })

  it.each([
    ['skew = 0', { skew: 0 }],
    ['skew = 10', { skew: 10 }],
    ['[taps]\ngroup = 0', { taps: { group: 0 } }],
    ['[taps]\ngroup = 65535', { taps: { group: 65535 } }],
    [`[taps]\nprefix = "${'x'.repeat(29)}"`, { taps: { prefix: 'x'.repeat(29) } }],
    ['[datagram]\nports = [443, 53, 443]', { datagram: { ports: [53, 443] } }],
    ['datagram = {}', { datagram: { ports: [] } }],
    ['[taps]\nsource = "nflog"\n[datagram]\nports = [1, 65535]', { datagram: { ports: [1, 65_535] } }],
    ['[taps]\nsource = "stdin"\n[datagram]\nports = []', { datagram: { ports: [] } }],
    ['[taps]\nsource = "journal"', { taps: { source: 'journal', file: null, target: 'log' } }],
    ['[taps]\nsource = "file"\nfile = "/log"', { taps: { source: 'file', file: '/log', target: 'nflog' } }],
    ['[taps]\nsource = "file"\nfile = "/log"\ntarget = "log"', { taps: { file: '/log', target: 'log' } }],
  ])('may say %j', async (line, part) => {
    expect(await read(`server = "gate.example"\n${line}`)).toMatchObject(part)
  })
})

describe('a fault in the config', () => {
  it('is a datagram port among those of passcodes', async () => {
    const faults = await faultsOf('server = "x"\n[datagram]\nports = [53, 48119]\n')
    expect(faults).toEqual([expect.stringMatching(/^3: "datagram\.ports" must not contain a passcode port \(48000 to 48119\)$/)])
  })

  it.each([
    ['server', 'server = 7', /expected a string, got 7$/],
    ['server', `server = "${'x'.repeat(256)}"`, /expected at most 255 bytes/],
    ['keys', 'keys = ""', /expected a path, got ""$/],
    ['keys', 'keys = ["/keys"]', /expected a string, got \["\/keys"\]$/],
    ['skew', 'skew = 11', /expected a whole number from 0 to 10, got 11$/],
    ['skew', 'skew = -1', /expected a whole number from 0 to 10, got -1$/],
    ['skew', 'skew = 0.5', /expected a whole number from 0 to 10, got 0\.5$/],
    ['skew', 'skew = "1"', /expected a number, got "1"$/],
    ['never_lock', 'never_lock = ["192.0.2.1/24"]', /expected an address or a block .*, got "192\.0\.2\.1\/24"$/],
    ['never_lock', 'never_lock = ["192.0.2.0/33"]', /expected an address or a block .*, got "192\.0\.2\.0\/33"$/],
    ['never_lock', 'never_lock = "192.0.2.1"', /expected an array, got "192\.0\.2\.1"$/],
    ['source', 'source = "syslog"', /expected "nflog", "file", "journal" or "stdin", got "syslog"$/],
    ['target', 'target = "ulog"', /expected "nflog" or "log", got "ulog"$/],
    ['target', 'target = 5', /expected "nflog" or "log", got 5$/],
    ['group', 'group = 65536', /expected a whole number from 0 to 65535, got 65536$/],
    ['group', 'group = -1', /expected a whole number from 0 to 65535, got -1$/],
    ['prefix', 'prefix = ""', /expected printable ASCII, got ""$/],
    ['prefix', 'prefix = "KNÖCK: "', /expected printable ASCII, got "KNÖCK: "$/],
    ['prefix', 'prefix = "KNOCK\\n"', /expected printable ASCII, got "KNOCK\\n"$/],
    ['prefix', `prefix = "${'x'.repeat(30)}"`, /expected at most 29 characters, got "x{30}"$/],
    ['ports', 'ports = [0]', /expected a whole number from 1 to 65535, got 0$/],
    ['ports', 'ports = [65536]', /expected a whole number from 1 to 65535, got 65536$/],
    ['ports', 'ports = 53', /expected an array, got 53$/],
    ['ports', `ports = [${Array.from({ length: 16 }, (_, i) => i + 1)}]`, /expected at most 15 ports, got \[1,2,.*\]$/],
    ['ports', 'ports = [53]', /requires source = "nflog" in \[taps\]: the source "stdin" does not report what is in a packet$/],
    ['backend', 'backend = "ipfw"', /expected "iptables", "nftables", "command" or "dry-run", got "ipfw"$/],
    ['backend', 'backend = 5', /expected "iptables", "nftables", "command" or "dry-run", got 5$/],
    ['guard', 'guard = "22/tcp"', /expected "all", or a list of ports, got "22\/tcp"$/],
    ['guard', 'guard = ["22"]', /expected ports such as "22\/tcp" or "60000-61000\/udp", got "22"$/],
    ['guard', 'guard = ["23-22/tcp"]', /expected ports such as .*, got "23-22\/tcp"$/],
    ['guard', 'guard = ["0-22/tcp"]', /expected ports such as .*, got "0-22\/tcp"$/],
    ['guard', `guard = [${'"22/tcp",'.repeat(257)}]`, /expected at most 256 entries, got /],
    ['leases_per_key', 'leases_per_key = 0', /expected a whole number from 1 to 65536, got 0$/],
    ['leases_per_key', 'leases_per_key = 65537', /expected a whole number from 1 to 65536, got 65537$/],
    ['path', 'path = ""', /expected a path, got ""$/],
    ['base', 'base = 0', /expected a whole number from 1 to 65535, got 0$/],
    ['base', 'base = 65427', /expected at most 65426, so that its ports end at 65535, got 65427$/],
    ['pin_digits', 'pin_digits = 5', /expected a whole number from 0 to 4, got 5$/],
  ])('in %s (%j) is one line with its place', async (name, line, message) => {
    const faults = await faultsOf(replaced(name, line))
    expect(faults).toEqual([expect.stringMatching(message)])
    expect(faults[0]).toMatch(
      new RegExp(`^${lineOf(name)}: "(taps\\.|datagram\\.|firewall\\.|ledger\\.|passcode\\.)?${name}" [^\n]+$`),
    )
  })

  it.each([
    ['source = "nflog"\nfile = "/log"', '4: "taps.file" requires source = "file" in [taps]'],
    ['file = "/log"', '3: "taps.file" requires source = "file" in [taps]'],
    ['source = "file"', '3: "taps.source" must come with file = "/path/of/the/log" in [taps]'],
    ['source = "file"\nfile = ""', '4: "taps.file" expected a path, got ""'],
    ['target = "log"', '3: "taps.target" must be "nflog" with source = "nflog"'],
    ['source = "journal"\ntarget = "nflog"', '4: "taps.target" must be "log" with source = "journal"'],
    ['source = "journal"\nprefix = "KNOCK:"', '4: "taps.prefix" must end with a space, for the kernel\'s log'],
  ])('is taps that do not fit together: %j', async (lines, fault) => {
    expect(await faultsOf(`server = "gate.example"\n[taps]\n${lines}`)).toEqual([fault])
  })

  it.each([
    ['guard = ["22/tcp"]\npublic = ["443/tcp"]', '4: "firewall.public" requires guard = "all"'],
    [
      'guard = "all"\nguard_except = ["a b"]',
      '4: "firewall.guard_except" expected an interface such as "br-*", or a block such as "10.0.0.0/8", got "a b"',
    ],
    ['fail_open_to = ["198.51.100.0/24"]', '3: "firewall.fail_open_to" requires a guard in [firewall]: nothing else is opened'],
    ['guard = "all"\nfail_open_after = "10m"', '4: "firewall.fail_open_after" requires fail_open_to in [firewall]'],
    [
      'backend = "dry-run"\nguard = "all"\nfail_open_to = ["198.51.100.0/24"]',
      '5: "firewall.fail_open_to" requires backend = "nftables" or "iptables"',
    ],
    ...['0.0.0.0/0', '::/0', '198.0.0.0/7', '2001:db8::/31'].map((block) => [
      `guard = "all"\nfail_open_to = ["${block}"]`,
      `4: "firewall.fail_open_to" expected blocks no larger than a /8 of IPv4 or a /32 of IPv6, got "${block}"`,
    ]),
    [
      'guard = "all"\nfail_open_to = ["10.0.0.1/8"]',
      '4: "firewall.fail_open_to" expected a block such as "198.51.100.0/24", with zeros behind the prefix, got "10.0.0.1/8"',
    ],
    ['guard = "all"\nfail_open_to = ["::ffff:0.0.0.0/96"]', '4: "firewall.fail_open_to" expected a block'],
    [
      `guard = "all"\nfail_open_to = ${JSON.stringify(Array.from({ length: 17 }, (_, n) => `10.0.0.${n}`))}`,
      '4: "firewall.fail_open_to" expected at most 16 blocks',
    ],
    ...['4m', '240s', '25h', '10', 'soon', ''].map((after) => [
      `guard = "all"\nfail_open_to = ["10.0.0.0/8"]\nfail_open_after = "${after}"`,
      `5: "firewall.fail_open_after" expected a duration from "5m" to "24h", got "${after}"`,
    ]),
  ])('is a guard that does not fit together: %j', async (lines, fault) => {
    expect(await faultsOf(`server = "gate.example"\n[firewall]\n${lines}`)).toEqual([expect.stringContaining(fault)])
  })

  it.each([0o666, 0o664, 0o646])('is that others may write it (mode %o)', async (mode) => {
    const path = put(scratch(), 'knockturn.toml', ALL.join('\n'), mode)
    const { faults } = await readConfig(path)
    expect(faults?.map(inOneLine)).toEqual([
      `${path}: users other than its owner may write it (mode 0${mode.toString(8)}): run "chmod go-w ${path}"`,
    ])
  })

  it('does not hide the others', async () => {
    const text = replaced('skew', 'skew = 11').replace('"stdin"', '"tail"').replace('"/ledger"', '""').replace('"dry-run"', '7')
    expect((await faultsOf(text)).map((fault) => Number.parseInt(fault, 10))).toEqual([3, 6, 13, 17])
  })

  it('is a missing server', async () => {
    expect(await faultsOf(replaced('server', ''))).toEqual([expect.stringMatching(/^1: "server" is missing$/)])
  })

  it.each([
    ['at the top', 'skew', 'skews = 1', 'skews'],
    ['in a table', 'group', 'groups = 5', 'taps.groups'],
  ])('is an unknown key %s', async (_, name, line, key) => {
    expect(await faultsOf(replaced(name, line))).toEqual([`${lineOf(name)}: unknown entry "${key}"`])
  })

  it('of an entry that is misspelt begins with that, and not with what seems to be missing', async () => {
    expect(await faultsOf('sever = "gate"')).toEqual(['1: unknown entry "sever"', '1: "server" is missing'])
  })

  it.each([
    ['long', `${'x'.repeat(9_999)} = 1`, `2: unknown entry "${'x'.repeat(59)}…`],
    ['with line ends in it', '"a\\nb\\r" = 1', '1: unknown entry "a\\nb\\r"'],
  ])('is an unknown key that is %s, told in one short line', async (_, line, fault) => {
    expect(await faultsOf(`server = ""\n${line}`)).toEqual([fault])
  })

  it('of syntax has its line', async () => {
    expect(await faultsOf(replaced('group', 'group = '))).toEqual([expect.stringMatching(`^${lineOf('group')}: [^\n]+$`)])
  })

  it('with text without quotes is told how to write it', async () => {
    expect(await faultsOf('server = gate.example\n')).toEqual([
      '1: Invalid TOML document: invalid value: put text in quotes, as in server = "gate.example"',
    ])
  })
})

describe('a config file', () => {
  async function refused(path: string) {
    return (await readConfig(path)).faults?.map(inOneLine)
  }

  it('that is missing is one fault', async () => {
    const path = join(scratch(), 'knockturn.toml')
    expect(await refused(path)).toEqual([
      expect.stringMatching(
        `^${path}: cannot be read: ENOENT.*: name the right one with --config, or write one with at least this line: server = "`,
      ),
    ])
  })

  it('that is a folder is one fault', async () => {
    const path = join(scratch(), 'knockturn.toml')
    mkdirSync(path)
    expect(await refused(path)).toEqual([`${path}: is not a regular file`])
  })

  it('that is too long is one fault', async () => {
    const path = put(scratch(), 'knockturn.toml', '\n'.repeat(65_537))
    expect(await refused(path)).toEqual([`${path}: expected at most 65536 bytes, got 65537`])
  })

  it('that is no UTF-8 is one fault', async () => {
    const path = put(scratch(), 'knockturn.toml', Uint8Array.of(0xff))
    expect(await refused(path)).toEqual([`${path}: is not UTF-8 text`])
  })
})
