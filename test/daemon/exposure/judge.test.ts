import { describe, expect, it } from 'vitest'
import { type Judgment, judgeFor, type Stage } from '../../../src/daemon/exposure/judge'
import { toNumber } from '../../../src/daemon/exposure/matches'
import { installScript } from '../../../src/daemon/iptables/chains'
import { type Family, parseTable } from '../../../src/daemon/iptables/table'
import type { Service } from '../../../src/protocol/service'

/* Rules as real systems have them, as `iptables -S` prints them. */

const SSH: Service = { port: 22, protocol: 'tcp' }

interface Place {
  family?: Family
  service?: Service
  interfaces?: string[]
  addresses?: string[]
  /** Chains that can't be read. */
  unread?: string[]
  /** Tables in front, by their name and base chain. */
  before?: [table: string, base: string, text: string][]
}

const stageOf = (table: string, base: string, text: string, family: Family, unread: string[] = []): Stage => {
  const { chains, rules } = parseTable(family, text)
  const own = [base, ...chains].map((name) => [name, rules.get(name) ?? []] as const)
  const hidden = unread.map((name) => [name, null] as const)
  return {
    table,
    base,
    policy: new RegExp(`^-P ${base} (\\S+)`, 'm').exec(text)?.[1] ?? null,
    chains: new Map([...own, ...hidden]),
  }
}

function judge(text: string, place: Place = {}): Judgment {
  const { family = 'iptables', service = SSH, interfaces = ['eth0'], unread, before = [] } = place
  const { addresses = [family === 'iptables' ? '198.51.100.1' : '2001:db8:7::1'] } = place
  const around = { family, interfaces, addresses: addresses.map((one) => toNumber(one) as bigint), services: [service] }
  const stages = before.map(([table, base, own]) => stageOf(table, base, own, family))
  return judgeFor([...stages, stageOf('filter', 'INPUT', text, family, unread)], around)(service)
}

const open = (line: string) => ({ state: 'open', why: { kind: 'rule', line } })
const unknown = (line: string) => ({ state: 'unknown', why: { kind: 'rule', line } })
const openByPolicy = { state: 'open', why: { kind: 'policy' } }
const shut = { state: 'shut' }
/** Rules of INPUT behind a policy. */
const input = (policy: string, ...rules: string[]) =>
  [`-P INPUT ${policy}`, ...rules.map((rule) => `-A INPUT ${rule}`)].join('\n')

const ESTABLISHED = '-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT'
const ACCEPT_SSH = '-p tcp -m tcp --dport 22 -j ACCEPT'

