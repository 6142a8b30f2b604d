import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Lease, Lock } from '../../src/gate/leases'
import {
  hearsDatagrams,
  installScript,
  parseTable,
  removeScript,
  type Table,
  type TapRules,
} from '../../src/host/firewall/chains'
import { leaseRule, lockRule, readRule, ruleName } from '../../src/host/firewall/rules'
import { KEY_ID } from '../../src/host/key-file'

const FINGERPRINT = '00112233445566778899aabbccddeeff'
/** The kernel's stop is the last second that still matches. */
const UNTIL = Date.UTC(2026, 10, 22, 23, 12, 48) / 1000
const LEASE: Lease = {
  ...{ id: 'ef0ef869', key: 'alice', fingerprint: FINGERPRINT, address: '198.51.100.2' },
  ...{ protocol: 'tcp', port: 22, once: false, until: UNTIL },
}
const LOCK: Lock = { id: 'ef0ef869', key: 'alice', fingerprint: FINGERPRINT, address: '198.51.100.2', until: UNTIL }

/** A rule's arguments as `iptables -S` 1.8.9 prints the rule that they make. */
function printed(args: readonly string[]): string {
  const text = args.join(' ')
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
  // What the kernel's time match can say ends in 2038.
  const until = fc.integer({ min: Date.UTC(2020) / 1000, max: Date.UTC(2038) / 1000 })

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
        expect(readRule(printed(leaseRule(lease)))).toEqual({ lease })
      }),
    )
  })

  it('gives back its lock', () => {
    fc.assert(
      fc.property(fc.record({ ...common, until }), (lock) => {
        expect(readRule(printed(lockRule(lock)))).toEqual({ lock })
      }),
    )
  })

  it.each<[string, string, ReturnType<typeof readRule>]>([
    [
      'a lease for one connection',
      `-A KNOCKTURN-LEASES -s 198.51.100.2/32 -p tcp -m tcp --dport 22 -m time --datestop 2026-11-22T23:12:47 -m conntrack --ctstate NEW -m hashlimit --hashlimit-upto 1/day --hashlimit-burst 1 --hashlimit-mode srcip --hashlimit-name ktef0ef869.0 -m comment --comment "knockturn:lease:ef0ef869.0:alice:${FINGERPRINT}" -j ACCEPT`,
      { lease: { ...LEASE, id: 'ef0ef869.0', once: true } },
    ],
    [
      'a lease until closed',
      `-A KNOCKTURN-LEASES -s 198.51.100.2/32 -p udp -m udp --dport 53 -m comment --comment "knockturn:lease:ef0ef869:a-l.i_ce:${FINGERPRINT}" -j ACCEPT`,
      { lease: { ...LEASE, key: 'a-l.i_ce', protocol: 'udp', port: 53, until: null } },
    ],
    [
      'a lease over IPv6',
      `-A KNOCKTURN-LEASES -s 2001:db8:1::2/128 -p tcp -m tcp --dport 22 -m time --datestop 2026-11-22T23:12:47 -m comment --comment "knockturn:lease:ef0ef869:alice:${FINGERPRINT}" -j ACCEPT`,
      { lease: { ...LEASE, address: '2001:db8:1::2' } },
    ],
    [
      'a lock',
      `-A KNOCKTURN-LEASES -s 198.51.100.2/32 -m time --datestop 2026-11-22T23:12:47 -m comment --comment "knockturn:lock:ef0ef869:alice:${FINGERPRINT}"`,
      { lock: LOCK },
    ],
    [
      'a lock over IPv6',
      `-A KNOCKTURN-LEASES -s 2001:db8:1::2/128 -m time --datestop 2026-11-22T23:12:47 -m comment --comment "knockturn:lock:ef0ef869:alice:${FINGERPRINT}"`,
      { lock: { ...LOCK, address: '2001:db8:1::2' } },
    ],
  ])('is read as iptables 1.8.9 printed it (%s)', (_, line, rule) => {
    expect(readRule(line)).toEqual(rule)
  })

  it('is read as iptables 1.8.9 printed it for one connection from a block', () => {
    const line = `-A KNOCKTURN-LEASES -s 198.51.100.0/24 -p tcp -m tcp --dport 22 -m time --datestop 2026-11-22T23:12:47 -m conntrack --ctstate NEW -m hashlimit --hashlimit-upto 1/day --hashlimit-burst 1 --hashlimit-mode srcip --hashlimit-name ktef0ef869 --hashlimit-srcmask 24 -m comment --comment "knockturn:lease:ef0ef869:alice:${FINGERPRINT}" -j ACCEPT`
    expect(readRule(line)).toEqual({ lease: { ...LEASE, address: '198.51.100.0/24', once: true } })
  })

  it('for one connection from a block counts all of its addresses as one', () => {
    const rule = leaseRule({ ...LEASE, address: '198.51.100.0/24', once: true }).join(' ')
    expect(rule).toContain('--hashlimit-mode srcip --hashlimit-htable-expire 86400000 --hashlimit-srcmask 24 ')
  })

  it('is no lock for a block', () => {
    expect(readRule(printed(lockRule({ ...LOCK, address: '198.51.100.0/24' })))).toBeNull()
  })

  it('of a lock has no target', () => {
    expect(lockRule(LOCK)).not.toContain('-j')
  })

  it('of an ordinary lease has no hashlimit', () => {
    expect(leaseRule(LEASE)).not.toContain('hashlimit')
  })

  const line = printed(leaseRule(LEASE))
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

  it('that is a lock beyond the last second that iptables can say is read back, and has the same name', () => {
    const rule = lockRule({ ...LOCK, until: 2 ** 31 + 1 })
    expect(readRule(printed(rule))?.lock?.until).toBe(2 ** 31 - 1)
    expect(ruleName(printed(rule).replaceAll('"', '').split(' '))).toBe(ruleName(rule))
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
  const OURS = ['KNOCKTURN', 'KNOCKTURN-LEASES', 'KNOCKTURN-TAPS']
  const linesOf = (table: Partial<Table>, taps: TapRules | null = TAPS) => installScript({ ...bare, ...table }, taps).split('\n')
  const own = '-A KNOCKTURN -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT'

  it('is one step for the kernel', () => {
    const lines = linesOf({})
    expect([lines[0], ...lines.slice(-2)]).toEqual(['*filter', 'COMMIT', ''])
    expect(lines.filter((line) => line === 'COMMIT')).toHaveLength(1)
  })

  it('touches nothing of the administrator’s but for one jump', () => {
    const rules = linesOf({ input: [ESTABLISHED] }).slice(1, -2)
    expect(rules.filter((line) => !/^(-A |:)KNOCKTURN(-LEASES|-TAPS)? /.test(line))).toEqual(['-I INPUT 2 -j KNOCKTURN'])
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
    expect(linesOf({ input }).filter((line) => line.includes('INPUT'))).toEqual([`-I INPUT ${place} -j KNOCKTURN`])
  })

  it('accepts established connections by itself where nothing does', () => {
    expect(linesOf({})).toContain(own)
  })

  it('leaves that to the administrator’s rule where there is one', () => {
    expect(linesOf({ input: [ESTABLISHED] })).not.toContain(own)
  })

  it('accepts them before it looks at leases, and those before it drops', () => {
    const order = linesOf({}).filter((line) => line.startsWith('-A KNOCKTURN '))
    expect(order).toEqual([own, '-A KNOCKTURN -j KNOCKTURN-LEASES', '-A KNOCKTURN -j KNOCKTURN-TAPS'])
  })

  it('jumps once, however often', () => {
    expect(linesOf({ chains: OURS, input: [ESTABLISHED, JUMP] }).filter((line) => line.includes('INPUT'))).toEqual([])
  })

  it('empties the chains that it fills, however often', () => {
    const lines = linesOf({ chains: OURS, input: [JUMP] })
    expect(lines.filter((line) => line.startsWith(':'))).toEqual([':KNOCKTURN - [0:0]', ':KNOCKTURN-TAPS - [0:0]'])
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

  it('leave room for a knock beside a scan of 1,000 packets a second from the same address', () => {
    for (const line of linesOf({}).filter((rule) => rule.includes('-j NFLOG')))
      expect(Number(/--hashlimit-upto (\d+)\/sec/.exec(line)?.[1])).toBeGreaterThanOrEqual(2_000)
  })

  it('logs by the kernel’s log where that is heard, below what a console shows, within the same limit', () => {
    const rules = (target: TapRules['target']) => linesOf({}, { ...TAPS, target }).filter((line) => / -j (NF)?LOG /.test(line))
    const asLog = rules('nflog').map((line) => line.replace(/-j .*/, '-j LOG --log-level debug --log-prefix "KNOCK: "'))
    expect([rules('log').length, rules('log')]).toEqual([2, asLog])
  })

  it('logs nothing of TCP but SYN', () => {
    const tcp = linesOf({}).filter((line) => line.includes('-p tcp') && line.includes('-j NFLOG'))
    expect(tcp).toEqual([expect.stringContaining(' --syn ')])
  })

  it('drops what it heard, and rejects nothing', () => {
    const lines = linesOf({})
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
    const script = installScript(parseTable(family, ''), { ...TAPS, datagrams: [53, 443] })
    const lines = script.split('\n').filter((line) => line.includes('--dports 53,443'))
    const flow = '-m conntrack ! --ctstate ESTABLISHED,RELATED'
    const port = '-p udp -m multiport --dports 53,443'
    expect(lines).toEqual([
      expect.stringContaining(
        `-A KNOCKTURN-TAPS ${port} -m length --length ${short} ${flow} -m hashlimit --hashlimit-upto 2000/sec`,
      ),
      expect.stringContaining(
        `-A KNOCKTURN-TAPS ${port} -m length --length ${long} ${flow} -m hashlimit --hashlimit-upto 2000/sec`,
      ),
      `-A KNOCKTURN-TAPS ! -i lo ${port} ${flow} -j DROP`,
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
    const table = parseTable('iptables', installScript(bare, { ...TAPS, datagrams: installed }))
    expect(hearsDatagrams(table, wanted)).toBe(hears)
  })

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

  it('is not taken away where it is not', () => {
    expect(removeScript({ ...bare, chains: ['MINE'], input: [ESTABLISHED] })).toBeNull()
  })
})
