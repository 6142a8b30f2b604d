import { describe, expect, it } from 'vitest'
import { guards, merged, NO_GUARD, parseGuarded } from '../../../src/daemon/guard'
import { areWhole } from '../../../src/daemon/marks'
import { ElementReader, isCurrent, isWhole, parseTable } from '../../../src/daemon/nftables/listing'
import { BASE, failOpenLines, rulesetLines, rulesetMarks } from '../../../src/daemon/nftables/ruleset'
import { type Cidr, parseCidr } from '../../../src/protocol/address'
import { formatGuarded } from '../guarded'

const GUARD = { ...NO_GUARD, ports: [{ protocol: 'tcp' as const, ports: [22, 22] as const }] }
const TAPS = { ranges: [[49_152, 65_535]], target: 'nflog', group: 5, prefix: 'KNOCK: ' } as const
const RULES = { guard: GUARD, taps: TAPS }

/** A listing of a table with these rules, as nft prints it, but for what `change` does to the items. */
function listing(rules = RULES, change: (items: Record<string, object>[]) => unknown = () => {}) {
  const items: Record<string, object>[] = [{ set: { name: 'open4_32' } }, { map: { name: 'once6_64_1' } }]
  for (const [chain, marks] of rulesetMarks(rules)) {
    const base = chain === BASE.chain ? { hook: 'prerouting', prio: -110, policy: 'accept' } : {}
    items.push({ chain: { name: chain, ...base } }, ...marks.map((comment) => ({ rule: { chain, comment } })))
  }
  items.push({ rule: { chain: 'open', comment: 'open4_32' } }, { rule: { chain: 'once', comment: 'once6_64_1' } })
  change(items)
  return parseTable(JSON.stringify({ nftables: items }))
}
const at = (items: Record<string, object>[], chain: string) =>
  items.findIndex(({ rule }) => (rule as { chain?: string } | undefined)?.chain === chain)

describe('a table', () => {
  it('is whole as it was made', () => {
    expect([isWhole(listing()), isCurrent(listing(), RULES)]).toEqual([true, true])
  })

  it.each<[string, (items: Record<string, object>[]) => unknown]>([
    ['without a rule', (items) => items.splice(at(items, 'gate'), 1)],
    ['without the last rule', (items) => items.splice(at(items, 'open') - 1, 1)],
    [
      'with a chain that is empty',
      (items) =>
        items
          .filter(({ rule }) => (rule as { chain?: string })?.chain === 'gate')
          .map((one) => items.splice(items.indexOf(one), 1)),
    ],
    ['with a rule of another between ours', (items) => items.splice(at(items, 'gate'), 0, { rule: { chain: 'gate' } })],
    ['with a rule of ours twice', (items) => items.splice(at(items, 'gate'), 0, { ...items[at(items, 'gate')] })],
    [
      'with two rules in each other’s place',
      (items) => items.splice(at(items, 'gate'), 2, ...items.slice(at(items, 'gate'), at(items, 'gate') + 2).reverse()),
    ],
    ['with a chain of another', (items) => items.push({ chain: { name: 'theirs' } }, { rule: { chain: 'theirs' } })],
    ['without the rule of a set of leases', (items) => items.splice(at(items, 'open'), 1)],
    ['with another accept before the leases', (items) => items.push({ rule: { chain: 'once', comment: 'theirs' } })],
    [
      'without its hook',
      (items) =>
        items.splice(
          items.findIndex(({ chain }) => (chain as { hook?: string })?.hook),
          1,
          { chain: { name: BASE.chain } },
        ),
    ],
    [
      'with another policy',
      (items) =>
        items.splice(
          items.findIndex(({ chain }) => (chain as { hook?: string })?.hook),
          1,
          { chain: { name: BASE.chain, hook: 'prerouting', prio: -110, policy: 'drop' } },
        ),
    ],
  ])('is not whole %s', (_, change) => {
    expect(isWhole(listing(RULES, change))).toBe(false)
  })

  it.each([
    [
      'other ports are guarded',
      { ...RULES, guard: { ...GUARD, ports: [{ protocol: 'tcp' as const, ports: [22, 23] as const }] } },
    ],
    ['nothing is guarded', { ...RULES, guard: NO_GUARD }],
    ['another pool is heard', { ...RULES, taps: { ...TAPS, ranges: [[50_000, 65_535]] as const } }],
    ['datagrams are heard', { ...RULES, taps: { ...TAPS, datagrams: [53] } }],
    ['another group is told', { ...RULES, taps: { ...TAPS, group: 6 } }],
    ['nothing is heard', { ...RULES, taps: null }],
  ])('is whole and of another config where %s', (_, wanted) => {
    expect([isWhole(listing()), isCurrent(listing(), wanted)]).toEqual([true, false])
  })

  it('that is not there is not whole', () => {
    expect(isWhole(parseTable('{"nftables": []}'))).toBe(false)
    expect(areWhole([])).toBe(false)
  })

  it('hears 2,000 packets a second of each source: of an IPv4 address, and of an IPv6 /64', () => {
    const limits = rulesetLines(RULES).filter((line) => line.includes('@sources'))
    expect(limits.map((line) => /\{ (.*?) \}/.exec(line)?.[1])).toEqual([
      'ip saddr limit rate over 2000/second burst 2000 packets',
      'ip6 saddr & ffff:ffff:ffff:ffff:: limit rate over 2000/second burst 2000 packets',
    ])
  })

  it('has room for 262,144 sources of each family', () => {
    const sets = rulesetLines(RULES).filter((line) => line.includes(' sources'))
    expect(sets.map((line) => /(sources\d) .*size (\d+);/.exec(line)?.slice(1))).toEqual([
      ['sources4', '262144'],
      ['sources6', '262144'],
    ])
  })

  it('takes no word of the config for a rule', () => {
    const lines = rulesetLines({ ...RULES, taps: { ...TAPS, prefix: 'a" accept # \\' } })
    expect(lines.filter((line) => line.includes('accept #'))).toEqual([
      expect.stringContaining('log prefix "a\\" accept # \\\\" group 5'),
    ])
  })
})