describe('a plain INPUT', () => {
  it.each([
    ['nothing', input('ACCEPT')],
    ['what tutorials begin with', input('ACCEPT', '-i lo -j ACCEPT', ESTABLISHED)],
    ['a drop of another port', input('ACCEPT', '-p tcp -m tcp --dport 3306 -j DROP')],
    ['a drop of invalid packets', input('ACCEPT', '-m conntrack --ctstate INVALID -j DROP')],
    ['a drop of bogus flags', input('ACCEPT', '-p tcp -m tcp --tcp-flags FIN,SYN,RST,PSH,ACK,URG NONE -j DROP')],
    [
      'a drop of what is new and no SYN',
      input('ACCEPT', '-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m state --state NEW -j DROP'),
    ],
    ['a drop of SYNs without other flags', input('ACCEPT', '-p tcp -m tcp --tcp-flags FIN,SYN,RST,PSH,ACK,URG SYN -j DROP')],
    ['a drop of some addresses', input('ACCEPT', '-s 203.0.113.0/24 -j DROP')],
    ['a drop of half of all addresses', input('ACCEPT', '-s 128.0.0.0/1 -j DROP')],
    [
      'a drop of what is too much',
      input(
        'ACCEPT',
        '-p tcp -m tcp --dport 22 -m connlimit --connlimit-above 3 --connlimit-mask 32 --connlimit-saddr -j REJECT --reject-with tcp-reset',
      ),
    ],
    [
      'a drop at night',
      input('ACCEPT', '-m time --timestart 22:00:00 --timestop 06:00:00 --datestop 2038-01-19T03:14:07 -j DROP'),
    ],
    ['a drop of a list', input('ACCEPT', '-m set --match-set blacklist src -j DROP')],
    ['a drop of martians by the wrong way', input('ACCEPT', '-m rpfilter --invert -j DROP')],
    ['a drop of what comes by IPsec', input('ACCEPT', '-m policy --dir in --pol ipsec -j DROP')],
    [
      'a drop of broadcasts',
      input('ACCEPT', '-m addrtype --dst-type BROADCAST -j DROP', '-m pkttype --pkt-type multicast -j DROP'),
    ],
    ['a drop of a mark that nobody sets', input('ACCEPT', '-m mark --mark 0x8000/0x8000 -j DROP')],
    [
      'a drop of more than some attempts',
      input(
        'ACCEPT',
        '-p tcp -m tcp --dport 22 -m state --state NEW -m recent --set --name DEFAULT --mask 255.255.255.255 --rsource',
        '-p tcp -m tcp --dport 22 -m state --state NEW -m recent --update --seconds 60 --hitcount 4 --name DEFAULT --mask 255.255.255.255 --rsource -j DROP',
      ),
    ],
    ['a chain that returns', `${input('ACCEPT', '-j A')}\n-N A\n-A A -p tcp -m tcp --dport 22 -j RETURN\n-A A -j DROP`],
    ['a chain from which some return', `${input('ACCEPT', '-j A')}\n-N A\n-A A -m limit --limit 3/min -j RETURN\n-A A -j DROP`],
    ['a goto that comes back behind all rules', `${input('ACCEPT', '-g A', '-j DROP')}\n-N A\n-A A -j LOG`],
    [
      'two gotos of which the second one drops',
      `${input('ACCEPT', '-m limit --limit 3/min -g A', '-g B')}\n-N A\n-N B\n-A A -j LOG\n-A B -j DROP`,
    ],
    ['a chain that logs by doubt', `${input('ACCEPT', '-m string --string x --algo bm -j A')}\n-N A\n-A A -j LOG`],
  ])('with policy ACCEPT and %s is open by its policy', (_, text) => {
    expect(judge(text)).toMatchObject(openByPolicy)
  })

  it.each([
    ['a drop of the port', input('ACCEPT', '! -i lo -p tcp -m tcp --dport 22 -j DROP')],
    ['a reject of the port', input('ACCEPT', '-p tcp -m tcp --dport 22 -j REJECT --reject-with icmp-port-unreachable')],
    ['a drop of all', input('ACCEPT', '-i lo -j ACCEPT', ESTABLISHED, '-j DROP')],
    ['a drop of what is new', input('ACCEPT', '-m conntrack --ctstate NEW -j DROP')],
    ['a drop of what is not established', input('ACCEPT', '-m state ! --state RELATED,ESTABLISHED -j DROP')],
    ['a drop of SYNs', input('ACCEPT', '-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP')],
    ['a drop of all but ours', input('ACCEPT', '! -s 203.0.113.0/24 -p tcp -m tcp --dport 22 -j DROP')],
    ['a drop of all ports but one', input('ACCEPT', '-p tcp -m multiport ! --dports 80,443 -j DROP')],
    ['a drop of a range', input('ACCEPT', '-p tcp -m tcp --dport 1:1023 -j DROP')],
    ['drops of both halves', input('ACCEPT', '-s 0.0.0.0/1 -j DROP', '-s 128.0.0.0/1 -j DROP')],
    ['a drop by a comment', input('ACCEPT', '-p tcp -m tcp --dport 22 -m comment --comment "no -j ACCEPT here" -j DROP')],
    ['a drop by a word for a comment', input('ACCEPT', '-p tcp -m tcp --dport 22 -m comment --comment -j -j DROP')],
    ['a drop of one’s own address', input('ACCEPT', '-d 198.51.100.1/32 -p tcp -j DROP')],
    ['a drop of what goes to us', input('ACCEPT', '-m addrtype --dst-type LOCAL -j DROP')],
    ['a goto that drops', `${input('ACCEPT', '-g A', '-j ACCEPT')}\n-N A\n-A A -j DROP`],
  ])('with policy ACCEPT and %s is shut', (_, text) => {
    expect(judge(text)).toMatchObject(shut)
  })

  it.each([
    ['nothing', input('DROP')],
    ['loopback and what is established', input('DROP', '-i lo -j ACCEPT', ESTABLISHED)],
    [
      'an accept of a network of one’s own',
      input('DROP', '-s 203.0.113.0/24 -p tcp -m tcp --dport 22 -j ACCEPT', '-s 10.0.0.0/8 -j ACCEPT'),
    ],
    [
      'an accept of groups and one’s own link',
      input('DROP', '-s 224.0.0.0/4 -j ACCEPT', '-d 224.0.0.0/4 -j ACCEPT', '-d 127.0.0.0/8 -j ACCEPT'),
    ],
    ['an accept by a tunnel', input('DROP', '-i wg0 -j ACCEPT', '-i docker0 -p tcp -j ACCEPT', '-i tun+ -j ACCEPT')],
    [
      'an accept of other ports',
      input('DROP', '-p tcp -m multiport --dports 80,443,1000:2000 -j ACCEPT', '-p udp -m udp --dport 22 -j ACCEPT'),
    ],
    ['an accept of ping', input('DROP', '-p icmp -m icmp --icmp-type 8 -j ACCEPT', '-p esp -j ACCEPT')],
    ['an accept of what is no TCP', input('DROP', '! -p tcp -j ACCEPT')],
    ['an accept of another address of ours', input('DROP', '-d 192.0.2.7/32 -j ACCEPT')],
    ['an accept of a range of friends', input('DROP', '-m iprange --src-range 203.0.113.5-203.0.113.77 -j ACCEPT')],
    ['an accept of fragments', input('DROP', '-f -j ACCEPT')],
    ['an accept of IPsec', input('DROP', '-m policy --dir in --pol ipsec -j ACCEPT')],
    ['an accept of what is forwarded', input('DROP', '-m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT')],
    [
      'an accept of no connection',
      input('DROP', '-m connlimit --connlimit-upto 0 --connlimit-mask 32 --connlimit-saddr -j ACCEPT'),
    ],
    ['an accept behind the drop', input('DROP', '-p tcp -m tcp --dport 22 -j DROP', ACCEPT_SSH)],
  ])('with policy DROP and %s is shut', (_, text) => {
    expect(judge(text)).toMatchObject(shut)
  })

  it.each([
    ['the port', ACCEPT_SSH],
    ['the port among others', '-p tcp -m multiport --dports 22,80,443 -j ACCEPT'],
    ['the port in a range', '-p tcp -m tcp --dport 1:1024 -j ACCEPT'],
    ['any port but one', '-p tcp -m tcp ! --dport 25 -j ACCEPT'],
    ['the port, new', '-p tcp -m state --state NEW -m tcp --dport 22 -j ACCEPT'],
    ['the port, not invalid', '-p tcp -m tcp --dport 22 -m conntrack ! --ctstate INVALID -j ACCEPT'],
    ['all TCP', '-p tcp -j ACCEPT'],
    ['all but UDP', '! -p udp -j ACCEPT'],
    ['everything', '-j ACCEPT'],
    ['the outer interface', '-i eth0 -j ACCEPT'],
    ['interfaces that begin so', '-i eth+ -j ACCEPT'],
    ['all interfaces but lo', '! -i lo -j ACCEPT'],
    ['half of all addresses', '-s 0.0.0.0/1 -p tcp -m tcp --dport 22 -j ACCEPT'],
    ['a seventh of all addresses', '-s 64.0.0.0/7 -p tcp -j ACCEPT'],
    ['addresses by a wide range', '-m iprange --src-range 11.0.0.0-99.255.255.255 -j ACCEPT'],
    ['all addresses but one’s own', '! -s 10.0.0.0/8 -j ACCEPT'],
    ['all addresses but one', '! -s 192.0.2.1/32 -p tcp -j ACCEPT'],
    ['our address', '-d 198.51.100.1/32 -p tcp -j ACCEPT'],
    ['some attempts', '-p tcp -m tcp --dport 22 -m limit --limit 3/min -j ACCEPT'],
    ['a flag that a SYN may have', '-p tcp -m tcp --tcp-flags PSH PSH -j ACCEPT'],
    ['a country', '-p tcp -m tcp --dport 22 -m geoip --source-country DE -j ACCEPT'],
    ['who is not banned', '-p tcp -m tcp --dport 22 -m set ! --match-set banned src -j ACCEPT'],
    ['addresses as everybody has', '-m addrtype --src-type UNICAST -j ACCEPT'],
    ['a port of one’s own', '-p tcp -m tcp --sport 53 -j ACCEPT'],
    ['what is not by IPsec', '-p tcp -m policy --dir in --pol none -m tcp --dport 22 -j ACCEPT'],
    ['by a comment', '-p tcp -m tcp --dport 22 -m comment --comment "ssh ! -s 10.0.0.0/8" -j ACCEPT'],
  ])('that accepts %s is open, and names the rule', (_, rule) => {
    expect(judge(input('DROP', ESTABLISHED, rule))).toMatchObject(open(`-A INPUT ${rule}`))
  })

  it.each([
    [
      'another port knocker',
      '-p tcp -m tcp --dport 22 -m recent --rcheck --seconds 30 --name KNOCK --mask 255.255.255.255 --rsource -j ACCEPT',
    ],
    ['a set of friends', '-m set --match-set friends src -j ACCEPT'],
    ['a MAC address', '-m mac --mac-source 00:11:22:33:44:55 -j ACCEPT'],
    ['what a program says', '-m bpf --object-pinned /sys/fs/bpf/x -j ACCEPT'],
    ['a match that nobody knows', '-p tcp -m weather --is sunny -j ACCEPT'],
    ['a mask with holes', '-s 10.0.0.1/255.0.0.255 -j ACCEPT'],
    ['a length', '-m length --length 40:60 -j ACCEPT'],
    ['other options of conntrack', '-m conntrack --ctstate NEW --ctorigdstport 22 -j ACCEPT'],
  ])('that accepts %s is unknown, and names the rule', (_, rule) => {
    expect(judge(input('DROP', rule))).toMatchObject(unknown(`-A INPUT ${rule}`))
  })

  it.each([
    ['a drop of all but a set', '-m set ! --match-set friends src -j DROP'],
    ['a drop of what nobody knows', '-m weather --is sunny -j DROP'],
    ['a drop of a set of ports', '-p tcp -m set --match-set ports dst -j DROP'],
    ['a queue to a program', '-j NFQUEUE --queue-num 0'],
    ['a target that nobody knows', '-p tcp -m tcp --dport 22 -j TARPIT'],
  ])('with policy ACCEPT and %s is unknown, and names the rule', (_, rule) => {
    expect(judge(input('ACCEPT', rule))).toMatchObject(unknown(`-A INPUT ${rule}`))
  })

  it('counts a mark that a rule before may have set', () => {
    const rule = '-m mark --mark 0x1 -j ACCEPT'
    expect(judge(input('DROP', rule))).toMatchObject(shut)
    expect(judge(input('DROP', '-p tcp -m tcp --dport 22 -j MARK --set-xmark 0x1/0xffffffff', rule))).toMatchObject(
      unknown(`-A INPUT ${rule}`),
    )
  })

  it.each([
    ['that it is sent to', '-j A', ''],
    ['that a chain goes on to', '-j B', '\n-N B\n-A B -g A'],
  ])('counts a mark that a chain may have set %s', (_, jump, more) => {
    const rule = '-m mark --mark 0x1 -j ACCEPT'
    const text = `${input('DROP', jump, rule)}\n-N A\n-A A -j MARK --set-xmark 0x1/0xffffffff${more}`
    expect(judge(text)).toMatchObject(unknown(`-A INPUT ${rule}`))
  })

  it('is unknown where its policy can’t be read', () => {
    expect(judge('-A INPUT -j DROP')).toMatchObject({ state: 'unknown', why: { kind: 'unread', chain: 'INPUT' } })
  })

  it('is unknown where a chain can’t be read that strangers come to, and only there', () => {
    expect(judge(`${input('DROP', '-j A')}\n-N A`, { unread: ['A'] })).toMatchObject({
      state: 'unknown',
      why: { kind: 'unread', chain: 'A' },
    })
    expect(judge(`${input('DROP', '-i lo -j A')}\n-N A`, { unread: ['A'] })).toMatchObject(shut)
  })

  it('takes more than one interface, and names what opens by any', () => {
    const text = input('DROP', '-i eth1 -j ACCEPT')
    expect(judge(text, { interfaces: ['eth0', 'eth1'] })).toMatchObject(open('-A INPUT -i eth1 -j ACCEPT'))
    expect(judge(text, { interfaces: ['eth0'] })).toMatchObject(shut)
  })

  it('is unknown by an interface where none is known', () => {
    expect(judge(input('DROP', '-i eth1 -j ACCEPT'), { interfaces: [] })).toMatchObject(unknown('-A INPUT -i eth1 -j ACCEPT'))
    expect(judge(input('DROP', '! -i lo -j ACCEPT'), { interfaces: [] })).toMatchObject(open('-A INPUT ! -i lo -j ACCEPT'))
  })

  it('is unknown by an address where none is known', () => {
    expect(judge(input('DROP', '-d 192.0.2.7/32 -j ACCEPT'), { addresses: [] })).toMatchObject(
      unknown('-A INPUT -d 192.0.2.7/32 -j ACCEPT'),
    )
  })

  it('tells UDP from TCP', () => {
    const vpn: Service = { port: 51_820, protocol: 'udp' }
    expect(judge(input('DROP', '-p udp -m udp --dport 51820 -j ACCEPT'), { service: vpn })).toMatchObject({ state: 'open' })
    expect(judge(input('DROP', '-p tcp -j ACCEPT'), { service: vpn })).toMatchObject(shut)
  })

  it('walks chains that lead to one another over and over, once each', () => {
    const names = Array.from({ length: 60 }, (_, i) => `C${i}`)
    const chains = names.flatMap((name, i) => [
      `-N ${name}`,
      ...(i < 59 ? [`-A ${name} -j C${i + 1}`, `-A ${name} -j C${i + 1}`] : []),
    ])
    expect(judge(`${input('DROP', '-j C0')}\n${chains.join('\n')}`)).toMatchObject(shut)
  })

  it.each([
    ['more rules than are made ready', 20_001, '-p tcp -m tcp --dport 22 -j LOG'],
    ['more rules than are compared', 15_000, '-p tcp -m tcp --dport 22 -j LOG'],
  ])('is unknown where there are %s', (_, count, rule) => {
    // Each block of sources makes one more stranger to try.
    const blocks = Array.from({ length: 20 }, (_, i) => `-A INPUT -s ${i * 8 + 16}.0.0.0/7 -j LOG`)
    const rules = Array.from({ length: count }, () => `-A INPUT ${rule}`)
    expect(judge(['-P INPUT DROP', ...blocks, ...rules].join('\n'))).toEqual({ state: 'unknown', why: { kind: 'bound' } })
  })

  it('is judged among any number of banned addresses', () => {
    const rules = Array.from({ length: 50_000 }, (_, i) => `-A INPUT -s 203.${i >> 8}.${i & 255}.1/32 -j DROP`)
    expect(judge(['-P INPUT ACCEPT', ...rules].join('\n'))).toMatchObject(openByPolicy)
  })
})

