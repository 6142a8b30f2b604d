import { describe, expect, it } from 'vitest'
import { bridgesIn, guardOfNow, RecentNetworks } from '../../src/daemon/bridges'
import { allBut, guards, NO_GUARD, parseGuarded, parseInterface } from '../../src/daemon/guard'
import { failOpenScript, guardScript } from '../../src/daemon/iptables/guard'
import { commentOf, failOpenRules, guardRules, markedRules } from '../../src/daemon/iptables/guard-rules'
import { parseTable } from '../../src/daemon/iptables/table'
import { areWhole, marksOf } from '../../src/daemon/marks'
import { formatCidr, parseCidr } from '../../src/protocol/address'
import { formatGuarded } from './guarded'

const portsOf = (...texts: string[]) => texts.map((text) => parseGuarded(text) as never)

describe('all ports but some', () => {
  it('are all but those, and but the ones to which DHCP answers', () => {
    expect(allBut(portsOf('443/tcp', '50-60/udp')).map(formatGuarded)).toEqual([
      ...['1-442/tcp', '444-65535/tcp'],
      ...['1-49/udp', '61-67/udp', '69-545/udp', '547-65535/udp'],
    ])
  })

  it('are none of a protocol that is public as a whole', () => {
    expect(allBut(portsOf('1-65535/tcp')).every(({ protocol }) => protocol === 'udp')).toBe(true)
  })

  it('hold each port that is not public, and none that is', () => {
    const all = allBut(portsOf('1/tcp', '65535/tcp', '100-200/tcp'))
    const held = [1, 2, 99, 100, 200, 201, 65_534, 65_535].map((port) => guards(all, { protocol: 'tcp', port }))
    expect(held).toEqual([false, true, true, false, false, true, true, false])
  })
})

describe('the name of an interface', () => {
  it.each(['eth0', 'br-*', 'wlp2s0', 'eth0.100', 'wg-home', 'a*'])('may be %s', (name) => {
    expect(parseInterface(name)).toBe(name)
  })

  it.each(['', '*', 'a b', 'eth0"', 'br-**', '-i', 'a/b', 'eth0;drop', 'x'.repeat(16), 'br*x', 'é'])('cannot be %j', (name) => {
    expect(parseInterface(name)).toBeNull()
  })
})

describe('the networks of containers', () => {
  const of = (cidr: string) => [{ cidr }]
  const interfaces = {
    eth0: of('203.0.113.7/24'),
    docker0: [...of('172.17.0.1/16'), ...of('fd00:17::1/64'), ...of('fe80::1/64')],
    'br-0123456789ab': of('172.18.0.1/16'),
    podman0: of('10.88.0.1/16'),
    br0: of('192.168.1.1/24'),
    'br-lan': of('192.168.2.1/24'),
    virbr0: of('192.168.122.1/24'),
  }
  const isBridge = (name: string) => name !== 'eth0'
  const { names, networks } = bridgesIn(interfaces, Object.keys(interfaces), isBridge)

  it('are those of the bridges that Docker and Podman make, and of no other bridge', () => {
    expect(networks.map(formatCidr)).toEqual(['172.17.0.0/16', 'fd00:17::/64', '172.18.0.0/16', '10.88.0.0/16'])
  })

  it('have all bridges of the machine on their inside', () => {
    expect(names).toEqual(Object.keys(interfaces).filter(isBridge))
  })

  it('are none of a name alone: an interface called docker0 may be no bridge', () => {
    expect(bridgesIn(interfaces, Object.keys(interfaces), () => false)).toEqual({ names: [], networks: [] })
  })

  it('are the same for a daemon and for a look from outside, in whatever order they are found', () => {
    const found = ['172.18.0.0/16', '10.88.0.0/16', '172.18.0.0/16', 'fd00:17::/64'].map((text) => parseCidr(text) as never)
    const guard = { ports: portsOf('22/tcp'), interfaces: [], blocks: [] }
    const inDaemon = new RecentNetworks().with(found, 0)
    expect(inDaemon.map(formatCidr)).toEqual(['10.88.0.0/16', '172.18.0.0/16', 'fd00:17::/64'])
    for (const networks of [found, found.toReversed()]) expect(guardOfNow({ ...guard, networks }).networks).toEqual(inDaemon)
  })
})

describe('a network whose bridge is gone', () => {
  const block = (text: string) => parseCidr(text) as never
  const minute = 60_000

  it('counts for ten minutes more, while its bridge may be made anew', () => {
    const recent = new RecentNetworks()
    const seen = (now: number, ...networks: string[]) => recent.with(networks.map(block), now).map(formatCidr)
    expect(seen(0, '172.18.0.0/16', '172.17.0.0/16')).toEqual(['172.17.0.0/16', '172.18.0.0/16'])
    expect(seen(9 * minute, '172.17.0.0/16')).toEqual(['172.17.0.0/16', '172.18.0.0/16'])
    expect(seen(11 * minute, '172.17.0.0/16')).toEqual(['172.17.0.0/16'])
  })

  it('is forgotten where there are too many, and those of now are not', () => {
    const recent = new RecentNetworks()
    for (let n = 0; n < 300; n++) recent.with([block(`10.${n >> 8}.${n & 255}.0/24`)], n)
    const left = recent.with([block('172.17.0.0/16')], 300).map(formatCidr)
    expect([left.length, left.includes('172.17.0.0/16')]).toEqual([256, true])
  })
})

