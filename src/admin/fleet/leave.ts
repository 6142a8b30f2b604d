import { rm } from 'node:fs/promises'
import { memoryPath, readMemory } from '../../daemon/fleet/memory'
import { gatewayRow, keysRow } from '../../daemon/fleet/rows'
import { Fault, listed, thereAre } from '../../system/fault'
import { isLedgerHeld } from '../alive'
import { type Gateway, lookAtFleet } from './gateways'
import { isTaken } from './join'
import type { Place } from './place'

/** Gateways that are named in one line. */
const NAMED = 8

/** A gateway that has left. */
export interface Left {
  readonly gateway: string
  /** The file that said that this gateway had joined; null: another one has left. */
  readonly path: string | null
  /** Another machine uses that name: its row stays. */
  readonly isDouble: boolean
  /** The gateways that stay. */
  readonly others: readonly string[]
}

/**
 * Takes a gateway out of its fleet: its row, and of this one what it remembers, too. What it has opened elsewhere goes on to its end.
 * @param wanted a gateway's name; null: this one
 * @throws {Fault} where its daemon runs, or there is no such gateway
 */
export async function leave(place: Place, wanted: string | null): Promise<Left> {
  const { config, fleet } = place
  const path = memoryPath(config.ledger.path)
  const own = (await readMemory(config.ledger.path))?.gateway ?? null
  const name = wanted ?? own ?? fleet.gateway
  const isOwn = name === own
  if (isOwn && (await isLedgerHeld(config.ledger.path)))
    throw new Fault('the daemon of this gateway runs', { hint: 'stop it first: "systemctl stop knockdaemon"' })
  const { gateways } = await lookAtFleet(place, name)
  const gateway = gateways.find((one) => one.name === name)
  const others = gateways.filter((one) => one !== gateway).map((one) => one.name)
  if (!gateway && !isOwn)
    throw new Fault(`there is no gateway "${name}" ${thereAre(listed(others, NAMED))}`, {
      hint: 'run "knockturn fleet status" to see them',
    })
  // The daemon here does not run: who speaks by its name is another machine.
  const isDouble = isOwn && !!gateway?.speaks
  if (gateway && !isDouble) await remove(place, gateway)
  if (isOwn) await rm(path, { force: true })
  return { gateway: name, path: isOwn ? path : null, isDouble, others }
}

/** @throws {Fault} where it speaks */
async function remove({ etcd }: Place, { name, speaks, modified }: Gateway): Promise<void> {
  const row = gatewayRow(name)
  const removed = speaks
    ? null
    : await etcd.transact({
        if: [{ row, is: 'modified', revision: modified }],
        do: [{ remove: row }, { remove: keysRow(name) }],
        else: [{ get: row }],
      })
  // Gone is gone: asked again at another member, the second time finds nothing.
  if (!removed || (!removed.held && removed.done[0]?.rows.length !== 0)) throw isTaken(name)
}
