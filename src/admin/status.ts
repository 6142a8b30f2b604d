import { dirname, join } from 'node:path'
import { backendOf } from '../daemon/backends/all'
import type { Config } from '../daemon/config'
import { formatGuarded } from '../daemon/guard'
import { SAVED_GUARDS } from '../daemon/saved-guard'
import type { StateLease, StateLock } from '../daemon/state/state'
import { Fault, keepFault } from '../system/fault'
import { exists } from '../system/files'
import { isoTime } from '../system/time'
import { lookAtDaemon, type Sight } from './alive'
import { wholeConfig } from './config'
import { wrongWithFleet } from './fleet/standing'
import { inForceAt } from './leases'
import { hasSystemd } from './setup/machine'
import { areEnabled } from './setup/there'

/* How a server stands: what its daemon says of itself, what the firewall has, and what is wrong with either. */

/** How it stands with the guard. Null: nobody can tell. */
export interface GuardSight {
  /** Ports as `guard` in the config writes them; none: there is no guard. */
  readonly ports: readonly string[]
  /** Whether Knockturn's rules are in the firewall, all of them and in their place; with a guard, the guard is among them. Null also where it has none. */
  readonly isLoaded: boolean | null
  /** Whether it is loaded at boot, too: it is saved, and its units are enabled. Null also without a guard, and where there is no systemd. */
  readonly isPermanent: boolean | null
}

/** How a server stands. */
export interface Status extends Omit<Sight, 'faults'> {
  readonly config: { readonly file: string; readonly server: string; readonly backend: string; readonly source: string }
  readonly guard: GuardSight
  /** Who says what is in force; null: nobody could. */
  readonly by: 'daemon' | 'firewall' | null
  /** The soonest end first. */
  readonly leases: readonly StateLease[]
  readonly locks: readonly StateLock[]
  /** What is wrong, each with its remedy. */
  readonly faults: readonly Fault[]
}

/**
 * Looks how a server stands.
 * @param file the daemon's config
 * @param now Unix milliseconds
 * @throws {Fault} where the config can't be read: what else can't be is among the faults
 */
export async function lookAtServer(file: string, now: number): Promise<Status> {
  const config = await wholeConfig(file)
  const faults: Fault[] = []
  const [sight, guard] = await Promise.all([lookAtDaemon(config, now), lookAtGuard(file, config, faults)])
  const { life, state, written } = sight
  const inForce = await keepFault(faults, () => inForceAt(config, sight, now))
  const { server, taps, firewall } = config
  return {
    ...{ life, state, written, guard },
    config: { file, server, backend: firewall.backend, source: taps.source },
    by: inForce?.by ?? null,
    leases: inForce?.leases ?? [],
    locks: inForce?.locks ?? [],
    faults: distinct([...wrongWith(sight, guard), ...sight.faults, ...faults]),
  }
}

/** What stands in the way of two looks is said once. */
const distinct = (faults: readonly Fault[]): Fault[] => [...new Map(faults.map((fault) => [fault.message, fault])).values()]

/** @param faults told why it can't be seen */
async function lookAtGuard(file: string, config: Config, faults: Fault[]): Promise<GuardSight> {
  const ports = config.firewall.guard.ports.map(formatGuarded)
  // Whether they are those of these keys is not looked at: a daemon that runs sees to that, and to read all keys takes longer than the rest.
  const isLoaded = (await keepFault(faults, () => backendOf(config).isInPlace())) ?? null
  if (ports.length === 0) return { ports, isLoaded, isPermanent: null }
  const isPermanent = (await keepFault(faults, () => isSaved(file, config))) === false ? false : null
  if (isPermanent === false || !(await hasSystemd())) return { ports, isLoaded, isPermanent }
  return { ports, isLoaded, isPermanent: (await keepFault(faults, areEnabled)) ?? null }
}

/** Whether `knockturn guard save` has written the guard of this backend. @throws {Fault} where that can't be seen */
async function isSaved(file: string, { firewall }: Config): Promise<boolean> {
  const names = Object.entries(SAVED_GUARDS).flatMap(([name, backend]) => (backend === firewall.backend ? name : []))
  return (await Promise.all(names.map((name) => exists(join(dirname(file), name))))).includes(true)
}

/** What is wrong by what was seen. A state that can't be read is no silence: what says so is a fault of its own. */
export function wrongWith(
  { life, state, written, faults: unseen }: Sight,
  { ports, isLoaded, isPermanent }: GuardSight,
): Fault[] {
  const faults: Fault[] = []
  if (life === 'dead') faults.push(new Fault('no daemon is running: nothing opens', { hint: START }))
  if (life === 'silent' && written === null && unseen.length === 0)
    faults.push(new Fault('a daemon is running and says nothing of itself: it may be of an earlier version', { hint: RESTART }))
  if (life === 'silent' && written !== null)
    faults.push(new Fault(`the daemon hangs: it has said nothing of itself since ${isoTime(written)}`, { hint: RESTART }))
  if (life === 'alive' && state?.hearing === 'deaf')
    faults.push(new Fault('the daemon hears nothing of what the firewall logs: nothing opens', { hint: CHECK }))
  if (life === 'alive' && state?.hearing === 'waiting')
    faults.push(new Fault('the daemon has not begun to hear: nothing opens yet', { hint: BEGINNING }))
  if (life === 'alive' && state?.fleet) faults.push(...wrongWithFleet(state.fleet))
  if (isLoaded === false && ports.length > 0)
    faults.push(
      new Fault('the guard is not in the firewall, or not all of it: the guarded ports may be open to everyone', {
        hint: INSTALL,
      }),
    )
  if (isLoaded === false && ports.length === 0)
    faults.push(
      new Fault('the rules of Knockturn are not in the firewall, or not all of them: no knock is received', { hint: INSTALL }),
    )
  if (isPermanent === false)
    faults.push(
      new Fault('the guard is not loaded at boot: the guarded ports are open then until the daemon runs', {
        hint: MAKE_PERMANENT,
      }),
    )
  return faults
}

const START = 'start it: "systemctl start knockdaemon"; look why it has ended with "journalctl -u knockdaemon -n 30"'
const RESTART = 'restart it: "systemctl restart knockdaemon"'
const INSTALL = 'run "knockturn firewall install", and look whether the daemon runs, which puts them back'
const BEGINNING = 'look again in a moment; then look with "journalctl -u knockdaemon -n 30" why its source of taps does not start'
const CHECK = 'run "knockdaemon --check", and look at its log'
const MAKE_PERMANENT = 'run "knockturn guard save", and "systemctl enable knockturn-guard knockdaemon"'