describe('IPv6', () => {
  const place: Place = { family: 'ip6tables' }

  it.each([
    ['a site', '-s 2001:db8::/32 -j ACCEPT'],
    ['one’s own link', '-s fe80::/10 -j ACCEPT'],
    ['unique local addresses', '-s fc00::/7 -j ACCEPT'],
    ['groups', '-d ff00::/8 -j ACCEPT'],
    ['DHCP', '-d fe80::/64 -p udp -m udp --dport 546 -j ACCEPT'],
    ['ping', '-p ipv6-icmp -j ACCEPT'],
  ])('that accepts %s is shut', (_, rule) => {
    expect(judge(input('DROP', rule), place)).toMatchObject(shut)
  })

  it.each([
    ['all that there is', '-s 2000::/3 -p tcp -j ACCEPT'],
    ['a large block', '-s 2400::/6 -p tcp -j ACCEPT'],
    ['our address', '-d 2001:db8:7::1/128 -p tcp -j ACCEPT'],
    ['everything', '-s ::/0 -j ACCEPT'],
  ])('that accepts %s is open', (_, rule) => {
    expect(judge(input('DROP', rule), place)).toMatchObject(open(`-A INPUT ${rule}`))
  })
})

describe('the tables in front of INPUT', () => {
  const drop = input('DROP')
  const nat = (...rules: string[]): Place => ({
    before: [['nat', 'PREROUTING', ['-P PREROUTING ACCEPT', '-N DOCKER', ...rules].join('\n')]],
  })

  it('that send the port elsewhere make it unknown, and the rule is named', () => {
    const rule = '-A DOCKER ! -i docker0 -p tcp -m tcp --dport 22 -j DNAT --to-destination 172.17.0.2:22'
    const place = nat('-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER', '-A DOCKER -i docker0 -j RETURN', rule)
    for (const text of [drop, input('ACCEPT')])
      expect(judge(text, place)).toMatchObject({
        state: 'unknown',
        why: { kind: 'forwarded', stage: 'nat PREROUTING', line: rule },
      })
  })

  it('that send another port elsewhere change nothing', () => {
    const place = nat('-A PREROUTING -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 8080')
    expect(judge(drop, place)).toMatchObject(shut)
    expect(judge(input('ACCEPT'), place)).toMatchObject(openByPolicy)
  })

  describe('that send another port to this one', () => {
    const rule = '-A PREROUTING -p tcp -m tcp --dport 2222 -j REDIRECT --to-ports 22'
    const mangle = (...rules: string[]): [string, string, string] => [
      'mangle',
      'PREROUTING',
      ['-P PREROUTING ACCEPT', ...rules.map((one) => `-A PREROUTING ${one}`)].join('\n'),
    ]
    const sent = (line: string, ...front: [string, string, string][]): Place => ({
      before: [...front, ...(nat(line).before ?? [])],
    })
    const dnat = (to: string) => rule.replace('REDIRECT --to-ports 22', `DNAT --to-destination ${to}`)
    const takesSent = input('DROP', '-m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT')

    it.each([
      ['what was sent is accepted', takesSent, rule, []],
      ['what was sent to our address is', takesSent, dnat('198.51.100.1:22'), []],
      ['what was sent to ports with this one is', takesSent, dnat(':20-29'), []],
      ['what is not sent is dropped', input('ACCEPT', '-m conntrack ! --ctstate DNAT -j DROP'), rule, []],
      ['this one is dropped before that', input('ACCEPT'), rule, [mangle('-p tcp -m tcp --dport 22 -j DROP')]],
    ])('make it unknown where %s, and the rule is named', (_, text, line, front) => {
      expect(judge(text, sent(line, ...(front as [string, string, string][])))).toMatchObject(unknown(line))
    })

    it('make it unknown where a mark of that port is accepted', () => {
      const mark = mangle('-p tcp -m tcp --dport 2222 -j MARK --set-xmark 0x1/0xffffffff')
      const accept = '-m mark --mark 0x1 -j ACCEPT'
      expect(judge(input('DROP', accept), sent(rule, mark))).toMatchObject(unknown(`-A INPUT ${accept}`))
    })

    it.each([
      ['INPUT drops it all the same', drop, rule],
      ['it is sent to another machine', takesSent, dnat('172.17.0.2:22')],
      ['it is sent to another port', takesSent, dnat('198.51.100.1:23-29')],
      ['it is of another protocol', takesSent, rule.replaceAll('tcp', 'udp')],
    ])('change nothing where %s', (_, text, line) => {
      expect(judge(text, sent(line))).toMatchObject(shut)
    })
  })

  it('that drop the port shut it', () => {
    const raw = '-P PREROUTING ACCEPT\n-A PREROUTING -p tcp -m tcp --dport 22 -j DROP'
    expect(judge(input('ACCEPT'), { before: [['raw', 'PREROUTING', raw]] })).toMatchObject(shut)
  })

  it('that accept open nothing by that', () => {
    const mangle = '-P PREROUTING ACCEPT\n-A PREROUTING -j ACCEPT'
    expect(judge(drop, { before: [['mangle', 'PREROUTING', mangle]] })).toMatchObject(shut)
  })

  it('that drop some of what they may accept leave open what is open', () => {
    const mangle =
      '-P PREROUTING ACCEPT\n-A PREROUTING -m conntrack --ctstate INVALID -j DROP\n-A PREROUTING -m limit --limit 9/sec -j DROP'
    expect(judge(input('ACCEPT'), { before: [['mangle', 'PREROUTING', mangle]] })).toMatchObject(openByPolicy)
  })

  it('that can’t be read may drop', () => {
    expect(judge(input('ACCEPT'), { before: [['raw', 'PREROUTING', '']] })).toMatchObject({
      state: 'unknown',
      why: { kind: 'unread', stage: 'raw PREROUTING' },
    })
    expect(judge(drop, { before: [['raw', 'PREROUTING', '']] })).toMatchObject(shut)
  })

  it.each([
    ['mangle', '-m mark --mark 0x1 -j ACCEPT'],
    ['raw', '-m conntrack --ctstate RELATED,ESTABLISHED,UNTRACKED -j ACCEPT'],
  ])('that can’t be read may do to a packet what a rule asks for: %s', (table, rule) => {
    expect(judge(input('DROP', rule), { before: [[table, 'PREROUTING', '']] })).toMatchObject(unknown(`-A INPUT ${rule}`))
  })

  it('that keep conntrack from a packet leave its state in doubt', () => {
    const raw = '-P PREROUTING ACCEPT\n-A PREROUTING -p udp -m udp --dport 53 -j CT --notrack'
    const rule = '-m conntrack --ctstate RELATED,ESTABLISHED,UNTRACKED -j ACCEPT'
    const place: Place = { before: [['raw', 'PREROUTING', raw]] }
    expect(judge(input('DROP', rule), { ...place, service: { port: 53, protocol: 'udp' } })).toMatchObject(
      unknown(`-A INPUT ${rule}`),
    )
    expect(judge(input('DROP', rule), place)).toMatchObject(shut)
  })
})

