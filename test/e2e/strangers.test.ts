import { describe, expect, it } from 'vitest'
import { Host } from '../lab/host'
import { check } from './live'
import { useGate } from './use-gate'

/* What of granted services strangers reach, as real packets find out from a private network. */

const SSH = 22
const WEB = 443
const DNS = 5_353
const MUTE = 5_354
const SERVICES = `${SSH}/tcp,${WEB}/tcp,${DNS}/udp,${MUTE}/udp`
const ALL = `${SSH}/tcp, ${WEB}/tcp, ${DNS}/udp, ${MUTE}/udp`
const PRIVATE = 'a private network \\([\\d.]+, [\\da-f:]+\\) that has no lease gets no answer and nothing through$'

const name = 'granted services closed'
const shut = (...over: string[]) => ({
  name,
  verdict: 'ok',
  evidence: expect.stringMatching(new RegExp(`^closed to strangers ${over.join(', ')}: ${PRIVATE}`)),
})
const everythingShut = shut(`over IPv4 ${ALL}`, `over IPv6 ${ALL}`)
const ANSWERS = 'it answers a private network that has no lease'
const COMES = 'packets of a private network that has no lease come through all rules'
const REFUSES = 'it refuses a private network that has no lease, where the guard drops without a word'
const open = (service: string, family: string, how: string, remedy: unknown = expect.any(String)) => ({
  name,
  verdict: 'fault',
  evidence: `${service} is open to everyone over ${family}: ${how}`,
  remedy,
})

describe.each(['nftables', 'iptables'] as const)('with a guard of %s', (backend) => {
  const { server, gate } = useGate([], {
    serve: [SSH, DNS],
    backend,
    guard: 'all',
    firewall: 'guard_except = ["192.0.2.0/24", "2001:db8:8000::/33", "a*", "b*"]',
    keyOptions: ['--services', SERVICES],
  })

  it('all granted services are shut, over both families, to who is not spared', async () => {
    expect(await check(server, gate, 'strangers')).toEqual([everythingShut])
  })

  it('where the kernel does not keep track of all, silence says of TCP that it is shut, and of UDP nothing', async () => {
    const rule = ['-t', 'raw', '-A', 'PREROUTING', '-p', 'udp', '--dport', '9', '-j', 'NOTRACK']
    await server.must(['iptables', ...rule])
    const unknown = (service: string, family: string) => ({
      name,
      verdict: 'unknown',
      evidence: `cannot tell whether ${service} is closed over ${family}: nothing has come back, as from many services that are open, and the kernel does not tell what comes through`,
      remedy: 'see what "knockdaemon --check" says of it, by the rules',
    })
    const checks = await check(server, gate, 'strangers')
    await server.must(['iptables', '-t', 'raw', '-F'])
    expect(checks).toEqual([
      unknown(`${DNS}/udp`, 'IPv4'),
      unknown(`${MUTE}/udp`, 'IPv4'),
      unknown(`${DNS}/udp`, 'IPv6'),
      unknown(`${MUTE}/udp`, 'IPv6'),
      shut(`over IPv4 ${SSH}/tcp, ${WEB}/tcp`, `over IPv6 ${SSH}/tcp, ${WEB}/tcp`),
    ])
  })

  it('a guard that is not in place is a fault of each service that it should shut, answered or not', async () => {
    await gate.daemon.end()
    await gate.knockturn('firewall', 'remove')
    const remedy = 'run "knockturn firewall install": it puts the guard in place'
    const over = (family: string) => [
      open(`${SSH}/tcp`, family, ANSWERS, remedy),
      open(`${WEB}/tcp`, family, REFUSES, remedy),
      open(`${DNS}/udp`, family, ANSWERS, remedy),
      open(`${MUTE}/udp`, family, REFUSES, remedy),
    ]
    expect((await check(server, gate, 'strangers')).sort(byEvidence)).toEqual([...over('IPv4'), ...over('IPv6')].sort(byEvidence))
    await gate.knockturn('firewall', 'install', '--config', gate.config)
    expect(await check(server, gate, 'strangers')).toEqual([everythingShut])
  })
})

const byEvidence = (a: { evidence: string }, b: { evidence: string }) => (a.evidence < b.evidence ? -1 : 1)