describe('the rules of a guard, for iptables', () => {
  const guard = {
    ...NO_GUARD,
    ports: portsOf(...Array.from({ length: 20 }, (_, n) => `${1_000 + 2 * n}/tcp`), '5000-5001/udp'),
    interfaces: ['br-*'],
    blocks: ['10.0.0.0/8', '2001:db8::/32'].map((text) => parseCidr(text) as never),
  }
  const rules = guardRules('iptables', { guard, taps: null })
  const main = rules.get('KNOCKTURN') ?? []

  it('name no more ports in one rule than it takes', () => {
    const lists = main.flatMap((rule) => /--dports (\S+)/.exec(rule)?.[1]?.split(',') ?? [])
    expect(
      main
        .filter((rule) => rule.includes('--dports 1000'))
        .map((rule) => rule.split('--dports ')[1]?.split(' ')[0]?.split(',').length),
    ).toEqual([15])
    expect(lists.filter((port) => /^1\d{3}$/.test(port))).toHaveLength(20)
  })

  it('have the blocks of their own family', () => {
    expect(main.filter((rule) => rule.includes(' -s '))).toEqual(['-A KNOCKTURN -s 10.0.0.0/8 -j RETURN'])
    const six = guardRules('ip6tables', { guard, taps: null }).get('KNOCKTURN') ?? []
    expect(six.filter((rule) => rule.includes(' -s '))).toEqual(['-A KNOCKTURN -s 2001:db8::/32 -j RETURN'])
  })

  it('write an interface’s star as iptables does', () => {
    expect(main).toContain('-A KNOCKTURN -i br-+ -j RETURN')
  })

  it('are whole by their comments, and not without one of them', () => {
    const comments = markedRules(rules).map(commentOf)
    expect(areWhole([comments])).toBe(true)
    expect(areWhole([comments.slice(1)])).toBe(false)
    expect(areWhole([comments.slice(0, -1)])).toBe(false)
  })

  it('drop what belongs to no connection only where all connections are known', () => {
    const drops = (isStrict: boolean) =>
      (guardRules('iptables', { guard: { ...guard, isStrict }, taps: null }).get('KNOCKTURN') ?? []).filter((rule) =>
        rule.includes('NEW,INVALID -j DROP'),
      )
    expect([drops(false).length, drops(true).length]).toEqual([0, 2])
  })
})

it('two rulesets that differ have different marks', () => {
  const marks = (...rules: string[]) => [...marksOf(new Map([['a', rules]])).values()].join()
  expect(new Set([marks('x'), marks('y'), marks('x', 'y')]).size).toBe(3)
})

describe('fail_open_to with iptables', () => {
  const failOpen = { minutes: 10, blocks: ['198.51.100.0/24', '2001:db8::/32'].map((text) => parseCidr(text) as never) }
  const guard = { ...NO_GUARD, ports: portsOf('22/tcp', '60000-61000/udp') }
  const opened = { guard: { ...guard, failOpen }, taps: null }

  it('changes nothing in the rules where it is not set', () => {
    const rules = [...guardRules('iptables', { guard, taps: null }).values()].flat()
    expect([rules.filter((rule) => rule.includes('FAILOPEN')), failOpenRules('iptables', guard)]).toEqual([[], []])
  })

  it.each([
    ['iptables', '198.51.100.0/24'],
    ['ip6tables', '2001:db8::/32'],
  ] as const)('opens with %s the guarded ports to the blocks of its kind, and nothing else', (family, block) => {
    const rest = '-m comment --comment knockturn:fail-open -j ACCEPT'
    expect(failOpenRules(family, opened.guard)).toEqual([
      `-A KNOCKTURN-FAILOPEN -s ${block} -p tcp -m multiport --dports 22 ${rest}`,
      `-A KNOCKTURN-FAILOPEN -s ${block} -p udp -m multiport --dports 60000:61000 ${rest}`,
    ])
    expect(failOpenScript(family, opened)?.split('\n').slice(0, 3)).toEqual([
      '## minutes: 10',
      '*mangle',
      ':KNOCKTURN-FAILOPEN - [0:0]',
    ])
  })

  it('is led to behind what lets loopback pass, by a chain that an installation leaves as it is', () => {
    const main = guardRules('iptables', opened).get('KNOCKTURN') ?? []
    expect(main[2]).toBe('-A KNOCKTURN -j KNOCKTURN-FAILOPEN')
    const there = parseTable('iptables', '-N KNOCKTURN-FAILOPEN\n')
    const made = (table: typeof there) => guardScript(table, opened, null).includes(':KNOCKTURN-FAILOPEN - [0:0]')
    expect([made(there), made(parseTable('iptables', ''))]).toEqual([false, true])
  })
})
