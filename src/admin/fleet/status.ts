import { type EtcdStatus, Unavailable } from '../../daemon/fleet/etcd/etcd'
import { healthFault } from '../../daemon/fleet/health'
import { type FleetMemory, readMemory } from '../../daemon/fleet/memory'
import { Fault, keepFault, listed } from '../../system/fault'
import { labelFault, membershipFault, noBase, skewFault, UPDATE } from './fit'
import { type Gateway, lookAtFleet, type Shared } from './gateways'
import { etcdFault, type Place, toldBy } from './place'
import { ROOM } from './standing'

/* How a fleet stands: what its gateways say, what its etcd says, and what is wrong with either. */

/** Milliseconds by which clocks differ that are kept. */
const CLOCK = 2_000
/** Keys, and gateways, that are named in one line. */
const NAMED = 8

/** A key that only some gateways have. */
export interface Difference {
  readonly fingerprint: string
  readonly at: readonly string[]
  readonly notAt: readonly string[]
}

/** How a fleet stands. */
export interface FleetStatus {
  /** What this gateway remembers of it; null: it has not joined. */
  readonly memory: FleetMemory | null
  /** Null: etcd can't be asked. */
  readonly shared: Shared | null
  readonly differences: readonly Difference[]
  readonly members: readonly { readonly endpoint: string; readonly status: EtcdStatus | Unavailable }[]
  /** What is wrong, each with its remedy. */
  readonly faults: readonly Fault[]
}

/** Looks how the fleet of a gateway stands. What can't be seen is among the faults. */
export async function lookAtStatus(place: Place): Promise<FleetStatus> {
  const { etcd, config, fleet } = place
  const faults: Fault[] = []
  const memory = (await keepFault(faults, () => readMemory(config.ledger.path))) ?? null
  const [members, shared] = await Promise.all([
    etcd.status(),
    keepFault(faults, () =>
      lookAtFleet(place).catch((error) => {
        throw toldBy(error)
      }),
    ),
  ])
  const differences = differencesOf(shared?.gateways ?? [])
  const known = { memory, shared: shared ?? null, differences, members }
  return {
    ...known,
    faults: [
      ...faults,
      ...wrongWith(known, { server: config.server, skew: config.skew, prefix: fleet.prefix, gateway: fleet.gateway }),
    ],
  }
}

/** The keys that not all gateways have that speak. Those of a gateway that has not told them all are not compared. */
export function differencesOf(gateways: readonly Pick<Gateway, 'name' | 'said' | 'keys' | 'speaks'>[]): Difference[] {
  const told = gateways.flatMap(({ name, said, keys, speaks }) =>
    speaks && keys !== null && said?.keys.count === keys.length ? [{ name, keys: new Set(keys) }] : [],
  )
  const all = [...new Set(told.flatMap(({ keys }) => [...keys]))].sort()
  return all.flatMap((fingerprint) => {
    const [at, notAt] = [true, false].map((has) =>
      told.filter(({ keys }) => keys.has(fingerprint) === has).map(({ name }) => name),
    )
    return notAt.length > 0 ? [{ fingerprint, at, notAt }] : []
  })
}

/** What the config of this gateway says. */
interface Own {
  readonly server: string
  readonly skew: number
  readonly prefix: string
  readonly gateway: string
}

/** What is wrong with a fleet by what was seen. */
export function wrongWith({ memory, shared, differences, members }: Omit<FleetStatus, 'faults'>, own: Own): Fault[] {
  return [
    ...members.flatMap(wrongWithMember),
    ...(shared ? wrongWithBase(shared, memory, own) : []),
    ...(shared?.gateways ?? []).flatMap((gateway) => wrongWithGateway(gateway, own)),
    ...wrongWithKeys(shared?.gateways ?? [], differences),
  ]
}

function wrongWithMember({ endpoint, status }: FleetStatus['members'][number]): Fault[] {
  if (status instanceof Unavailable) {
    const { message, hint } = etcdFault(status)
    return [new Fault(`${endpoint}: ${message}`, { hint })]
  }
  const faults: Fault[] = []
  if (!status.hasLeader)
    faults.push(new Fault(`${endpoint}: this member knows no leader, so that nothing is written there`, { hint: LEADER }))
  const fault = healthFault(status)
  if (fault !== null) faults.push(new Fault(`${endpoint}: ${fault}`, { hint: ROOM }))
  return faults
}

function wrongWithBase({ base: found }: Shared, memory: FleetMemory | null, { server, prefix, gateway }: Own): Fault[] {
  const base = found?.base
  if (!base) return [noBase(found, prefix, memory !== null)]
  const membership = membershipFault(memory, base)
  const renamed =
    memory && memory.gateway !== gateway
      ? new Fault(`this gateway has joined as "${memory.gateway}", and its config says "${gateway}": its daemon does not start`, {
          hint: RENAMED,
        })
      : null
  return [membership ?? renamed, labelFault(base, server)].filter((fault) => fault !== null)
}

function wrongWithGateway({ name, said, speaks, offset }: Gateway, { skew }: Own): Fault[] {
  if (!said) return [new Fault(`gateway "${name}" says what this program cannot read`, { hint: UPDATE })]
  if (!speaks)
    return [
      new Fault(`gateway "${name}" does not speak`, {
        hint: `look whether its daemon runs and reaches etcd; if it is gone for good, run "knockturn fleet leave ${name}"`,
      }),
    ]
  const faults: Fault[] = []
  if (said.restored)
    faults.push(new Fault(`gateway "${name}" opens nothing: it has found an etcd that knows less than before`, { hint: FLOOR }))
  const odd = skewFault([{ name, said }], skew)
  if (odd) faults.push(odd)
  if (offset !== null && Math.abs(offset) > CLOCK)
    faults.push(
      new Fault(`the clock of gateway "${name}" and this one differ by ${(Math.abs(offset) / 1_000).toFixed(1)} s`, {
        hint: CLOCKS,
      }),
    )
  return faults
}

function wrongWithKeys(gateways: readonly Gateway[], differences: readonly Difference[]): Fault[] {
  const digests = new Set(gateways.flatMap(({ said, speaks }) => (speaks && said ? said.keys.digest : [])))
  if (digests.size < 2) return []
  const named = differences.map(({ fingerprint, notAt }) => `${fingerprint.slice(0, 8)} not at ${listed(notAt, NAMED)}`)
  const which = named.length > 0 ? `: ${listed(named, NAMED)}` : ''
  return [new Fault(`the gateways have different keys${which}`, { hint: KEYS })]
}

const LEADER =
  'look whether a majority of the members runs, and whether they reach each other: "etcdctl endpoint status --cluster"'
const RENAMED = 'set gateway in [ledger] to that name, or run "knockturn fleet leave" and then "knockturn fleet join"'
const FLOOR = 'look whether the clocks are kept: then a gateway repairs that by itself, or "knockturn fleet floor" does'
const CLOCKS = 'run "timedatectl set-ntp true" there, or install chrony (Debian: apt-get install chrony)'
const KEYS = 'spread the same key files to all gateways: see docs/fleet.md, "The same keys everywhere"'