describe('what keeps strangers out', () => {
  const REJECT = '-A INPUT -j REJECT --reject-with icmp-port-unreachable'
  const WEB = '-p tcp -m tcp --dport 443 -j ACCEPT'
  it.each([
    ['the policy', input('DROP', '-i lo -j ACCEPT', ESTABLISHED, WEB), { kind: 'policy', stage: 'filter INPUT' }],
    ['the last rule', input('DROP', ESTABLISHED, WEB, REJECT.slice(9)), { kind: 'rule', stage: 'filter INPUT', line: REJECT }],
    [
      'the policy behind a rule that drops some',
      input('DROP', '-m limit --limit 3/min -j DROP', WEB),
      { kind: 'policy', stage: 'filter INPUT' },
    ],
    [
      'a rule of another chain',
      `${input('ACCEPT', '-j A')}\n-N A\n-A A -p tcp -m tcp --dport 22 -j DROP`,
      { kind: 'rule', stage: 'filter INPUT', line: '-A A -p tcp -m tcp --dport 22 -j DROP' },
    ],
  ])('is named: %s', (_, text, why) => {
    expect(judge(text)).toEqual({ state: 'shut', why })
  })

  it('is named where it stands in front of INPUT', () => {
    const line = '-A PREROUTING -p tcp -m tcp --dport 22 -j DROP'
    const before: Place['before'] = [['raw', 'PREROUTING', `-P PREROUTING ACCEPT\n${line}`]]
    expect(judge(input('DROP'), { before })).toEqual({ state: 'shut', why: { kind: 'rule', stage: 'raw PREROUTING', line } })
  })
})

