import { expect, it } from 'vitest'
import { BACKENDS } from '../../src/daemon/backends/all'
import { ROOM } from '../../src/daemon/nftables/elements'

it('a backend has so many leases at most', () => {
  const most = Object.entries(BACKENDS).map(([name, { maxLeases }]) => [name, maxLeases])
  expect(Object.fromEntries(most)).toEqual({
    iptables: 4_096,
    'iptables with a guard': 4_096,
    nftables: 65_536,
    'dry-run': 4_096,
  })
})

it('the sets of nftables have room for all leases, and for those that take the place of all', () => {
  expect(ROOM).toBeGreaterThanOrEqual(2 * BACKENDS.nftables.maxLeases)
})
