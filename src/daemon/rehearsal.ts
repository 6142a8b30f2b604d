import { DEFAULT_POOL, parsePool } from '../protocol/pool'
import { ownPrivileges } from '../system/capabilities'
import { findCommand } from '../system/commands'
import { type Fault, keepFault } from '../system/fault'
import { backendOf } from './backends/all'
import { guardOfNow } from './bridges'
import type { Config } from './config'
import { tapRulesOf } from './tap-rules'
import { trySetpriv } from './taps/child'
import { openTaps, tapCommands } from './taps/open'

/** What came of trying what a daemon will do. */
export interface Rehearsal {
  readonly faults: Fault[]
  /** What the daemon can do without, and will be felt. */
  readonly notes: string[]
  /** What could not be tried, and why: nobody knows whether it is well. */
  readonly unchecked: string[]
}

/**
 * Tries what a daemon will do to hear and to open, by its own means, and leaves nothing behind.
 * @param isHeld whether a daemon may be running, which has what it hears with
 */
export async function rehearse(config: Config, isHeld: boolean): Promise<Rehearsal> {
  const { taps, datagram, firewall } = config
  const found: Rehearsal = { faults: [], notes: [], unchecked: [] }
  /** Whether something could be done; else the fault is kept. */
  const works = async (act: () => Promise<void>) => (await keepFault(found.faults, () => act().then(() => true))) ?? false
  /** Whether commands are installed. */
  const have = async (commands: readonly string[]) => {
    const there = []
    for (const command of commands) there.push(await works(() => findCommand(command)))
    return there.every((one) => one)
  }
  const backend = backendOf(config)
  const isCapture = taps.source === 'nflog'
  const { missing: lacking } = await ownPrivileges({ firewall: backend.isReal, capture: isCapture })
  /** Whether we may try it; else it is noted. */
  const may = (what: string) => {
    if (lacking.length > 0)
      found.unchecked.push(`${what}: this requires ${lacking.map((name) => `cap_${name}`)}: run this as root`)
    return lacking.length === 0
  }

  await have(['flock'])
  const mayTry = () => !backend.isReal || may("whether the firewall accepts the daemon's rules")
  if ((await have(backend.commands)) && mayTry())
    await works(async () => {
      const heard = tapRulesOf([{ key: { pool: parsePool(DEFAULT_POOL) } }], config)
      const rules = { guard: guardOfNow(firewall.guard), taps: taps.source === 'stdin' ? null : heard }
      found.faults.push(...(await backend.rehearse(rules, (note) => found.notes.push(note))))
    })

  const [, program] = tapCommands(taps)
  if (program === undefined || !(await have(tapCommands(taps)))) return found
  if (!(await works(() => trySetpriv(program, !isCapture))) || isHeld) return found
  if (isCapture && !may(`whether ${program} can read NFLOG group ${taps.group}`)) return found
  await works(async () => {
    const source = openTaps(taps, () => {}, datagram.ports)
    const nothing = () => {}
    await source.start(nothing, nothing)
    await source.stop()
  })
  return found
}
