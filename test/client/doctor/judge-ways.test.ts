import { describe, expect, it } from 'vitest'
import { judgeWays, type Tried } from '../../../src/client/doctor/judge-ways'
import type { Shown } from '../../../src/client/doctor/probes'
import type { Check } from '../../../src/system/check'

type Saw = string | readonly [saw: string, ms: number]
const shownOf = (protocol: Shown['protocol'], port: number, isHigh: boolean, what: Saw): Shown => {
  const [saw, ms] = typeof what === 'string' ? [what, 5] : what
  return { protocol, port, isHigh, saw, ms }
}
const HIGH = [50_001, 54_002, 58_003, 62_004]

/** What is said of a network in which high ports and others show this. */
function judged(
  { tcp = 'silence', udp = 'silence', named = {} }: { tcp?: Saw | readonly Saw[]; udp?: Saw; named?: Record<string, Saw> },
  more: Partial<Tried> = {},
): Record<string, Check> {
  const each = (what: Saw | readonly Saw[], n: number): Saw =>
    (Array.isArray(what) && typeof what[1] !== 'number' ? what[n] : what) as Saw
  const shown = [
    ...Object.entries(named).map(([name, saw]) => {
      const [port, protocol] = name.split('/')
      return shownOf(protocol as Shown['protocol'], Number(port), false, saw)
    }),
    ...HIGH.map((port, n) => shownOf('tcp', port, true, each(tcp, n))),
    ...HIGH.map((port) => shownOf('udp', port, true, udp)),
  ]
  const tried: Tried = { family: 4, address: '198.51.100.1', local: '203.0.113.7', shown, routers: null, ...more }
  return Object.fromEntries(judgeWays(tried).map((check) => [check.name, check]))
}
const TCP = 'TCP to high ports, IPv4'
const UDP = 'UDP to high ports, IPv4'
const AT_443 = 'TCP to port 443, IPv4'
const ARRIVED = 'what has arrived, IPv4'

describe('high ports', () => {
  it('that are silent are never said to be well', () => {
    const checks = judged({})
    expect([checks[TCP], checks[UDP]]).toEqual(
      [TCP, UDP].map((name) => ({ name, verdict: 'unknown', evidence: expect.stringContaining('or this network drops them') })),
    )
  })

  it('that are accepted are a fault, with other ways to go', () => {
    expect(judged({ tcp: 'open' })[TCP]).toEqual({
      name: TCP,
      verdict: 'fault',
      evidence: expect.stringContaining('something on the path answers every connection'),
      remedy: expect.stringMatching(/^try --udp, or --datagram 443; or log in/),
    })
  })

  it.each(['refused', 'EACCES', 'EHOSTUNREACH', 'ENETUNREACH'])('that are rejected (%s) are a fault', (saw) => {
    expect(judged({ tcp: saw })[TCP]).toMatchObject({
      verdict: 'fault',
      evidence: expect.stringContaining('are rejected at once'),
    })
  })

  it('that are rejected by a router that sends few messages are a fault, too', () => {
    expect(judged({ tcp: ['silence', 'EHOSTUNREACH', 'silence', 'EHOSTUNREACH'] })[TCP]).toMatchObject({ verdict: 'fault' })
  })

  it.each(['open', 'refused'])('of which one alone shows something (%s) are no fault: it may be another machine', (saw) => {
    expect(judged({ tcp: ['silence', saw, 'silence', 'silence'] })[TCP]).toMatchObject({
      verdict: 'note',
      evidence: expect.stringMatching(/^TCP 54002 alone /),
    })
  })
})

