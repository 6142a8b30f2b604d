import { describe, expect, it } from 'vitest'
import { grantedServices } from '../../../src/daemon/exposure/look'
import { allInterfaces, defaultInterfaces } from '../../../src/daemon/exposure/outer'
import { type Finding, inWords, NOTHING } from '../../../src/daemon/exposure/text'
import { ExposureWatch } from '../../../src/daemon/exposure/watch'
import type { Service } from '../../../src/protocol/service'
import { Fault, inOneLine } from '../../../src/system/fault'

const HOUR = 3_600_000
const SSH: Service = { port: 22, protocol: 'tcp' }
const WEB: Service = { port: 443, protocol: 'tcp' }

describe('a look at what strangers reach', () => {
  it('is due at first, and every hour', () => {
    const watch = new ExposureWatch()
    expect([0, 1, HOUR - 1, HOUR, HOUR + 1, 2 * HOUR].map((at) => watch.isDue([SSH], at))).toEqual([
      true,
      false,
      false,
      true,
      false,
      true,
    ])
  })

  it('is due when the services change, and an hour after that', () => {
    const watch = new ExposureWatch()
    expect(watch.isDue([SSH], 0)).toBe(true)
    expect([10, 11, HOUR, HOUR + 10].map((at) => watch.isDue([SSH, WEB], at))).toEqual([true, false, false, true])
  })

  it('tells what is open, or stays shut, each time: what a rule does later is told within the hour', () => {
    const watch = new ExposureWatch()
    expect(watch.say(NOTHING)).toEqual({ open: [], shut: [], warnings: [] })
    const open = [new Fault('22/tcp', { hint: 'close it' })]
    const shut = [new Fault('443/tcp', { hint: 'let it in' })]
    for (let i = 0; i < 2; i++) expect(watch.say({ open, shut, unknown: [] })).toEqual({ open, shut, warnings: [] })
  })

  it('tells what is unknown when that changes', () => {
    const watch = new ExposureWatch()
    const said = [['a'], ['a'], ['a', 'b'], [], ['a']].map((unknown) => watch.say({ ...NOTHING, unknown }).warnings)
    expect(said).toEqual([['a'], [], ['a', 'b'], [], ['a']])
  })

  it('names ten, and counts the rest', () => {
    const lines = Array.from({ length: 12 }, (_, i) => `${i}`)
    const rest = [...lines.slice(0, 10), 'and 2 more: see "knockdaemon --check"']
    const faults = lines.map((line) => new Fault(line))
    const { open, shut, warnings } = new ExposureWatch().say({ open: faults, shut: faults, unknown: lines })
    expect([open.map(inOneLine), shut.map(inOneLine), warnings]).toEqual([rest, rest, rest])
  })
})

describe('the services that are judged', () => {
  const key = (services: Service[], over: { revoked?: number; expires?: number } = {}) => ({
    revoked: null,
    expires: null,
    ...over,
    grant: { services },
  })

  it('are those of keys that live, each once', () => {
    const keys = [key([WEB, SSH]), key([SSH]), key([{ port: 22, protocol: 'udp' }]), { ...key([]), grant: null }]
    expect(grantedServices(keys, 0)).toEqual([SSH, { port: 22, protocol: 'udp' }, WEB])
  })

  it('are none of keys that are revoked or expired', () => {
    expect(grantedServices([key([SSH], { revoked: 5 }), key([WEB], { expires: 1_000 })], 1_000)).toEqual([])
  })
})

describe('the interfaces by which strangers come', () => {
  const HEAD = 'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n'
  const ZERO = '0'.repeat(32)

  it('are those of default routes that lead somewhere', () => {
    const ipv4 = `${HEAD}eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\neth1\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\neth2\t00000000\t00000000\t0201\t0\t0\t0\t00000000\t0\t0\t0\n`
    const ipv6 = `${ZERO} 00 ${ZERO} 00 fe800000000000000000000000000001 00000400 00000002 00000000 00000003     ens3\n${ZERO} 00 ${ZERO} 00 ${ZERO} ffffffff 00000001 00000000 00200200       lo\nfe80${'0'.repeat(28)} 40 ${ZERO} 00 ${ZERO} 00000100 00000001 00000000 00000001     wg0\n`
    expect(defaultInterfaces(ipv4, ipv6)).toEqual(['eth0', 'ens3'])
    expect(defaultInterfaces(HEAD, '')).toEqual([])
  })

  it('are all but lo, where there is no such route', () => {
    const dev =
      'Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs\n    lo:       0       0\n  eth0:  123 4\nwg0: 0 0\n'
    expect(allInterfaces(dev)).toEqual(['eth0', 'wg0'])
  })
})

