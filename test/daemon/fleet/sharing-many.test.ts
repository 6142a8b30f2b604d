import { describe, expect, it } from 'vitest'
import { CurrentKeys } from '../../../src/daemon/current-keys'
import { formatEntry, leaseRow, placeOf } from '../../../src/daemon/fleet/rows'
import { serverKey } from '../../replay/world'
import { Fellows, FLEET, leasesOf } from './fellows'

const KEYS = [1, 2, 3]
const OF_KEY = 200

/** Two gateways, of which the second one is cut off while another writes 600 rows of leases. */
async function begin() {
  const fellows = await Fellows.begin(...[1, 2].map(() => ({ keys: KEYS.map((n) => serverKey(n, { allowUntilClosed: true })) })))
  const [one, other] = fellows.all
  other.cutOff()
  for (const { id: key, fingerprint, key: secret } of one.world.keys) {
    for (let i = 0; i < OF_KEY; i++) {
      const whose = { id: `abcdef${(i % 256).toString(16).padStart(2, '0')}`, key, fingerprint, address: `203.0.113.${i}` }
      const entry = { ...whose, protocol: 'tcp' as const, port: 22, once: false, until: null }
      const row = leaseRow(entry)
      await fellows.write(row, formatEntry(row, { entry, gateway: 'gw9', epoch: 1, seconds: null }, FLEET, secret))
    }
  }
  return { fellows, one, other }
}

describe('many rows', () => {
  it('are taken over a part at a time, and all of them in the end', async () => {
    const { fellows, other } = await begin()
    const first = new Promise<number>((resolve) => {
      const { reset } = other.sharing
      other.sharing.reset = (...rows) => {
        reset.apply(other.sharing, rows)
        resolve(other.world.leases.size)
      }
    })
    await other.back()
    expect(await first).toBeLessThan(KEYS.length * OF_KEY)
    await fellows.settled()
    expect(other.world.leases.size).toBe(KEYS.length * OF_KEY)
  })

  it('close what they do not name at once, though others wait to be read', async () => {
    const { fellows, one, other } = await begin()
    await other.back()
    await fellows.settled()
    one.cutOff()
    await fellows.remove(fellows.rows()[599])
    await one.back()
    await fellows.settled()
    expect([leasesOf(one).length, leasesOf(other).length]).toEqual([599, 599])
  })
})

describe('names of rows', () => {
  it('are no longer than those of addresses and blocks', () => {
    const key = '0'.repeat(32)
    const block = '2001:db8:ffff:ffff:ffff:ffff:ffff:ffff/128'
    const rows = (address: string) => [`shared/lease/${key}/tcp/65535/${address}`, `shared/lock/${key}/${address}`]
    expect(rows(block).map((row) => placeOf(row)?.address)).toEqual([block, block])
    expect(rows('1'.repeat(1_000_000)).map(placeOf)).toEqual([null, null])
  })
})

describe('keys that are revoked by the fleet', () => {
  it('are looked at one by one, however many are heard of', () => {
    const keys = KEYS.map((n) => serverKey(n))
    const current = new CurrentKeys()
    let looks = 0
    const counted = { ...keys[0] }
    Object.defineProperty(counted, 'fingerprint', {
      enumerable: true,
      get: () => {
        looks++
        return keys[0].fingerprint
      },
    })
    current.set([counted, ...keys.slice(1)], [])
    looks = 0
    for (let i = 0; i < 1_000; i++) current.revoke(i.toString(16).padStart(32, '0'), 1)
    expect(looks).toBe(0)
    current.revoke(keys[0].fingerprint, 2)
    expect([current.named(keys[0].fingerprint)?.revoked, current.of(keys[0].key)?.revoked]).toEqual([2, 2])
    expect([...current.all()].map(({ id }) => id)).toEqual(keys.map(({ id }) => id))
  })
})