describe('guarded ports', () => {
  it.each(['22/tcp', '60000-61000/udp', '1-65535/tcp'])('are written as they are read: %s', (text) => {
    expect(formatGuarded(parseGuarded(text) as never)).toBe(text)
  })

  it.each([
    '22',
    'tcp',
    '22/icmp',
    '0/tcp',
    '65536/tcp',
    '30-20/tcp',
    '20-30',
    '1-2-3/tcp',
    ' 22/tcp',
    '20-/tcp',
    '-20/tcp',
    '022/tcp',
  ])('are none: %s', (text) => {
    expect(parseGuarded(text)).toBeNull()
  })

  it('are merged where they overlap or touch, by protocol: nft takes no overlaps', () => {
    const guard = ['443/tcp', '20-30/tcp', '22/tcp', '31/tcp', '31/udp', '25-40/tcp'].map((text) => parseGuarded(text) as never)
    expect(merged(guard).map(formatGuarded)).toEqual(['20-40/tcp', '443/tcp', '31/udp'])
  })

  it('guard what lies in them', () => {
    const guard = merged(['20-30/tcp'].map((text) => parseGuarded(text) as never))
    const ports = [19, 20, 30, 31].map((port) => guards(guard, { protocol: 'tcp', port }))
    expect([...ports, guards(guard, { protocol: 'udp', port: 25 })]).toEqual([false, true, true, false, false])
  })
})

describe('the elements of a listing', () => {
  const comment = `51c851a1:alice:${'5'.repeat(32)}:1800000300:32:once`
  const place = { version: 4, bits: 32, round: 0 } as const

  it.each([
    ['by their names', 'tcp'],
    ['by their numbers, where there is no /etc/protocols', 6],
    ['by their numbers as text', '6'],
  ])('have protocols %s', (_, protocol) => {
    const reader = new ElementReader()
    reader.takeListed(
      'leases4',
      JSON.stringify({ elem: { val: { concat: [1, '198.51.100.7', protocol, 22] }, timeout: 300, expires: 299, comment } }),
    )
    reader.takeMet(place, JSON.stringify([{ elem: { val: { concat: ['198.51.100.7', protocol, 22] } } }, 'once_51c851a1']))
    const [entry] = reader.entries
    expect(entry).toMatchObject({ key: 'alice', address: '198.51.100.7', protocol: 'tcp', port: 22, once: true })
    expect(reader.left.get(entry as never)).toBe(300_000)
    expect([...reader.met.keys()]).toEqual(['once4_32_0 198.51.100.7 . tcp . 22'])
    expect([...reader.rounds.values()]).toEqual([0])
    expect(reader.others).toEqual([])
  })

  it('that are not of our making are named, and are no leases', () => {
    const reader = new ElementReader()
    reader.takeListed('locks4', JSON.stringify({ concat: [2, '1.2.3.5'] }))
    expect([reader.entries, reader.others]).toEqual([[], ['locks4 {"concat":[2,"1.2.3.5"]}']])
  })
})

describe('fail_open_to', () => {
  const failOpen = { minutes: 10, blocks: ['198.51.100.0/24', '2001:db8::/32'].map((text) => parseCidr(text) as Cidr) }
  const opened = { guard: { ...GUARD, failOpen }, taps: TAPS }

  it('changes nothing in the rules where it is not set', () => {
    expect([rulesetLines(RULES).filter((line) => line.includes('failopen')), failOpenLines(GUARD)]).toEqual([[], []])
  })

  it('gives the table a chain that nothing empties but what is made for it', () => {
    expect(rulesetLines(opened).filter((line) => line.includes('failopen'))).toEqual([
      'add chain inet knockturn failopen',
      expect.stringContaining('add rule inet knockturn guard jump failopen comment'),
    ])
  })

  it('opens the guarded ports to its blocks, and nothing else', () => {
    const to = 'meta l4proto . th dport { tcp . 22 } accept comment "knockturn:fail-open"'
    expect(failOpenLines(opened.guard)).toEqual([
      '## minutes: 10',
      'flush chain inet knockturn failopen',
      `add rule inet knockturn failopen ip saddr 198.51.100.0/24 ${to}`,
      `add rule inet knockturn failopen ip6 saddr 2001:db8::/32 ${to}`,
    ])
  })

  it('leaves a table whole and current when it has opened', () => {
    const table = listing(opened, (items) => items.push({ rule: { chain: 'failopen', comment: 'knockturn:fail-open' } }))
    expect([isWhole(table), isCurrent(table, opened), isCurrent(table, RULES)]).toEqual([true, true, false])
  })
})
