import { describe, expect, it } from 'vitest'
import { inForceBy, removeFromTable, without } from '../../src/admin/leases'
import { type Batch, type Entry, type Lease, type Lock, Refused, type Table } from '../../src/gate/firewall'

const NOW = Date.UTC(2026, 10, 30, 12)
const [SOON, OVER] = [NOW / 1_000 + 60, NOW / 1_000 - 1]

const lease = (n: number, more: Partial<Lease> = {}): Lease => ({
  ...{ id: n.toString(16).padStart(8, '0'), key: 'alice', fingerprint: 'f'.repeat(32), address: `10.0.0.${n}` },
  ...{ protocol: 'tcp', port: 22, once: false, until: SOON },
  ...more,
})
const lock: Lock = { id: '0000000f', key: 'alice', fingerprint: 'f'.repeat(32), address: '10.0.0.9', until: SOON }

/** A table that stands in memory. @param change what happens at the nth change, in the place of all that is asked */
function tableOf(entries: Entry[], maxRemoved = Number.POSITIVE_INFINITY, change: (nth: number) => void = () => {}) {
  const batches: Batch[] = []
  let standing = entries
  const table: Table = {
    ...{ name: 'test', clock: 'wall', maxRemoved },
    ...{ holds: () => true, endsByItself: () => true, rewrite: () => Promise.reject(new Error('is never written anew')) },
    read: async () => ({ entries: standing, isWhole: true }),
    async change(batch) {
      batches.push(batch)
      change(batches.length)
      const gone = batch.remove.map(({ entry }) => entry)
      standing = standing.filter((entry) => !gone.includes(entry))
    },
  }
  return { table, batches, standing: () => standing }
}

describe('what is taken out of a firewall without a daemon', () => {
  it('is what is meant, and nothing is added', async () => {
    const [one, other] = [lease(1), lease(2)]
    const { table, batches, standing } = tableOf([one, other, lock])
    expect(await removeFromTable(table, (entry) => entry === one)).toEqual([])
    expect([standing(), batches.map(({ add }) => add)]).toEqual([[other, lock], [[]]])
  })

  it('goes in steps where the table would else be written anew', async () => {
    const { table, batches, standing } = tableOf(
      [1, 2, 3, 4, 5].map((n) => lease(n)),
      2,
    )
    await removeFromTable(table, () => true)
    expect([standing(), batches.map(({ remove }) => remove.length)]).toEqual([[], [2, 2, 1]])
  })

  it('is tried again where something has ended between the look and the change', async () => {
    const refuseOnce = (nth: number) => {
      if (nth === 1) throw new Refused('it is not there')
    }
    const { table, standing } = tableOf([lease(1)], Number.POSITIVE_INFINITY, refuseOnce)
    expect(await removeFromTable(table, () => true)).toEqual([])
    expect(standing()).toEqual([])
  })

  it('is never said to be gone where it stands there', async () => {
    const deaf = { ...tableOf([lease(1)]).table, change: async () => {} }
    expect(await removeFromTable(deaf, () => true)).toHaveLength(1)
  })

  it('fails where the firewall refuses again and again', async () => {
    const { table } = tableOf([lease(1)], Number.POSITIVE_INFINITY, () => {
      throw new Refused('no')
    })
    await expect(removeFromTable(table, () => true)).rejects.toThrow('no')
  })
})

it('a firewall says what the daemon’s state would, without what has ended', () => {
  const entries = [lease(1), lease(2, { until: null, once: true }), lease(3, { until: OVER }), lock, { ...lock, until: OVER }]
  const { leases, locks } = inForceBy(entries, NOW)
  expect(leases.map(({ address, service, once, until }) => [address, service, once, until])).toEqual([
    ['10.0.0.1', '22/tcp', false, '2026-11-30T12:01:00Z'],
    ['10.0.0.2', '22/tcp', true, null],
  ])
  expect(locks).toEqual([{ ...lock, until: '2026-11-30T12:01:00Z' }])
})

it('what was just ended is not among what is kept, though a daemon’s account still has it', () => {
  const [one, other] = [lease(1), lease(1, { fingerprint: 'e'.repeat(32) })]
  const { leases: ended } = inForceBy([one], NOW)
  expect(without([one, other, lock], ended)).toEqual([other])
})
