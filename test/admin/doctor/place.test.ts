import { describe, expect, it } from 'vitest'
import { routesIn } from '../../../src/admin/doctor/place/cable'
import { readLine } from '../../../src/admin/doctor/place/tracked'
import { stateOf } from '../../../src/admin/doctor/strangers'
import { formatCidr } from '../../../src/protocol/address'

describe('what routes lead to', () => {
  it('is taken, but for ways out', () => {
    const text = `default via 198.51.100.1 dev eth0
0.0.0.0/1 via 10.8.0.1 dev tun0
192.0.2.0/24 dev eth1 proto kernel scope link src 192.0.2.9
local 203.0.113.7 dev eth2 table local proto kernel scope host src 203.0.113.7
unreachable 198.51.100.0/25
2001:db8:7::/64 dev eth0 proto kernel metric 256 pref medium
multicast ff00::/8 dev eth0 table local proto kernel metric 256 pref medium
::/0 dev tun0
`
    expect(routesIn(text).map(formatCidr)).toEqual([
      '192.0.2.0/24',
      '203.0.113.7',
      '198.51.100.0/25',
      '2001:db8:7::/64',
      'ff00::/8',
    ])
  })
})

describe('a line of conntrack', () => {
  const answered =
    'ipv4     2 tcp      6 431999 ESTABLISHED src=192.0.2.2 dst=198.51.100.1 sport=4711 dport=8080 src=172.17.0.2 dst=192.0.2.2 sport=80 dport=4711 [ASSURED] mark=0 use=1'
  const silent =
    'ipv6     10 udp      17 29 src=2001:0db8:1000:2000:0000:0000:0000:0002 dst=2001:0db8:0007:0000:0000:0000:0000:0001 sport=4711 dport=5353 [UNREPLIED] src=2001:0db8:0007:0000:0000:0000:0000:0001 dst=2001:0db8:1000:2000:0000:0000:0000:0002 sport=5353 dport=4711 use=1'

  it('is about the service that was asked for, wherever a rule has sent it', () => {
    expect(readLine(answered, '192.0.2.2')).toEqual({ protocol: 'tcp', port: 8080 })
  })

  it('is about an IPv6 address, however that is written', () => {
    expect(readLine(silent, '2001:db8:1000:2000::2')).toEqual({ protocol: 'udp', port: 5353 })
  })

  it.each(['172.17.0.2', '192.0.2.20', '198.51.100.1', '92.0.2.2'])('is not about %s, which began nothing', (source) => {
    expect(readLine(answered, source)).toBeNull()
  })
})

describe('a service', () => {
  const tcp = { service: { protocol: 'tcp', port: 22 }, family: 'IPv4', isServed: true, isGuarded: false } as const
  const udp = { ...tcp, service: { protocol: 'udp', port: 53 } } as const

  it.each([
    ['that answers at one address', { ...tcp, saw: ['silence', 'open'], isThrough: false }, 'open'],
    ['that is silent, and packets come through', { ...udp, saw: ['silence'], isThrough: true }, 'open'],
    ['that is silent, and none comes through', { ...udp, saw: ['silence'], isThrough: false }, 'shut'],
    ['of UDP that is silent, where nobody says what comes through', { ...udp, saw: ['silence'], isThrough: null }, 'unknown'],
    ['of TCP that is silent, where nobody says so', { ...tcp, saw: ['silence'], isThrough: null }, 'shut'],
    ['that is there and refuses', { ...tcp, saw: ['refused'], isThrough: false }, 'shut'],
    ['that is not there and refuses', { ...tcp, saw: ['refused'], isThrough: false, isServed: false }, 'unknown'],
    ['that refuses though the guard drops', { ...tcp, saw: ['refused'], isThrough: false, isGuarded: true }, 'open'],
    ['of UDP that refuses, and none comes through', { ...udp, saw: ['refused'], isThrough: false }, 'shut'],
    ['that a rule rejects by ICMP', { ...tcp, saw: ['EHOSTUNREACH'], isThrough: null, isServed: false }, 'shut'],
    ['to which nothing could be sent', { ...tcp, saw: ['EMFILE'], isThrough: false }, 'unknown'],
    ['to one address of which nothing could be sent', { ...udp, saw: ['silence', 'ENETUNREACH'], isThrough: false }, 'unknown'],
  ] as const)('%s', (_, tried, state) => {
    expect(stateOf(tried)).toBe(state)
  })
})
