import { describe, expect, it } from 'vitest'
import { commentOf, listed, readListed } from '../../../src/daemon/nftables/elements'
import { Standing } from '../../../src/daemon/nftables/standing'
import { type Entry, type Lease, Refused } from '../../../src/gate/firewall'

const NOW = 1_800_000_000_000
const UNTIL = NOW / 1_000 + 300
const FINGERPRINT = '5e86608cb21013e732da4b181b285fdb'
const lease = (over: Partial<Lease> = {}): Lease => ({
  id: '51c851a1',
  key: 'alice',
  fingerprint: FINGERPRINT,
  address: '198.51.100.7',
  protocol: 'tcp',
  port: 22,
  once: false,
  until: UNTIL,
  ...over,
})
const lock = { id: '0badcafe', key: 'alice', fingerprint: FINGERPRINT, address: '2001:db8::7', until: UNTIL }
const wide = (text: string) => text.split(' . ').map((part) => (/^\d+$/.test(part) ? Number(part) : part))
/** The kernel's clock stands for the wall clock here. */
const left = ({ until }: Entry) => (until === null ? Infinity : until * 1_000 - NOW)
const again = (entry: Entry) => readListed(wide(listed(entry).key), commentOf(entry))

function opened(...entries: Entry[]) {
  const standing = new Standing()
  standing.compose({ add: entries, remove: [] }, NOW, left).made()
  return standing
}
const closed = (entry: Entry, why = 'closed') => ({ add: [], remove: [{ entry, why }] })

describe('an element of a list', () => {
  it.each<[string, Entry]>([
    ['a lease', lease()],
    ['a lease without an end', lease({ until: null })],
    ['a lease by IPv6', lease({ address: '2001:db8::7', protocol: 'udp', id: '51c851a1.12' })],
    ['a lease of a block', lease({ address: '198.51.100.0/24', once: true })],
    ['a lock', lock],
  ])('reads back as %s', (_, entry) => {
    expect(again(entry)).toEqual(entry)
  })

  it('fits into the 128 bytes that nft keeps', () => {
    const longest = lease({ id: '51c851a1.63', key: 'k'.repeat(32), address: '2001:db8::/128', once: true, until: 9_999_999_999 })
    expect(commentOf(longest).length).toBeLessThan(128)
  })

  it.each([
    ['without a comment', undefined],
    ['with a word too many', `${commentOf(lease())}:x`],
    ['of a key that no key can be', commentOf(lease({ key: 'a b' }))],
    ['with a block that is none', commentOf(lease()).replace(':32:', ':33:')],
    ['of another program', 'opened by hand'],
  ])('is not ours %s', (_, comment) => {
    expect(readListed([1_372_082_593, '198.51.100.7', 'tcp', 22], comment)).toBeNull()
  })
})

describe('what packets meet', () => {
  const door = 'open4_32 { 198.51.100.7 . tcp . 22'
  it('lives as long as the longest of its leases', () => {
    const bob = lease({ id: '00000001', key: 'bob', fingerprint: 'b'.repeat(32), until: UNTIL + 60 })
    const standing = opened(lease(), bob)
    expect(standing.compose(closed(lease()), NOW, left).lines.join()).not.toContain(door)
    expect(standing.compose(closed(bob), NOW, left).lines).toContain(`add element inet knockturn ${door} timeout 300s0ms }`)
  })

  it('goes with the last of them', () => {
    const { lines } = opened(lease()).compose(closed(lease()), NOW, left)
    expect(lines).toContain(`delete element inet knockturn ${door} }`)
  })

  it.each<[string, string, number, boolean]>([
    ['without a lease', 'open4_32 198.51.100.8 . tcp . 22', Infinity, true],
    ['without a lease, and ends in a year', 'open4_32 198.51.100.8 . tcp . 22', 31_536_000, true],
    ['for a block, where the lease is for an address', 'open4_24 198.51.100.7 . tcp . 22', Infinity, true],
    ['without a lease, and ends at once', 'open4_32 198.51.100.8 . tcp . 22', 1, false],
    ['by a lease', 'open4_32 198.51.100.7 . tcp . 22', 300, false],
  ])('is somebody else’s, or not: %s', (_, text, left, isStray) => {
    expect(opened(lease()).straySets(new Map([[text, left]]))).toEqual(isStray ? [text.slice(0, 8)] : [])
  })

  it('needs no deletion where a door is opened that was closed', () => {
    expect(new Standing().compose({ add: [lease()], remove: [] }, NOW, left).lines.join()).not.toContain('delete')
  })

  it('of a longer lease is taken away and put there in one transaction', () => {
    const longer = lease({ until: UNTIL + 60 })
    const { lines } = opened(lease()).compose({ add: [longer], remove: [{ entry: lease(), why: 'replaced' }] }, NOW, left)
    expect(lines.filter((line) => line.includes(door)).map((line) => line.split(' ')[0])).toEqual(['add', 'delete', 'add'])
  })

  it('of a lease for one connection keeps its limit where that is made longer', () => {
    const [once, longer] = [lease({ once: true }), lease({ once: true, until: UNTIL + 60 })]
    const { lines } = opened(once).compose({ add: [longer], remove: [{ entry: once, why: 'replaced' }] }, NOW, left)
    expect(lines.filter((line) => line.includes('limit inet'))).toEqual([])
  })

  it('has one limit for all services of a knock', () => {
    const services = [22, 80].map((port, n) => lease({ once: true, port, id: `51c851a1${n ? `.${n}` : ''}` }))
    const { lines } = new Standing().compose({ add: services, remove: [] }, NOW, left)
    expect(lines.filter((line) => line.startsWith('add limit'))).toHaveLength(1)
  })

  it('has a map of its own for each knock for one connection by the same door, up to 16', () => {
    const knocks = Array.from({ length: 17 }, (_, n) => lease({ once: true, id: n.toString(16).padStart(8, '0') }))
    const standing = new Standing()
    const { places } = standing.compose({ add: knocks.slice(1), remove: [] }, NOW, left)
    expect(places.map(({ round }) => round)).toEqual(Array.from({ length: 16 }, (_, n) => n))
    expect(() => standing.compose({ add: knocks, remove: [] }, NOW, left)).toThrow(Refused)
  })

  it('of a block is looked up by its network', () => {
    const { places } = new Standing().compose({ add: [lease({ address: '198.51.100.0/24' })], remove: [] }, NOW, left)
    expect(places).toEqual([{ version: 4, bits: 24, round: null }])
  })
})

it('a change that was not made leaves nothing behind', () => {
  const standing = new Standing()
  standing.compose({ add: [lease()], remove: [] }, NOW, left)
  expect(standing.entries()).toEqual([])
})

it('a lease that has ended already ends at once', () => {
  const { lines } = new Standing().compose({ add: [lease({ until: NOW / 1_000 - 60 })], remove: [] }, NOW, left)
  expect(lines.join()).toContain('timeout 0s1ms')
})

it('a lease stands no longer than the kernel kept it, though the clock was set back meanwhile', () => {
  const bob = lease({ id: '00000001', key: 'bob', fingerprint: 'b'.repeat(32) })
  const hour = 3_600_000
  const standing = new Standing([lease(), bob], [], [], new Map(), new Map([[lease(), 0]].map(() => [bob, NOW + 20_000])))
  const { lines } = standing.compose(closed(lease()), NOW, () => hour)
  expect(lines.join()).not.toContain('3600s')
})
