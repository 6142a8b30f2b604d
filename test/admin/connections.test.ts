import { expect, it } from 'vitest'
import { type Connection, type Door, filterOf, isThrough, sorted } from '../../src/admin/connections'

const [CLIENT, OTHER, SERVER] = ['198.51.100.7', '198.51.100.8', '198.51.100.1']

const door = (more: Partial<Door> = {}): Door => ({ key: 'alice', address: CLIENT, protocol: 'tcp', port: 22, ...more })
const connection = (more: Partial<Connection> = {}): Connection => ({
  ...{ protocol: 'tcp', peer: CLIENT, peerPort: 50_000, local: SERVER, localPort: 22 },
  ...more,
})

it.each<[string, Partial<Door>, Partial<Connection>, boolean]>([
  ['of its address, to its port', {}, {}, true],
  ['of an address in its block', { address: '198.51.100.0/24' }, { peer: OTHER }, true],
  ['of IPv6', { address: '2001:db8::7' }, { peer: '2001:db8::7' }, true],
  ['of another address', {}, { peer: OTHER }, false],
  ['of an address behind its block', { address: '198.51.100.0/29' }, { peer: OTHER }, false],
  ['to another port', {}, { localPort: 443 }, false],
  ['from this host to a port of the same number', {}, { localPort: 50_000, peerPort: 22 }, false],
  ['by the other protocol', {}, { protocol: 'udp' }, false],
])('a connection %s has come in by a lease, or has not', (_, one, other, isSo) => {
  expect(isThrough(door(one), connection(other))).toBe(isSo)
})

it('ends what no other lease in force lets in', () => {
  const found = [connection(), connection({ peerPort: 50_001 })]
  const elsewhere = [door({ key: 'bob', address: OTHER }), door({ key: 'bob', port: 443 })]
  expect(sorted(found, elsewhere, null)).toEqual({ own: found, others: [] })
})

it('spares what another lease in force lets in, and names its key', () => {
  const kept = [door({ key: 'bob', address: '198.51.100.0/24' }), door({ key: 'bob' }), door({ key: 'carol' })]
  expect(sorted([connection()], kept, null)).toEqual({
    own: [],
    others: [`connections from ${CLIENT} to 22/tcp go on: leases of bob, carol are still open there`],
  })
})

it('tells 20,000 connections from those of 10,000 leases without asking each of these about each of those', () => {
  const kept = Array.from({ length: 10_000 }, (_, n) => door({ key: 'bob', address: `10.0.${n >> 8}.${n & 255}` }))
  const found = Array.from({ length: 20_000 }, (_, n) => connection({ peerPort: 1_024 + n }))
  const { own, others } = sorted([...found, connection({ peer: '10.0.39.15' })], kept, null)
  expect([own.length, others]).toEqual([found.length, [expect.stringContaining('10.0.39.15 to 22/tcp go on: leases of bob')]])
})

it('spares the session in which it is typed, and no other of the same client', () => {
  const session = { peer: CLIENT, peerPort: 50_000, local: SERVER, localPort: 22 }
  const other = connection({ peerPort: 50_001 })
  expect(sorted([connection(), other], [], session)).toEqual({
    own: [other],
    others: [`this session (from ${CLIENT} to 22/tcp) goes on: end it yourself`],
  })
})

it('names each connection to ss by both its ends', () => {
  const six = { peer: '2001:db8::7', peerPort: 50_001, local: '2001:db8::1', localPort: 443 }
  expect(filterOf([connection(), connection(six)])).toBe(
    `( src ${SERVER}:22 and dst ${CLIENT}:50000 ) or ( src [2001:db8::1]:443 and dst [2001:db8::7]:50001 )`,
  )
})

it('has no filter for no connection: that would be one for all', () => {
  expect(filterOf([])).toBeNull()
})