describe('ufw', () => {
  const ufw = (...user: string[]) => `-P INPUT DROP
-P FORWARD DROP
-P OUTPUT ACCEPT
-N ufw-after-input
-N ufw-after-logging-input
-N ufw-before-input
-N ufw-before-logging-input
-N ufw-logging-deny
-N ufw-not-local
-N ufw-reject-input
-N ufw-skip-to-policy-input
-N ufw-track-input
-N ufw-user-input
-N ufw-user-limit
-N ufw-user-limit-accept
-A INPUT -j ufw-before-logging-input
-A INPUT -j ufw-before-input
-A INPUT -j ufw-after-input
-A INPUT -j ufw-after-logging-input
-A INPUT -j ufw-reject-input
-A INPUT -j ufw-track-input
-A ufw-after-input -p udp -m udp --dport 137 -j ufw-skip-to-policy-input
-A ufw-after-input -p tcp -m tcp --dport 139 -j ufw-skip-to-policy-input
-A ufw-after-input -m addrtype --dst-type BROADCAST -j ufw-skip-to-policy-input
-A ufw-after-logging-input -m limit --limit 3/min --limit-burst 10 -j LOG --log-prefix "[UFW BLOCK] "
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-input -m conntrack --ctstate INVALID -j ufw-logging-deny
-A ufw-before-input -m conntrack --ctstate INVALID -j DROP
-A ufw-before-input -p icmp -m icmp --icmp-type 3 -j ACCEPT
-A ufw-before-input -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A ufw-before-input -p udp -m udp --sport 67 --dport 68 -j ACCEPT
-A ufw-before-input -j ufw-not-local
-A ufw-before-input -d 224.0.0.251/32 -p udp -m udp --dport 5353 -j ACCEPT
-A ufw-before-input -d 239.255.255.250/32 -p udp -m udp --dport 1900 -j ACCEPT
-A ufw-before-input -j ufw-user-input
-A ufw-logging-deny -m conntrack --ctstate INVALID -m limit --limit 3/min --limit-burst 10 -j RETURN
-A ufw-logging-deny -m limit --limit 3/min --limit-burst 10 -j LOG --log-prefix "[UFW BLOCK] "
-A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN
-A ufw-not-local -m addrtype --dst-type MULTICAST -j RETURN
-A ufw-not-local -m addrtype --dst-type BROADCAST -j RETURN
-A ufw-not-local -m limit --limit 3/min --limit-burst 10 -j ufw-logging-deny
-A ufw-not-local -j DROP
-A ufw-skip-to-policy-input -j DROP
${user.map((rule) => `-A ufw-user-input ${rule}`).join('\n')}
-A ufw-user-limit -m limit --limit 3/min -j LOG --log-prefix "[UFW LIMIT BLOCK] "
-A ufw-user-limit -j REJECT --reject-with icmp-port-unreachable
-A ufw-user-limit-accept -j ACCEPT`
  const RECENT = '--name DEFAULT --mask 255.255.255.255 --rsource'

  it('that denies by default is shut', () => {
    expect(judge(ufw())).toMatchObject(shut)
    expect(judge(ufw('-p tcp -m tcp --dport 443 -j ACCEPT', '-p udp -m udp --dport 443 -j ACCEPT'))).toMatchObject(shut)
  })

  it.each([
    ['allows ssh', '-p tcp -m tcp --dport 22 -j ACCEPT'],
    ['allows OpenSSH', `-p tcp -m tcp --dport 22 -m comment --comment "'dapp_OpenSSH'" -j ACCEPT`],
  ])('that %s is open', (_, rule) => {
    expect(judge(ufw(rule))).toMatchObject(open(`-A ufw-user-input ${rule}`))
  })

  it('that limits ssh is open', () => {
    const text = ufw(
      `-p tcp -m tcp --dport 22 -m conntrack --ctstate NEW -m recent --set ${RECENT}`,
      `-p tcp -m tcp --dport 22 -m conntrack --ctstate NEW -m recent --update --seconds 30 --hitcount 6 ${RECENT} -j ufw-user-limit`,
      '-p tcp -m tcp --dport 22 -j ufw-user-limit-accept',
    )
    expect(judge(text)).toMatchObject(open('-A ufw-user-limit-accept -j ACCEPT'))
  })

  it('that allows ssh from one network is shut', () => {
    expect(judge(ufw('-s 192.168.0.0/16 -p tcp -m tcp --dport 22 -j ACCEPT'))).toMatchObject(shut)
  })

  it('that is disabled is open by policy', () => {
    expect(judge('-P INPUT ACCEPT\n-N ufw-user-input')).toMatchObject(openByPolicy)
  })
})

