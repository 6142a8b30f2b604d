import type { Command } from 'commander'
import { KEY_ID, KEY_ID_RULE } from '../../protocol/key'
import { quoted, UsageFault } from '../../system/fault'
import { subcommand } from '../options'
import { jsonOption } from '../voice'
import { configOption } from './places'

/** Gives knockturn the commands of a fleet. What they need is loaded by whoever runs one. */
export function addFleet(parent: Command): void {
  const fleet = subcommand(
    parent,
    'fleet',
    'have several servers share one ledger by an etcd, and see how they stand',
    'fleet status',
  )
  const words = () => import('./fleet-words')
  subcommand(fleet, 'init', 'make the fleet, on its first gateway, and join it', 'fleet init')
    .addOption(configOption())
    .action(async ({ config }: Options) => (await words()).printInit(config))
  subcommand(fleet, 'join', 'have this gateway join the fleet', 'fleet join')
    .addOption(configOption())
    .action(async ({ config }: Options) => (await words()).printJoin(config))
  subcommand(fleet, 'leave', 'take a gateway out of the fleet: this one, or one that is gone for good', 'fleet leave gw3')
    .argument('[gateway]', 'name of another gateway, which does not run')
    .addOption(configOption())
    .action(async (name: string | undefined, { config }: Options) => (await words()).printLeave(config, checkName(name)))
  const floor =
    'set the base of the fleet to now: what was sent before opens nothing; after a wrong clock, or an etcd that was restored'
  subcommand(fleet, 'floor', floor, 'fleet floor')
    .addOption(configOption())
    .action(async ({ config }: Options) => (await words()).printFloor(config))
  subcommand(fleet, 'status', 'show the gateways, their clocks and keys, what they share, and how etcd is', 'fleet status')
    .addOption(jsonOption())
    .addOption(configOption())
    .action(async ({ config, json = false }: Options) => (await words()).printStatus(config, json))
}

interface Options {
  readonly config: string
  readonly json?: boolean
}

/** @throws {UsageFault} where it is no gateway's name */
function checkName(name: string | undefined): string | null {
  if (name !== undefined && !KEY_ID.test(name)) throw new UsageFault(`<gateway> expected ${KEY_ID_RULE}, got ${quoted(name)}`)
  return name ?? null
}
