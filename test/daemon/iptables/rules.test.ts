import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { installScript, isConnected, reach, removeScript } from '../../../src/daemon/iptables/chains'
import { hearsDatagrams, hearsPool } from '../../../src/daemon/iptables/log-rules'
import { endsByItself, readRule, ruleOf } from '../../../src/daemon/iptables/rules'
import { type FilterTable, parseTable } from '../../../src/daemon/iptables/table'
import type { TapRules } from '../../../src/daemon/tap-rules'
import type { Lease, Lock } from '../../../src/gate/firewall'
import { KEY_ID } from '../../../src/protocol/key'
import { parsePool } from '../../../src/protocol/pool'

const FINGERPRINT = '00112233445566778899aabbccddeeff'
/** The kernel's stop is the last second that still matches. */
const UNTIL = Date.UTC(2026, 10, 22, 23, 12, 48) / 1000
const LEASE: Lease = {
  ...{ id: 'ef0ef869', key: 'alice', fingerprint: FINGERPRINT, address: '198.51.100.2' },
  ...{ protocol: 'tcp', port: 22, once: false, until: UNTIL },
}
const LOCK: Lock = { id: 'ef0ef869', key: 'alice', fingerprint: FINGERPRINT, address: '198.51.100.2', until: UNTIL }

/** A rule's arguments as `iptables -S` 1.8.9 prints the rule that they make. */
function printed(text: string): string {
  return `-A KNOCKTURN-LEASES ${text}`
    .replace(/-s ([^ /]+:[^ /]+)(?= )/, '-s $1/128')
    .replace(/-s ([\d.]+)(?= )/, '-s $1/32')
    .replace(/ --hashlimit-htable-expire 86400000/, '')
    .replace(/--comment (\S+)/, '--comment "$1"')
}