describe('what is said', () => {
  const finding = (family: Finding['family'], judgment: Finding['judgment'], more: Partial<Finding> = {}): Finding => ({
    service: SSH,
    family,
    judgment,
    isSafe: true,
    ...more,
  })
  const policy = { state: 'open', why: { kind: 'policy', stage: 'filter INPUT' } } as const
  const rule = (line: string) => ({ state: 'open', why: { kind: 'rule', stage: 'filter INPUT', line } }) as const
  const lines = (...findings: Finding[]) => inWords(findings, true).open.map(inOneLine)

  it('of what is shut is nothing', () => {
    expect(inWords([finding('iptables', { ...policy, state: 'shut' })], true)).toEqual(NOTHING)
  })

  it('is one line for both families where they are alike', () => {
    expect(lines(finding('iptables', policy), finding('ip6tables', policy))).toEqual([
      `22/tcp is open to everyone over IPv4 and IPv6: INPUT's policy is ACCEPT, and no rule blocks it: run "iptables -A INPUT ! -i lo -p tcp --dport 22 -j DROP" and "ip6tables -A INPUT ! -i lo -p tcp --dport 22 -j DROP"`,
    ])
  })

  it('is a line for each where they differ', () => {
    expect(lines(finding('iptables', policy), finding('ip6tables', rule('-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT')))).toEqual(
      [
        expect.stringContaining('22/tcp is open to everyone over IPv4: '),
        '22/tcp is open to everyone over IPv6: this rule lets everyone in: -A INPUT -p tcp -m tcp --dport 22 -j ACCEPT: run "ip6tables -D INPUT -p tcp -m tcp --dport 22 -j ACCEPT"',
      ],
    )
  })

  it('has the installation come first where a drop would cut off who is connected', () => {
    expect(lines(finding('iptables', policy, { isSafe: false }))[0]).toContain(
      'run "knockturn firewall install" first, which keeps existing connections, then run "iptables -A',
    )
  })

  it.each([
    ['-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT', 'remove the rule with the program that made it'],
    ['-A INPUT -p tcp -m multiport --dports 22,80 -j ACCEPT', 'replace the rule by one that leaves out port 22'],
    ['-A INPUT -j ACCEPT', 'replace the rule by one that leaves out port 22'],
  ])('of %s is to %s', (line, remedy) => {
    expect(lines(finding('iptables', rule(line)))).toEqual([
      `22/tcp is open to everyone over IPv4: this rule lets everyone in: ${line}: ${remedy}`,
    ])
  })

  it('has a reservation where nft can’t be asked', () => {
    expect(inWords([finding('iptables', policy)], false).open[0].message).toContain(
      '22/tcp is open to everyone over IPv4 (as far as iptables shows): ',
    )
  })

  it.each([
    [
      { kind: 'unread', stage: 'filter INPUT', chain: 'A' },
      'iptables cannot read a rule in chain A: look at it with "nft -a list chain ip filter A"',
    ],
    [{ kind: 'unread', stage: 'raw PREROUTING', chain: 'PREROUTING' }, 'iptables cannot read chain PREROUTING of table raw'],
    [
      { kind: 'forwarded', stage: 'nat PREROUTING', line: '-A X' },
      'this rule of table nat forwards it before INPUT decides: -A X',
    ],
    [{ kind: 'rule', stage: 'filter INPUT', line: '-A X' }, 'it depends on this rule: -A X'],
    [{ kind: 'bound' }, 'the firewall has too many rules to compare'],
    [{ kind: 'beside', text: 'table inet x of nft may close it' }, 'table inet x of nft may close it'],
  ] as const)('of what is unknown is why (%j)', (why, text) => {
    expect(inWords([finding('iptables', { state: 'unknown', why })], true)).toEqual({
      ...NOTHING,
      unknown: [`cannot tell whether 22/tcp is open to everyone over IPv4: ${text}`],
    })
  })
})
