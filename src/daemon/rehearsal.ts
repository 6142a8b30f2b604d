import { DEFAULT_POOL, parsePool, poolRanges } from '../protocol/pool'
import { ownPrivileges } from '../system/capabilities'
import { findCommand } from '../system/commands'
import { type Fault, keepFault } from '../system/fault'
import type { Config } from './config'
import type { TapRules } from './firewall/log-rules'
import { FAMILIES, type FilterTable, readTables } from './firewall/table'
import { tryRules } from './firewall/trial'
import { trySetpriv } from './taps/child'
import { openTaps, tapCommands } from './taps/open'

/** What came of trying what a daemon will do. */
export interface Rehearsal {
  readonly faults: Fault[]
  /** What the daemon can do without, and will be felt. */
  readonly notes: string[]
  /** What could not be tried, and why: nobody knows whether it is well. */
  readonly unchecked: string[]
  /** The filter tables, as far as they could be read. */
  readonly tables: FilterTable[]
}

const IPTABLES = ['iptables', 'ip6tables', 'iptables-restore', 'ip6tables-restore']

/**
 * Tries what a daemon will do to hear and to open, by its own means, and leaves nothing behind.
 * @param isHeld whether a daemon may be running, which has what it hears with
 */
export async function rehearse({ taps, datagram, firewall }: Config, isHeld: boolean): Promise<Rehearsal> {
  const found: Rehearsal = { faults: [], notes: [], unchecked: [], tables: [] }
  /** Whether something could be done; else the fault is kept. */
  const works = async (act: () => Promise<void>) => (await keepFault(found.faults, () => act().then(() => true))) ?? false
  /** Whether commands are installed. */
  const have = async (commands: readonly string[]) => {
    const there = []
    for (const command of commands) there.push(await works(() => findCommand(command)))
    return there.every((one) => one)
  }
  const isFirewall = firewall.backend === 'iptables'
  const isCapture = taps.source === 'nflog'
  const { missing: lacking } = await ownPrivileges({ firewall: isFirewall, capture: isCapture })
  /** Whether we may try it; else it is noted. */
  const may = (what: string) => {
    if (lacking.length > 0)
      found.unchecked.push(`${what}: this requires ${lacking.map((name) => `cap_${name}`)}: run this as root`)
    return lacking.length === 0
  }

  await have(['flock'])
  if (isFirewall && (await have(IPTABLES)) && may("whether the firewall accepts the daemon's rules"))
    await works(async () => {
      const unread = await readTables((note) => found.notes.push(note)).then(
        (tables) => void found.tables.push(...tables),
        (error) => error,
      )
      const rules: TapRules = { ...taps, ranges: poolRanges(parsePool(DEFAULT_POOL)), datagrams: datagram.ports }
      const { faults, notes } = await tryRules(
        // What can't be read for want of a match is named by the trial.
        unread ? FAMILIES : found.tables.map(({ family }) => family),
        taps.source === 'stdin' ? null : rules,
      )
      found.faults.push(...faults)
      found.notes.push(...notes)
      if (unread && faults.length === 0) throw unread
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