describe('a rule', () => {
  const common = {
    id: fc.stringMatching(/^[0-9a-f]{8}(\.[1-9]?\d)?$/),
    key: fc.stringMatching(KEY_ID),
    fingerprint: fc.stringMatching(/^[0-9a-f]{32}$/),
    address: fc.constantFrom('198.51.100.2', '0.0.0.1', '255.255.255.254', '2001:db8::2', '::1', 'fe80::1:0:0:1'),
  }
  const until = fc.integer({ min: Date.UTC(2020) / 1000, max: Date.UTC(2100) / 1000 })

  it('gives back its lease', () => {
    const leases = fc.record({
      ...common,
      address: fc.oneof(common.address, fc.constantFrom('198.51.100.0/24', '203.0.0.0/16', '198.51.100.2/31', '2001:db8::/48')),
      protocol: fc.constantFrom('tcp', 'udp'),
      port: fc.integer({ min: 1, max: 65_535 }),
      once: fc.boolean(),
      until: fc.option(until),
    })
    fc.assert(
      fc.property(leases, (lease) => {
        expect(readRule(printed(ruleOf(lease)))).toEqual(lease)
      }),
    )
  })

  it('gives back its lock', () => {
    fc.assert(
      fc.property(fc.record({ ...common, until }), (lock) => {
        expect(readRule(printed(ruleOf(lock)))).toEqual(lock)
      }),
    )
  })

  it.each<[string, string, ReturnType<typeof readRule>]>([
    [
      'a lease for one connection',
      `-A KNOCKTURN-LEASES -s 198.51.100.2/32 -p tcp -m tcp --dport 22 -m time --datestop 2026-11-22T23:12:47 -m conntrack --ctstate NEW -m hashlimit --hashlimit-upto 1/day --hashlimit-burst 1 --hashlimit-mode srcip --hashlimit-name ktef0ef869.0 -m comment --comment "knockturn:lease:ef0ef869.0:alice:${FINGERPRINT}" -j KNOCKTURN-ADMIT`,
      { ...LEASE, id: 'ef0ef869.0', once: true },
    ],
    [
      'a lease until closed',
      `-A KNOCKTURN-LEASES -s 198.51.100.2/32 -p udp -m udp --dport 53 -m comment --comment "knockturn:lease:ef0ef869:a-l.i_ce:${FINGERPRINT}" -j KNOCKTURN-ADMIT`,
      { ...LEASE, key: 'a-l.i_ce', protocol: 'udp', port: 53, until: null },
    ],
    [
      'a lease over IPv6',
      `-A KNOCKTURN-LEASES -s 2001:db8:1::2/128 -p tcp -m tcp --dport 22 -m time --datestop 2026-11-22T23:12:47 -m comment --comment "knockturn:lease:ef0ef869:alice:${FINGERPRINT}" -j KNOCKTURN-ADMIT`,
      { ...LEASE, address: '2001:db8:1::2' },
    ],
    [
      'a lock',
      `-A KNOCKTURN-LEASES -s 198.51.100.2/32 -m time --datestop 2026-11-22T23:12:47 -m comment --comment "knockturn:lock:ef0ef869:alice:${FINGERPRINT}"`,
      LOCK,
    ],
    [
      'a lock over IPv6',
      `-A KNOCKTURN-LEASES -s 2001:db8:1::2/128 -m time --datestop 2026-11-22T23:12:47 -m comment --comment "knockturn:lock:ef0ef869:alice:${FINGERPRINT}"`,
      { ...LOCK, address: '2001:db8:1::2' },
    ],
  ])('is read as iptables 1.8.9 printed it (%s)', (_, line, rule) => {
    expect(readRule(line)).toEqual(rule)
  })

  it('is read as iptables 1.8.9 printed it for one connection from a block', () => {
    const line = `-A KNOCKTURN-LEASES -s 198.51.100.0/24 -p tcp -m tcp --dport 22 -m time --datestop 2026-11-22T23:12:47 -m conntrack --ctstate NEW -m hashlimit --hashlimit-upto 1/day --hashlimit-burst 1 --hashlimit-mode srcip --hashlimit-name ktef0ef869 --hashlimit-srcmask 24 -m comment --comment "knockturn:lease:ef0ef869:alice:${FINGERPRINT}" -j ACCEPT`
    expect(readRule(line)).toEqual({ ...LEASE, address: '198.51.100.0/24', once: true })
  })

  it('for one connection from a block counts all of its addresses as one', () => {
    const rule = ruleOf({ ...LEASE, address: '198.51.100.0/24', once: true })
    expect(rule).toContain('--hashlimit-mode srcip --hashlimit-htable-expire 86400000 --hashlimit-srcmask 24 ')
  })

  it('is no lock for a block', () => {
    expect(readRule(printed(ruleOf({ ...LOCK, address: '198.51.100.0/24' })))).toBeNull()
  })

  it('of a lock has no target', () => {
    expect(ruleOf(LOCK)).not.toContain('-j')
  })

  it('of an ordinary lease has no hashlimit', () => {
    expect(ruleOf(LEASE)).not.toContain('hashlimit')
  })

  const line = printed(ruleOf(LEASE))
  it.each([
    ['empty', ''],
    ['a chain', '-N KNOCKTURN-LEASES'],
    ['a policy', '-P INPUT DROP'],
    ['without a comment', '-A KNOCKTURN-LEASES -s 198.51.100.2/32 -j ACCEPT'],
    ['with another’s comment', line.replace('knockturn:lease', 'fail2ban:lease')],
    ['of another kind', line.replace('knockturn:lease', 'knockturn:list')],
    ['with a longer comment word', line.replace('"knockturn', '"my knockturn')],
    ['with another id', line.replace('ef0ef869', 'EF0EF869')],
    ['without an id', line.replace('ef0ef869', '')],
    ['with another key', line.replace('alice', '-alice')],
    ['with half a fingerprint', line.replace(FINGERPRINT, FINGERPRINT.slice(16))],
    ['without a fingerprint', line.replace(`:${FINGERPRINT}`, '')],
    ['without a source', line.replace('-s 198.51.100.2/32 ', '')],
    ['for a network with bits behind its prefix', line.replace('/32', '/24')],
    ['with a source that is none', line.replace('198.51.100.2', '198.51.100.256')],
    ['without a port', line.replace('--dport 22 ', '')],
    ['with ports', line.replace('--dport 22', '--dport 22:23')],
    ['with port 0', line.replace('--dport 22', '--dport 0')],
    ['with port 65536', line.replace('--dport 22', '--dport 65536')],
    ['without a protocol', line.replace('-p tcp ', '')],
    ['with another protocol', line.replaceAll('tcp', 'sctp')],
    ['with no date', line.replace('2026-11-22T23:12:47', 'tomorrow')],
  ])('is not one that is %s', (_, text) => {
    expect(readRule(text)).toBeNull()
  })

  const LATER = 2 ** 31 + 1
  it.each([
    ['lease', { ...LEASE, until: LATER }],
    ['lease for one connection', { ...LEASE, once: true, until: LATER }],
    ['lock', { ...LOCK, until: LATER }],
  ])('of a %s that ends beyond the last second that iptables can say (in 2038) gives back its end', (_, entry) => {
    expect(readRule(printed(ruleOf(entry)))).toEqual(entry)
    expect([entry, { ...entry, until: 2 ** 31 - 1 }].map((one) => endsByItself(ruleOf(one)))).toEqual([false, true])
  })

  it.each([
    ['lease', LEASE],
    ['lease for one connection', { ...LEASE, once: true }],
    ['lock', LOCK],
  ])('of a %s for a kernel that cannot end it says when it ends, and gives that back', (_, entry) => {
    const rule = ruleOf(entry, false)
    expect([rule.includes('-m time'), endsByItself(rule), readRule(printed(rule))]).toEqual([false, false, entry])
  })

  it('of a lease until closed is the same for a kernel that cannot end it', () => {
    const entry = { ...LEASE, until: null }
    expect(ruleOf(entry, false)).toBe(ruleOf(entry))
  })

  it('that ends beyond it names no date to iptables, which would refuse that', () => {
    const dated = [LATER - 2, LATER - 1].map((until) => ruleOf({ ...LEASE, until }).includes('--datestop'))
    expect(dated).toEqual([true, false])
  })

  it('without an end is no lock', () => {
    expect(readRule(printed(ruleOf(LOCK)).replace(/-m time --datestop \S+ /, ''))).toBeNull()
  })

  it('of one knock shares its one connection with the other rules of that knock', () => {
    const names = ['ef0ef869', 'ef0ef869.0', 'ef0ef869.12'].map(
      (id) => /--hashlimit-name (\S+)/.exec(ruleOf({ ...LEASE, id, once: true }))?.[1],
    )
    expect(names).toEqual(['ktef0ef869', 'ktef0ef869', 'ktef0ef869'])
  })

  it('is never read of any other words', () => {
    const words = fc.constantFrom(...new Set(line.split(' ')), '', '--comment', '"', 'knockturn:lock:::', '/32', '-s')
    fc.assert(
      fc.property(fc.array(words, { maxLength: 20 }), (some) => {
        const rule = readRule(some.join(' '))
        expect(rule === null || some.some((word) => word.includes(FINGERPRINT))).toBe(true)
      }),
    )
  })
})

