import { join } from 'node:path'
import type { Place } from '../../../src/admin/fleet/place'
import { type Config, readConfig } from '../../../src/daemon/config'
import type { FleetConfig } from '../../../src/daemon/fleet/config'
import { formatKeys, formatWord, type GatewayWord } from '../../../src/daemon/fleet/gateway-row'
import { gatewayRow, keysRow } from '../../../src/daemon/fleet/rows'
import { Twin } from '../../daemon/fleet/twin'
import { put, scratch } from '../../system/scratch'

/** Unix milliseconds. */
export const NOW = Date.parse('2026-12-01T12:00:00Z')

/** A gateway with a ledger's folder of its own, and an etcd in memory. */
export interface Beside extends Place {
  readonly etcd: Twin
  readonly folder: string
  readonly ledger: string
  readonly fleet: FleetConfig
  /** What comes about while somebody listens. */
  meanwhile: () => void
}

interface Options {
  readonly etcd?: Twin
  readonly gateway?: string
  readonly server?: string
  readonly skew?: number
  readonly now?: number
}

/** A gateway's place. The others' etcd by {@link Twin.beside}. */
export async function placeOf({
  etcd = new Twin(),
  gateway = 'gw1',
  server = 'gate.example',
  skew = 1,
  now = NOW,
}: Options = {}): Promise<Beside> {
  const folder = scratch()
  const text = `server = "${server}"\nkeys = "."\nskew = ${skew}\n[ledger]\npath = "ledger"\netcd = ["http://127.0.0.1:2379"]\ngateway = "${gateway}"\n`
  const file = put(folder, 'knockturn.toml', text)
  const config = (await readConfig(file)).value as Config
  const place: Beside = {
    ...{ file, config, fleet: config.ledger.fleet as FleetConfig, etcd, folder, ledger: join(folder, 'ledger') },
    now: () => now,
    meanwhile: () => {},
    wait: async () => {
      place.meanwhile()
      await new Promise(setImmediate)
    },
  }
  return place
}

/** Puts a row, as somebody else. */
export const set = (etcd: Twin, row: string, value: string) =>
  etcd.store.transact({ if: [], do: [{ put: row, value }], else: [] })

/** What a gateway says. */
export const word = (more: Partial<GatewayWord> = {}): GatewayWord => ({
  ...{ life: '0123456789abcdef', beat: 7, wall: NOW, steady: 1_000, synchronised: true, epoch: 1, restored: false },
  ...{ program: '1.0', server: 'gate.example', skew: 1, keys: { count: 1, digest: 'd1' }, lastTap: null, leases: 0, locks: 0 },
  ...more,
})

/** Has a gateway speak. @param keys the fingerprints that it tells */
export function speak(etcd: Twin, name: string, more: Partial<GatewayWord> = {}, keys: readonly string[] | null = null): void {
  const puts = [{ put: gatewayRow(name), value: formatWord(word(more)) }]
  if (keys) puts.unshift({ put: keysRow(name), value: formatKeys(keys) })
  etcd.store.transact({ if: [], do: puts, else: [] })
}