describe('firewalld', () => {
  const firewalld = (...allowed: string[]) => `-P INPUT ACCEPT
-N INPUT_ZONES
-N INPUT_direct
-N IN_public
-N IN_public_allow
-N IN_public_deny
-N IN_public_log
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT
-A INPUT -i lo -j ACCEPT
-A INPUT -j INPUT_direct
-A INPUT -j INPUT_ZONES
-A INPUT -m conntrack --ctstate INVALID -j DROP
-A INPUT -j REJECT --reject-with icmp-host-prohibited
-A INPUT_ZONES -i eth0 -g IN_public
-A INPUT_ZONES -g IN_public
-A IN_public -j IN_public_log
-A IN_public -j IN_public_deny
-A IN_public -j IN_public_allow
-A IN_public -p icmp -j ACCEPT
${allowed.map((rule) => `-A IN_public_allow ${rule}`).join('\n')}`

  it('with the service ssh is open', () => {
    const rule = '-p tcp -m tcp --dport 22 -m conntrack --ctstate NEW,UNTRACKED -j ACCEPT'
    expect(judge(firewalld(rule))).toMatchObject(open(`-A IN_public_allow ${rule}`))
  })

  it('without it is shut', () => {
    expect(judge(firewalld('-p tcp -m tcp --dport 80 -m conntrack --ctstate NEW,UNTRACKED -j ACCEPT'))).toMatchObject(shut)
  })
})

