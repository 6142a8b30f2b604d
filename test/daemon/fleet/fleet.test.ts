import { expect, it } from 'vitest'
import { type FleetConfig, fleetOf } from '../../../src/daemon/fleet/config'
import { Fleet, type FleetSetup } from '../../../src/daemon/fleet/fleet'
import { joined } from '../../../src/daemon/fleet/memory'
import { OLD_BASE } from './plain-link'
import { Twin } from './twin'

/** What of a daemon's stages is another in a fleet whose config says so much more. */
function stagesOf(more: Partial<FleetConfig>): Fleet['stages'] {
  const fleet = { ...fleetOf({ etcd: ['https://10.0.0.1:2379'], gateway: 'gw1' }, '/'), ...more } as FleetConfig
  const twin = new Twin()
  const setup = { config: { skew: 1, server: OLD_BASE.server, ledger: { path: '/none', fleet } }, keys: () => [] }
  const rest = { now: () => ({ wall: 0, steady: 0 }) }
  return new Fleet({ ...setup, ...rest } as unknown as FleetSetup, fleet, twin, joined(OLD_BASE, twin.store.header, 'gw1')).stages
}

it('a fleet counts no connections, unless its config says that packets are routed by source', () => {
  expect(stagesOf({}).onceRefused).toMatch(/pinned = true/)
  expect(stagesOf({ pinned: true }).onceRefused).toBeNull()
})
