import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { connectionName, findEntered, judgeSession, leaseName, type Seen } from '../../../src/admin/setup/entered'
import type { Session } from '../../../src/admin/setup/session'
import type { Counted } from '../../../src/daemon/backends/backend'

const PEER = '198.51.100.7'
const HERE = '203.0.113.1'

const connection = (more: Partial<Session> = {}): Session => ({
  ...{ peer: PEER, peerPort: 40_000, local: HERE, localPort: 22 },
  ...more,
})
const counted = (packets: number | null, more: Partial<Counted['lease']> = {}): Counted => ({
  packets,
  lease: {
    ...{ id: '0a1b2c3d', key: 'alice', fingerprint: 'f', address: PEER, protocol: 'tcp', port: 22, once: false, until: 1 },
    ...more,
  },
})
const seen = (leases: Counted[], connections: Session[], before: string[] = []): Seen => ({
  ...{ leases, connections },
  before: new Set(before),
})
const ALICE = { address: PEER, service: '22/tcp', key: 'alice' }

describe('who has come in', () => {
  it('is who has a new connection through a lease that has counted it', () => {
    expect(findEntered(seen([counted(1)], [connection()]))).toEqual(ALICE)
    expect(findEntered(seen([counted(1, { address: '198.51.100.0/24' })], [connection()]))).toEqual(ALICE)
    const six = { address: '2001:db8::7', peer: '2001:db8::7' }
    expect(findEntered(seen([counted(3, { address: six.address })], [connection({ peer: six.peer })]))).toEqual({
      ...ALICE,
      address: six.address,
    })
  })

  it.each<[string, Seen]>([
    ['a lease has counted, and there is no connection: another firewall may have dropped what came', seen([counted(9)], [])],
    ['a lease has counted nothing', seen([counted(0)], [connection()])],
    ['what a lease has counted is not known', seen([counted(null, { once: true })], [connection()])],
    ['there is no lease', seen([], [connection()])],
    ['the connection was there before', seen([counted(1)], [connection()], [connectionName(connection())])],
    ['it comes from elsewhere', seen([counted(1)], [connection({ peer: '198.51.100.8' })])],
    ['it comes from outside of the lease’s block', seen([counted(1, { address: '198.51.100.8/29' })], [connection()])],
    ['it goes to another port', seen([counted(1)], [connection({ localPort: 443 })])],
    ['it is one of ours to such a port', seen([counted(1)], [connection({ localPort: 40_000, peerPort: 22 })])],
    ['the lease is for UDP, and of before', seen([counted(1, { protocol: 'udp' })], [], [leaseName('0a1b2c3d')])],
  ])('is nobody where %s', (_, what) => {
    expect(findEntered(what)).toBeNull()
  })

  it('is who has sent something by UDP through a new lease', () => {
    const lease = counted(1, { protocol: 'udp', port: 51_820 })
    expect(findEntered(seen([lease], []))).toEqual({ ...ALICE, service: '51820/udp' })
    expect(findEntered(seen([counted(0, { protocol: 'udp', port: 51_820 })], []))).toBeNull()
  })

  it('is who has a new connection, also where an earlier lease was renewed', () => {
    expect(findEntered(seen([counted(1)], [connection()], [leaseName('0a1b2c3d')]))).toEqual(ALICE)
  })

  it('is never a connection of before, whatever leases there are', () => {
    const peers = fc.constantFrom('198.51.100.7', '198.51.100.8', '2001:db8::7')
    const ports = fc.constantFrom(22, 443)
    const connections = fc.array(
      fc.record({ peer: peers, peerPort: fc.constantFrom(40_000, 40_001), local: fc.constant(HERE), localPort: ports }),
    )
    const leases = fc.array(
      fc
        .record({ packets: fc.constantFrom(0, 1, 2, null), address: peers, port: ports, once: fc.boolean() })
        .map(({ packets, ...lease }) => counted(packets, lease)),
    )
    fc.assert(
      fc.property(connections, connections, leases, (old, now, leases) => {
        const before = old.map(connectionName)
        const found = findEntered(seen(leases, [...old, ...now], before))
        const fits = now.some(
          (one) =>
            !before.includes(connectionName(one)) &&
            leases.some(({ lease, packets }) => packets && lease.address === one.peer && lease.port === one.localPort),
        )
        expect(found !== null).toBe(fits)
        if (found)
          expect(now.some(({ peer, localPort }) => peer === found.address && `${localPort}/tcp` === found.service)).toBe(true)
      }),
    )
  })
})

describe('a session that is to confirm', () => {
  const none = () => false

  it('does so if it has come in through a lease', () => {
    expect(judgeSession(connection(), seen([counted(1)], [connection()]), none)).toEqual(ALICE)
  })

  it.each<[string, Session | null, Seen, string]>([
    ['is at a console', null, seen([counted(1)], [connection()]), 'has not come in by SSH'],
    ['is that of a terminal that outlived its connection', connection(), seen([counted(1)], []), 'not established'],
    ['was there before', connection(), seen([counted(1)], [connection()], [connectionName(connection())]), 'before the trial'],
    ['has no lease', connection(), seen([], [connection()]), 'not come in through a lease'],
    ['has a lease that has counted nothing', connection(), seen([counted(0)], [connection()]), 'not come in through a lease'],
    [
      'comes from elsewhere than who has come in',
      connection({ peer: '203.0.113.9' }),
      seen([counted(1)], [connection(), connection({ peer: '203.0.113.9' })]),
      'not come in through a lease',
    ],
  ])('does not if it %s', (_, session, what, why) => {
    expect(judgeSession(session, what, none)).toEqual({ why: expect.stringContaining(why), hint: expect.any(String) })
  })

  it('speaks for who has reached a container, if it is new itself', () => {
    const lease = counted(2, { port: 8080 })
    const isForwarded = (port: number) => port === 8080
    expect(judgeSession(connection(), seen([lease], [connection()]), isForwarded)).toEqual({ ...ALICE, service: '8080/tcp' })
    expect(judgeSession(connection(), seen([lease], [connection()]), none)).toHaveProperty('why')
    expect(judgeSession(connection(), seen([lease], [connection()], [connectionName(connection())]), isForwarded)).toHaveProperty(
      'why',
    )
  })
})