describe('other programs', () => {
  it('Docker changes nothing of INPUT', () => {
    const text =
      '-P INPUT ACCEPT\n-P FORWARD DROP\n-N DOCKER\n-N DOCKER-USER\n-A FORWARD -j DOCKER-USER\n-A DOCKER-USER -j RETURN'
    expect(judge(text)).toMatchObject(openByPolicy)
  })

  const F2B = `-N f2b-sshd
-A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd
-A f2b-sshd -s 203.0.113.7/32 -j REJECT --reject-with icmp-port-unreachable
-A f2b-sshd -j RETURN`

  it('fail2ban shuts nobody out but those whom it has banned', () => {
    expect(judge(`-P INPUT ACCEPT\n${F2B}`)).toMatchObject(openByPolicy)
    expect(
      judge(
        `-P INPUT ACCEPT\n-A INPUT -p tcp -m multiport --dports 22 -m set --match-set f2b-sshd src -j REJECT --reject-with icmp-port-unreachable`,
      ),
    ).toMatchObject(openByPolicy)
    expect(judge(`-P INPUT DROP\n${F2B}`)).toMatchObject(shut)
  })

  const csf = (...ports: string[]) => `-P INPUT DROP
-N ALLOWIN
-N DENYIN
-N INVALID
-N INVDROP
-N LOCALINPUT
-N LOGDROPIN
-A INPUT ! -i lo -j LOCALINPUT
-A INPUT -i lo -j ACCEPT
-A INPUT ! -i lo -p tcp -j INVALID
-A INPUT ! -i lo -p icmp -m icmp --icmp-type 8 -m limit --limit 1/sec -j ACCEPT
-A INPUT ! -i lo -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
${ports.map((port) => `-A INPUT ! -i lo -p tcp -m conntrack --ctstate NEW -m tcp --dport ${port} -j ACCEPT`).join('\n')}
-A INPUT ! -i lo -j LOGDROPIN
-A ALLOWIN -s 203.0.113.8/32 ! -i lo -j ACCEPT
-A DENYIN -s 192.0.2.9/32 ! -i lo -j DROP
-A INVALID -m conntrack --ctstate INVALID -j INVDROP
-A INVALID -p tcp -m tcp --tcp-flags FIN,SYN FIN,SYN -j INVDROP
-A INVALID -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m conntrack --ctstate NEW -j INVDROP
-A INVDROP -j DROP
-A LOCALINPUT ! -i lo -j ALLOWIN
-A LOCALINPUT ! -i lo -j DENYIN
-A LOGDROPIN -p tcp -m limit --limit 30/min -j LOG --log-prefix "Firewall: *TCP_IN Blocked* "
-A LOGDROPIN -j DROP`

  it('CSF is open where its list has the port', () => {
    expect(judge(csf('20:21', '22', '80'))).toMatchObject(
      open('-A INPUT ! -i lo -p tcp -m conntrack --ctstate NEW -m tcp --dport 22 -j ACCEPT'),
    )
    expect(judge(csf('20:21', '80'))).toMatchObject(shut)
  })

  it('Kubernetes’ chains change nothing', () => {
    const text = (policy: string) => `-P INPUT ${policy}
-N KUBE-EXTERNAL-SERVICES
-N KUBE-FIREWALL
-N KUBE-NODEPORTS
-N KUBE-ROUTER-INPUT
-A INPUT -m comment --comment "kube-router netpol - 4IA2OSFRMVNDXBVV" -j KUBE-ROUTER-INPUT
-A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A INPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FIREWALL -m comment --comment "kubernetes firewall for dropping marked packets" -m mark --mark 0x8000/0x8000 -j DROP
-A KUBE-ROUTER-INPUT -d 10.43.0.0/16 -m comment --comment "allow traffic to primary/secondary cluster IP range" -j RETURN
-A KUBE-ROUTER-INPUT -p tcp -m comment --comment "allow LOCAL TCP traffic to node ports" -m addrtype --dst-type LOCAL -m multiport --dports 30000:32767 -j RETURN`
    expect(judge(text('ACCEPT'))).toMatchObject(openByPolicy)
    expect(judge(text('DROP'))).toMatchObject(shut)
  })
})