describe('who rejects', () => {
  it('is in this network where a datagram that passes no router is rejected', () => {
    expect(judged({ udp: 'refused' }, { routers: 0 })[UDP].evidence).toMatch(/; whoever rejects them is in this very network$/)
  })

  it('is not further than the routers that a datagram has passed', () => {
    expect(judged({ udp: 'refused' }, { routers: 1 })[UDP].evidence).toMatch(
      /; whoever rejects them is at most 1 router away: if the server is further, it is not the server$/,
    )
  })

  it('is nearer than the server where it is much quicker than a service', () => {
    expect(judged({ tcp: ['refused', 3], named: { '443/tcp': ['open', 82] } })[TCP].evidence).toMatch(
      /; whoever rejects them is nearer than who answers at port 443: 3 ms, against 82 ms$/,
    )
  })

  it.each<[string, Saw, Record<string, Saw>]>([
    ['nearly as slow as a service', ['refused', 60], { '443/tcp': ['open', 82] }],
    ['as quick as anything in one house', ['refused', 1], { '443/tcp': ['open', 9] }],
    ['the only one who answers', ['refused', 1], { '443/tcp': ['silence', 3_000] }],
  ])('may be the server where it is %s', (_, tcp, named) => {
    expect(judged({ tcp, named })[TCP].evidence).toMatch(/; it is somebody on the path, or a server without the firewall rules/)
  })
})

describe('a port of a service', () => {
  it('that answers is well', () => {
    expect(judged({ named: { '443/tcp': ['open', 12] } })[AT_443]).toMatchObject({
      verdict: 'ok',
      evidence: 'answered after 12 ms',
    })
  })

  it.each([
    ['53/udp', 'answered', 'UDP to port 53, IPv4'],
    ['53/tcp', 'open', 'TCP to port 53, IPv4'],
    ['80/tcp', 'open', 'TCP to port 80, IPv4'],
  ])('that a network may answer itself (%s) is not known to be well', (service, saw, name) => {
    expect(judged({ named: { [service]: saw } })[name].verdict).toBe('unknown')
  })

  it('that answers where all answer proves nothing', () => {
    expect(judged({ tcp: 'open', named: { '443/tcp': 'open' } })[AT_443].verdict).toBe('unknown')
  })

  it.each([
    ['silence', 'unknown'],
    ['refused', 'note'],
    ['EHOSTUNREACH', 'note'],
  ])('that shows %s is %s', (saw, verdict) => {
    expect(judged({ named: { '443/tcp': saw } })[AT_443].verdict).toBe(verdict)
  })
})

describe('a family', () => {
  it.each<[string, string, Parameters<typeof judged>[0]]>([
    ['well where a service answers', 'ok', { named: { '443/tcp': 'open' } }],
    ['well where a datagram is answered', 'ok', { named: { '443/udp': 'answered' } }],
    ['unknown where a name server answers', 'unknown', { named: { '53/udp': 'answered' } }],
    ['unknown where a proxy may answer', 'unknown', { named: { '80/tcp': 'open' } }],
    ['unknown where nothing comes back', 'unknown', {}],
    ['unknown where a refusal comes back, which may be a router’s', 'unknown', { named: { '443/tcp': 'refused' } }],
    ['unknown where something answers every connection', 'unknown', { tcp: 'open', named: { '443/tcp': 'open' } }],
  ])('is %s', (_, verdict, seen) => {
    expect(judged(seen).IPv4.verdict).toBe(verdict)
  })
})

describe('what has arrived', () => {
  it('is for the server to see, with the command for it', () => {
    expect(judged({ named: { '443/tcp': 'silence' } })[ARRIVED]).toMatchObject({
      verdict: 'unknown',
      evidence: 'only the server sees it: TCP 443, 50001, 54002, 58003, 62004; UDP 50001, 54002, 58003, 62004',
      remedy: expect.stringContaining('"knockturn listen --from 203.0.113.7 --for 2m"'),
    })
  })

  it('is looked for by the address that the server sees, where ours is private', () => {
    expect(judged({}, { local: '192.168.1.23' })[ARRIVED].remedy).toContain(
      '"knockturn listen --from ADDRESS --for 2m" (ADDRESS: what the server sees in place of 192.168.1.23)',
    )
  })

  it('is looked for by a private address where the server has one, too', () => {
    expect(judged({}, { local: '192.168.1.23', address: '192.168.1.1' })[ARRIVED].remedy).toContain('--from 192.168.1.23 ')
  })
})