describe("by the administrator's own rules, without a guard", () => {
  const { server, gate, lab } = useGate([], {
    serve: [SSH, DNS],
    backend: 'iptables',
    guard: null,
    keyOptions: ['--services', SERVICES],
  })
  const remedy = (service: string) =>
    `add "${service}" to guard in [firewall], run "knockturn firewall install" and restart the daemon; "knockdaemon --check" names the rule that lets strangers in`
  const but = (...names: string[]) =>
    ALL.split(', ')
      .filter((one) => !names.includes(one))
      .join(', ')
  /** What the checks say while there are other rules. */
  async function withRules(...rules: string[]) {
    for (const rule of rules) await server.must(rule.split(' '))
    try {
      return await check(server, gate, 'strangers')
    } finally {
      for (const rule of rules.toReversed()) await server.must(rule.replace(/ -I (\w+)/, ' -D $1').split(' '))
    }
  }

  it('all granted services are shut', async () => {
    expect(await check(server, gate, 'strangers')).toEqual([everythingShut])
  })

  it('what is open over one family only is a fault of that family', async () => {
    expect(await withRules(`ip6tables -I INPUT -p tcp --dport ${SSH} -j ACCEPT`)).toEqual([
      open(`${SSH}/tcp`, 'IPv6', ANSWERS, remedy(`${SSH}/tcp`)),
      shut(`over IPv4 ${ALL}`, `over IPv6 ${but(`${SSH}/tcp`)}`),
    ])
  })

  it('a service that answers nobody is a fault where packets come through to it', async () => {
    const mute = server.start([process.execPath, '-e', `require('dgram').createSocket('udp6').bind(${MUTE})`])
    expect(await withRules(`iptables -I INPUT -p udp --dport ${MUTE} -j ACCEPT`)).toEqual([
      open(`${MUTE}/udp`, 'IPv4', COMES, remedy(`${MUTE}/udp`)),
      shut(`over IPv4 ${but(`${MUTE}/udp`)}`, `over IPv6 ${ALL}`),
    ])
    await mute.end()
  })

  it('what rules reject is shut', async () => {
    const rules = [
      `iptables -I INPUT -p tcp --dport ${SSH} -j REJECT --reject-with tcp-reset`,
      `ip6tables -I INPUT -p tcp --dport ${SSH} -j REJECT`,
      `iptables -I INPUT -p udp --dport ${DNS} -j REJECT`,
      `iptables -I INPUT -p tcp --dport ${WEB} -j REJECT --reject-with icmp-host-prohibited`,
    ]
    expect(await withRules(...rules)).toEqual([everythingShut])
  })

  it('what is refused where nothing is served may be open or rejected', async () => {
    expect(await withRules(`iptables -I INPUT -p tcp --dport ${WEB} -j ACCEPT`)).toEqual([
      {
        name,
        verdict: 'unknown',
        evidence: `cannot tell whether ${WEB}/tcp is closed over IPv4: it is refused, by a rule or because nothing is there`,
        remedy: 'start the service and try again, or see what "knockdaemon --check" says of it, by the rules',
      },
      shut(`over IPv4 ${but(`${WEB}/tcp`)}`, `over IPv6 ${ALL}`),
    ])
  })

  it('a port that a container publishes past INPUT is a fault, whether the container answers or not', async () => {
    const box = new Host(lab, 'box', 9)
    await box.makeNamespace()
    await server.must(['ip', 'link', 'add', 'docker0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', box.namespace])
    await server.must(['ip', 'address', 'add', '172.17.0.1/16', 'dev', 'docker0'])
    await server.must(['ip', 'link', 'set', 'docker0', 'up'])
    for (const device of ['lo', 'eth0']) await box.must(['ip', 'link', 'set', device, 'up'])
    await box.addAddress('172.17.0.2/16')
    await box.must(['ip', 'route', 'add', 'default', 'via', '172.17.0.1'])
    await server.must(['sysctl', '-qw', 'net.ipv4.ip_forward=1'])
    await box.startAgent()
    await box.service(80)
    const mute = box.start([process.execPath, '-e', "require('dgram').createSocket('udp4').bind(81)"])
    const to = (protocol: string, port: number, inner: number) =>
      `iptables -t nat -I PREROUTING -p ${protocol} --dport ${port} -j DNAT --to-destination 172.17.0.2:${inner}`
    expect(await withRules(to('tcp', WEB, 80), to('udp', MUTE, 81))).toEqual([
      open(`${WEB}/tcp`, 'IPv4', ANSWERS, remedy(`${WEB}/tcp`)),
      open(`${MUTE}/udp`, 'IPv4', COMES, remedy(`${MUTE}/udp`)),
      shut(`over IPv4 ${but(`${WEB}/tcp`, `${MUTE}/udp`)}`, `over IPv6 ${ALL}`),
    ])
    await mute.end()
  })
})