describe('our own chains', () => {
  const LEASE =
    '-A KNOCKTURN-LEASES -s 203.0.113.5/32 -p tcp -m tcp --dport 22 -m time --datestop 2026-03-01T12:00:00 -m comment --comment "knockturn:lease:0a1b2c3d:a:00112233445566778899aabbccddeeff" -j KNOCKTURN-ADMIT'
  /** What an installation makes in front of the administrator's rules, as iptables prints it. */
  const ours = (policy: string, front: string[] = [], behind: string[] = [], leases: string[] = [LEASE]) => {
    const taps = { ranges: [[49_152, 65_535]] as const, target: 'nflog', group: 5, prefix: 'KNOCK: ' } as const
    const made = installScript(parseTable('iptables', ''), taps, true)
      .split('\n')
      .filter((line) => line.startsWith('-A '))
      .map((line) => line.replaceAll('--syn', '--tcp-flags FIN,SYN,RST,ACK SYN'))
    const chains = ['', '-LEASES', '-TAPS', '-ADMIT', '-AGAIN'].map((name) => `-N KNOCKTURN${name}`)
    const again =
      '-A INPUT ! -i lo -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -m conntrack ! --ctstate NEW -m connlabel --label 117 -j KNOCKTURN-AGAIN'
    const rules = (list: string[]) => list.map((rule) => `-A INPUT ${rule}`)
    return [
      `-P INPUT ${policy}`,
      ...chains,
      again,
      ...rules(front),
      '-A INPUT -j KNOCKTURN',
      ...rules(behind),
      ...made,
      ...leases,
    ].join('\n')
  }

  it('let no stranger in, leases and all', () => {
    expect(judge(ours('DROP'))).toMatchObject(shut)
    expect(judge(ours('DROP', [], [], [LEASE.replace('203.0.113.5/32', '203.0.0.0/16')]))).toMatchObject(shut)
  })

  it('shut nothing but the pool: what is open behind them stays so', () => {
    expect(judge(ours('ACCEPT'))).toMatchObject(openByPolicy)
    expect(judge(ours('ACCEPT'), { service: { port: 50_000, protocol: 'tcp' } })).toMatchObject(shut)
  })

  it.each(['in front', 'behind'])('are of no use with an accept %s', (where) => {
    const text = where === 'behind' ? ours('DROP', [], [ACCEPT_SSH]) : ours('DROP', [ACCEPT_SSH])
    expect(judge(text)).toMatchObject(open(`-A INPUT ${ACCEPT_SSH}`))
  })

  it('with the drop that the hint names are shut', () => {
    expect(judge(ours('ACCEPT', [], ['! -i lo -p tcp -m tcp --dport 22 -j DROP']))).toMatchObject(shut)
  })

  it('are open by a rule that somebody has put among the leases', () => {
    const rule = '-A KNOCKTURN-LEASES -p tcp -m tcp --dport 22 -j KNOCKTURN-ADMIT'
    expect(judge(ours('DROP', [], [], [rule]))).toMatchObject({ state: 'open' })
  })
})