describe('the installation', () => {
  const TAPS: TapRules = { ranges: [[49_152, 65_535]], target: 'nflog', group: 5, prefix: 'KNOCK: ' }
  const bare = parseTable('iptables', '')
  const ESTABLISHED = '-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT'
  const JUMP = '-A INPUT -j KNOCKTURN'
  const AGAIN = '-I INPUT 1 ! -i lo -p tcp -m tcp --syn -m conntrack ! --ctstate NEW -m connlabel --label 117 -j KNOCKTURN-AGAIN'
  const OURS = ['KNOCKTURN', 'KNOCKTURN-LEASES', 'KNOCKTURN-TAPS', 'KNOCKTURN-ADMIT', 'KNOCKTURN-AGAIN']
  const linesOf = (table: Partial<FilterTable>, taps: TapRules | null = TAPS, isMarked = true) =>
    installScript({ ...bare, ...table }, taps, isMarked).split('\n')
  const SHORTCUTS = ['tcp', 'udp'].map(
    (protocol) => `-A KNOCKTURN -p ${protocol} -m ${protocol} --dport 49152:65535 -g KNOCKTURN-TAPS`,
  )
  const own = '-A KNOCKTURN -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT'

  it('is one step for the kernel', () => {
    const lines = linesOf({})
    expect([lines[0], ...lines.slice(-2)]).toEqual(['*filter', 'COMMIT', ''])
    expect(lines.filter((line) => line === 'COMMIT')).toHaveLength(1)
  })

  it('touches nothing of the administrator’s but for two jumps', () => {
    const rules = linesOf({ input: [ESTABLISHED] }).slice(1, -2)
    expect(rules.filter((line) => !/^(-A |:)KNOCKTURN(-[A-Z]+)? /.test(line))).toEqual(['-I INPUT 2 -j KNOCKTURN', AGAIN])
  })

  it('looks first of all at connections that a lease has let in and that begin once more', () => {
    const lines = linesOf({ input: [ESTABLISHED] })
    expect(lines.filter((line) => line.startsWith('-A KNOCKTURN-AGAIN'))).toEqual([
      '-A KNOCKTURN-AGAIN -j KNOCKTURN-LEASES',
      '-A KNOCKTURN-AGAIN -j DROP',
    ])
    expect(lines.filter((line) => line.startsWith('-A KNOCKTURN-ADMIT'))).toEqual([
      '-A KNOCKTURN-ADMIT -m connlabel --label 117 --set',
      '-A KNOCKTURN-ADMIT -j ACCEPT',
    ])
    // Behind the other jump in the script, and so in front of it in INPUT.
    expect(lines.indexOf(AGAIN)).toBeGreaterThan(lines.indexOf('-I INPUT 2 -j KNOCKTURN'))
  })

  it('puts that jump anew, so that it is the first again', () => {
    const old = AGAIN.replace('-I INPUT 1', '-A INPUT').replace('117', '"117"')
    expect(linesOf({ input: [ESTABLISHED, old, JUMP] }).filter((line) => line.includes('INPUT'))).toEqual([
      old.replace('-A', '-D'),
      AGAIN,
    ])
  })

  it('marks nothing where the kernel cannot, and admits all the same', () => {
    const lines = linesOf({ input: [ESTABLISHED] }, TAPS, false)
    expect(lines.filter((line) => line.includes('connlabel'))).toEqual([])
    expect(lines.filter((line) => /^-A KNOCKTURN-(ADMIT|AGAIN)/.test(line))).toEqual(['-A KNOCKTURN-ADMIT -j ACCEPT'])
  })

  it.each([
    ['first, where nothing is', [], 1],
    ['first, where nothing accepts established connections', ['-A INPUT -p tcp -m tcp --dport 80 -j ACCEPT'], 1],
    ['behind the rule that does', [ESTABLISHED, '-A INPUT -j DROP'], 2],
    ['behind it, wherever it is', ['-A INPUT -i lo -j ACCEPT', '-A INPUT -j LOG', ESTABLISHED, '-A INPUT -j DROP'], 4],
    ['behind an old one', ['-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT', '-A INPUT -j DROP'], 2],
    ['behind one for established ones only', ['-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT'], 2],
    ['behind one of more states', ['-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT'], 2],
    ['first, where only some are accepted', ['-A INPUT -i eth0 -m conntrack --ctstate ESTABLISHED -j ACCEPT'], 1],
    ['first, where they are dropped', ['-A INPUT -m conntrack --ctstate ESTABLISHED -j DROP'], 1],
  ])('jumps %s', (_, input, place) => {
    expect(linesOf({ input }).filter((line) => line.includes('INPUT'))).toEqual([`-I INPUT ${place} -j KNOCKTURN`, AGAIN])
  })

  it('accepts established connections by itself where nothing does', () => {
    expect(linesOf({})).toContain(own)
  })

  it('leaves that to the administrator’s rule where there is one', () => {
    expect(linesOf({ input: [ESTABLISHED] })).not.toContain(own)
  })

  it('accepts them before it looks at leases, and those before it drops', () => {
    const order = linesOf({}).filter((line) => line.startsWith('-A KNOCKTURN '))
    expect(order).toEqual([own, ...SHORTCUTS, '-A KNOCKTURN -j KNOCKTURN-LEASES', '-A KNOCKTURN -j KNOCKTURN-TAPS'])
  })

  describe('leads packets to the pool past the leases', () => {
    const pool = printed(ruleOf({ ...LEASE, port: 50_000 }))
    const taken = (leases: string[], taps: TapRules | null = TAPS, table: Partial<FilterTable> = {}) =>
      linesOf({ leases, ...table }, taps).filter((line) => line.includes(' -g '))

    it.each([
      ['there is none', []],
      ['they are for other ports', [printed(ruleOf(LEASE)), printed(ruleOf({ ...LEASE, port: 49_151 }))]],
      ['there are locks', [printed(ruleOf(LOCK))]],
      ['somebody else’s rule is for another port', ['-A KNOCKTURN-LEASES -p tcp -m tcp --dport 22 -j ACCEPT']],
    ])('where %s', (_, leases) => {
      expect(taken(leases)).toEqual(SHORTCUTS)
    })

    it.each([
      ['one is for a port of it', [pool], SHORTCUTS.slice(1)],
      ['one is for a port of it by UDP', [pool.replaceAll('tcp', 'udp')], SHORTCUTS.slice(0, 1)],
      [
        'one is for its first and one for its last port',
        [49_152, 65_535].map((port) => pool.replace('50000', `${port}`)),
        SHORTCUTS.slice(1),
      ],
      [
        'somebody else’s rule is for ports around it',
        ['-A KNOCKTURN-LEASES -p udp -m udp --dport 1:65535 -j ACCEPT'],
        SHORTCUTS.slice(0, 1),
      ],
      ['somebody else’s rule is for any port', ['-A KNOCKTURN-LEASES -s 198.51.100.2/32 -j ACCEPT'], []],
      ['somebody else’s rule is for all but one', ['-A KNOCKTURN-LEASES -p tcp -m tcp ! --dport 22 -j ACCEPT'], []],
    ])('but not where %s', (_, leases, left) => {
      expect(taken(leases)).toEqual(left)
    })

    it('of each range by itself', () => {
      const ranges: [number, number][] = [
        [20_000, 25_635],
        [40_000, 51_000],
      ]
      const lines = taken([pool], { ...TAPS, ranges })
      expect(lines.map((line) => / -p (\w+) .*--dport (\S+)/.exec(line)?.slice(1).join(' '))).toEqual([
        'tcp 20000:25635',
        'udp 20000:25635',
        'udp 40000:51000',
      ])
    })

    it('and datagrams of knocks, but where a lease is for one of their ports', () => {
      const taps = { ...TAPS, datagrams: [53, 443] }
      const shortcut = '-A KNOCKTURN -p udp -m multiport --dports 53,443 -g KNOCKTURN-TAPS'
      expect(taken([], taps)).toEqual([...SHORTCUTS, shortcut])
      expect(taken([printed(ruleOf({ ...LEASE, port: 443 }))], taps)).toEqual([...SHORTCUTS, shortcut])
      expect(taken([printed(ruleOf({ ...LEASE, port: 443, protocol: 'udp' }))], taps)).toEqual(SHORTCUTS)
    })

    it('by the log rules that stay, as iptables prints them', () => {
      const taps = [
        '-A KNOCKTURN-TAPS ! -i lo -p tcp -m tcp --dport 49152:65535 -m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP',
        '-A KNOCKTURN-TAPS ! -i lo -p udp -m udp --dport 49152:65535 -m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP',
      ]
      expect(taken([], null, { taps })).toEqual(SHORTCUTS)
    })

    it('by leases that are written anew, and not by those that are there', () => {
      const script = (leases: string[]) => installScript({ ...bare, leases: [pool] }, TAPS, true, leases).split('\n')
      expect(script([`[7:420] ${printed(ruleOf(LEASE))}`])).toEqual(expect.arrayContaining(SHORTCUTS))
      expect(script([`[7:420] ${pool}`])).not.toContain(SHORTCUTS[0])
    })

    it('until a lease is added: then with it in one step, and for good', () => {
      const table = {
        ...bare,
        main: [ESTABLISHED.replace('INPUT', 'KNOCKTURN'), ...SHORTCUTS, '-A KNOCKTURN -j KNOCKTURN-LEASES'],
      }
      const left = [table.main[0], SHORTCUTS[1], '-A KNOCKTURN -j KNOCKTURN-LEASES']
      expect(reach(table, [`-A KNOCKTURN-LEASES ${ruleOf({ ...LEASE, port: 50_000 })}`])).toEqual({
        lines: [':KNOCKTURN - [0:0]', ...left],
        table: { ...table, main: left },
      })
      expect(reach(table, [`-A KNOCKTURN-LEASES ${ruleOf(LEASE)}`, `-A KNOCKTURN-LEASES ${ruleOf(LOCK)}`])).toEqual({
        lines: [],
        table,
      })
    })

    it('and is not in force where one is led past', () => {
      const main = [...SHORTCUTS, '-A KNOCKTURN -j KNOCKTURN-LEASES', '-A KNOCKTURN -j KNOCKTURN-TAPS']
      const table = { ...bare, chains: OURS, input: [JUMP], main, admit: ['-A KNOCKTURN-ADMIT -j ACCEPT'] }
      expect([isConnected({ ...table, leases: [printed(ruleOf(LEASE))] }), isConnected({ ...table, leases: [pool] })]).toEqual([
        true,
        false,
      ])
    })
  })

  describe('is in force', () => {
    const whole: FilterTable = {
      ...bare,
      chains: OURS,
      input: [AGAIN.replace('-I INPUT 1', '-A INPUT'), ESTABLISHED, JUMP],
      main: ['-A KNOCKTURN -j KNOCKTURN-LEASES', '-A KNOCKTURN -j KNOCKTURN-TAPS'],
      admit: ['-A KNOCKTURN-ADMIT -m connlabel --label "117" --set', '-A KNOCKTURN-ADMIT -j ACCEPT'],
      again: ['-A KNOCKTURN-AGAIN -j KNOCKTURN-LEASES', '-A KNOCKTURN-AGAIN -j DROP'],
    }

    it('when it is whole', () => {
      expect(isConnected(whole)).toBe(true)
    })

    it('when the kernel marks nothing, and so nothing looks at marks', () => {
      const [jump, admit] = [whole.input.slice(1), whole.admit.slice(1)]
      expect(isConnected({ ...whole, input: jump, admit, again: [] })).toBe(true)
    })

    it.each<[string, Partial<FilterTable>]>([
      ['a chain', { chains: OURS.slice(1) }],
      ['the jump to it', { input: whole.input.slice(0, 2) }],
      ['the way to the leases', { main: whole.main.slice(1) }],
      ['the way to the log rules', { main: whole.main.slice(0, 1) }],
      ['what accepts', { admit: whole.admit.slice(0, 1) }],
      ['the look at what is marked', { input: whole.input.slice(1) }],
      ['the way from there to the leases', { again: whole.again.slice(1) }],
      ['what drops there', { again: whole.again.slice(0, 1) }],
    ])('not without %s', (_, part) => {
      expect(isConnected({ ...whole, ...part })).toBe(false)
    })
  })

  it('jumps once, however often', () => {
    expect(linesOf({ chains: OURS, input: [ESTABLISHED, JUMP] }).filter((line) => / INPUT .*-j KNOCKTURN$/.test(line))).toEqual(
      [],
    )
  })

  it('empties the chains that it fills, however often', () => {
    const lines = linesOf({ chains: OURS, input: [JUMP] })
    expect(lines.filter((line) => line.startsWith(':'))).toEqual(
      OURS.filter((chain) => chain !== 'KNOCKTURN-LEASES').map((chain) => `:${chain} - [0:0]`),
    )
  })

  it('makes a chain for leases where there is none', () => {
    expect(linesOf({})).toContain(':KNOCKTURN-LEASES - [0:0]')
  })

  it('hears every range', () => {
    const ranges: [number, number][] = [
      [20_000, 25_635],
      [40_000, 45_635],
    ]
    const logged = linesOf({}, { ...TAPS, ranges }).filter((line) => line.includes('-j NFLOG'))
    expect(logged.map((line) => /-p (\S+) .*--dport (\S+)/.exec(line)?.slice(1).join(' '))).toEqual([
      'tcp 20000:25635',
      'udp 20000:25635',
      'tcp 40000:45635',
      'udp 40000:45635',
    ])
  })

  it('logs by NFLOG, at once, within a limit for each source', () => {
    for (const line of linesOf({}).filter((rule) => rule.includes('-j NFLOG'))) {
      expect(line).toMatch(/--hashlimit-mode srcip .*--hashlimit-htable-size 65536 --hashlimit-htable-max 262144/)
      expect(line).toMatch(/-j NFLOG --nflog-group 5 --nflog-prefix "KNOCK: " --nflog-threshold 1$/)
    }
  })

  it.each([
    ['iptables', 32],
    ['ip6tables', 64],
  ] as const)('counts by %s blocks of %i bits, in tables of another name for each limit', (family, bits) => {
    const script = installScript(parseTable(family, ''), { ...TAPS, datagrams: [53] }, true)
    const logged = script.split('\n').filter((rule) => rule.includes('-j NFLOG'))
    expect(logged).toHaveLength(4)
    for (const rule of logged)
      expect(rule).toContain(`--hashlimit-name knockturn-${bits}-2000 --hashlimit-mode srcip --hashlimit-srcmask ${bits} `)
  })

  it('leave room for a knock beside a scan of 1,000 packets a second from the same address', () => {
    for (const line of linesOf({}).filter((rule) => rule.includes('-j NFLOG')))
      expect(Number(/--hashlimit-upto (\d+)\/sec/.exec(line)?.[1])).toBeGreaterThanOrEqual(2_000)
  })

  it('logs by the kernel’s log where that is heard, below what a console shows, within the same limit and one for all behind it', () => {
    const rules = (target: TapRules['target']) => linesOf({}, { ...TAPS, target }).filter((line) => / -j (NF)?LOG /.test(line))
    const all = '-m hashlimit --hashlimit-upto 10000/sec --hashlimit-burst 10000 --hashlimit-name knockturn-log-10000'
    const asLog = rules('nflog').map((line) => line.replace(/-j .*/, `${all} -j LOG --log-level debug --log-prefix "KNOCK: "`))
    expect([rules('log').length, rules('log')]).toEqual([2, asLog])
  })

  it('logs nothing of TCP but SYN', () => {
    const tcp = linesOf({}).filter((line) => line.includes('-p tcp') && line.includes('-j NFLOG'))
    expect(tcp).toEqual([expect.stringContaining(' --syn ')])
  })

  it('drops what it heard, and rejects nothing', () => {
    const lines = linesOf({}).filter((line) => line.startsWith('-A KNOCKTURN-TAPS'))
    expect(lines.findLastIndex((line) => line.includes('-j NFLOG'))).toBeLessThan(
      lines.findIndex((line) => line.includes('-j DROP')),
    )
    expect(lines.join('\n')).not.toContain('REJECT')
  })

  it('quotes a prefix that has quotes', () => {
    const lines = linesOf({}, { ...TAPS, prefix: 'a"b\\c ' })
    expect(lines.find((line) => line.includes('-j NFLOG'))).toContain('--nflog-prefix "a\\"b\\\\c "')
  })

  it.each([
    ['iptables', 64, 76],
    ['ip6tables', 84, 96],
  ] as const)('logs by %s datagrams of %i and %i bytes to their ports, and drops all that go there', (family, short, long) => {
    const script = installScript(parseTable(family, ''), { ...TAPS, datagrams: [53, 443] }, true)
    const lines = script.split('\n').filter((line) => line.startsWith('-A KNOCKTURN-TAPS ') && line.includes('--dports 53,443'))
    const flow = '-m conntrack ! --ctstate ESTABLISHED,RELATED'
    const port = '-p udp -m multiport --dports 53,443'
    expect(lines).toEqual([
      expect.stringContaining(
        `-A KNOCKTURN-TAPS ${port} -m length --length ${short} ${flow} -m hashlimit --hashlimit-upto 2000/sec`,
      ),
      expect.stringContaining(
        `-A KNOCKTURN-TAPS ${port} -m length --length ${long} ${flow} -m hashlimit --hashlimit-upto 2000/sec`,
      ),
      `-A KNOCKTURN-TAPS ! -i lo ${port} ${flow},UNTRACKED -j DROP`,
    ])
    for (const line of lines.slice(0, 2))
      expect(line).toMatch(/ -j NFLOG --nflog-group 5 --nflog-prefix "KNOCK: " --nflog-threshold 1$/)
  })

  it.each([
    [[], [], true],
    [[53, 443], [53, 443], true],
    [[53, 443], [], false],
    [[53, 443], [53], false],
    [[], [53], false],
  ])('hears datagrams to %j where they are asked for at %j: %s', (installed, wanted, hears) => {
    const table = parseTable('iptables', installScript(bare, { ...TAPS, datagrams: installed }, true))
    expect(hearsDatagrams(table, wanted)).toBe(hears)
  })

  it.each([
    ['none are there', [], '49152-65535', false],
    ['they are those of the pool', [[49152, 65535]], '49152-65535', true],
    ['they are those of a larger one', [[20000, 65535]], '49152-65535', true],
    ['they are those of another one', [[49152, 65535]], '20000-39999', false],
    [
      'a part of it is left out',
      [
        [20000, 29999],
        [30001, 39999],
      ],
      '20000-39999',
      false,
    ],
    [
      'they have it in parts',
      [
        [20000, 29999],
        [30000, 30000],
        [30001, 39999],
      ],
      '20000-39999',
      true,
    ],
  ] satisfies [string, [number, number][], string, boolean][])(
    'hears a pool where %s: %j for %s: %s',
    (_, ranges, pool, hears) => {
      const table = parseTable('iptables', installScript(bare, { ...TAPS, ranges }, true))
      expect(hearsPool(table, parsePool(pool))).toBe(hears)
    },
  )

  it('without datagrams has no rule for them', () => {
    expect(linesOf({}, { ...TAPS, datagrams: [] })).toEqual(linesOf({}))
  })

  it('without taps leaves the chain of taps as it is', () => {
    const lines = linesOf({ chains: ['KNOCKTURN-TAPS'] }, null)
    expect(lines.filter((line) => line.includes('KNOCKTURN-TAPS'))).toEqual(['-A KNOCKTURN -j KNOCKTURN-TAPS'])
  })

  it('is taken away whole', () => {
    const lines = removeScript({ ...bare, chains: [...OURS, 'MINE'], input: [ESTABLISHED, JUMP] })?.split('\n')
    expect(lines).toEqual([
      '*filter',
      '-D INPUT -j KNOCKTURN',
      ...OURS.map((chain) => `-F ${chain}`),
      ...OURS.map((chain) => `-X ${chain}`),
      'COMMIT',
      '',
    ])
  })

  it('sweeps up the chain of a trial that was killed, and makes none', () => {
    const sweeping = ['KNOCKTURN-CHECK - [0:0]', '-X KNOCKTURN-CHECK']
    expect(linesOf({ chains: [...OURS, 'KNOCKTURN-CHECK'] }).slice(-4)).toEqual([`:${sweeping[0]}`, sweeping[1], 'COMMIT', ''])
    expect(linesOf({ chains: OURS }).join('\n')).not.toContain('KNOCKTURN-CHECK')
  })

  it('is not taken away where it is not', () => {
    expect(removeScript({ ...bare, chains: ['MINE'], input: [ESTABLISHED] })).toBeNull()
  })
})
