import { constants } from 'node:fs'
import { lstat, readFile, realpath } from 'node:fs/promises'
import { basename } from 'node:path'
import type { Config } from '../daemon/config'
import { isHeld } from '../daemon/ledger/lock'
import { isFresh, readState, type State } from '../daemon/state/state'
import { errorCode, Fault, hintOf, keepFault, reason } from '../system/fault'
import { isClockPossible, isoTime } from '../system/time'

/**
 * How it stands with a daemon. `silent`: one holds the ledger and keeps no state, since it hangs or is of an earlier version; `unknown`: it can't
 * be looked at.
 */
export type Life = 'alive' | 'silent' | 'dead' | 'unknown'

/** What there is to see of a daemon, from outside. */
export interface Sight {
  readonly life: Life
  /** What it says of itself, or has said last; null where it has said nothing. */
  readonly state: State | null
  /** When it last said so, in Unix milliseconds; null with no state. */
  readonly written: number | null
  /** Why the rest can't be seen. */
  readonly faults: readonly Fault[]
}

/**
 * Looks how it stands with the daemon of a config: a state that is fresh, and a process that goes by its number. Else whoever holds the ledger
 * decides.
 * @param now Unix milliseconds
 */
export async function lookAtDaemon(config: Config, now: number): Promise<Sight> {
  const faults: Fault[] = []
  const read = await keepFault(faults, () => readState(config))
  const { state, written } = read ?? { state: null, written: null }
  const isOfNow = written !== null && isFresh(written, now)
  if (isOfNow && state && (await isDaemon(state.pid))) return { life: 'alive', state, written, faults }
  const held = await keepFault(faults, () => isLedgerHeld(config.ledger.path))
  if (held === false && !isClockPossible(now)) {
    faults.push(
      new Fault(`the clock is wrong, ${isoTime(now)}: a daemon that runs waits until it is set`, { hint: 'set the clock' }),
    )
    return { life: 'unknown', state, written, faults }
  }
  const life = held === undefined ? 'unknown' : held ? (isOfNow ? 'alive' : 'silent') : 'dead'
  return { life, state, written, faults }
}

/** Whether a process is a daemon of ours: another one may have its number by now. */
async function isDaemon(pid: number): Promise<boolean> {
  const words = (await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')).split('\0')
  return words.some((word) => basename(word) === 'knockdaemon')
}

/**
 * Looks whether a daemon holds a ledger. Its folder is the daemon's, and no link of theirs is followed: to open a device may do anything.
 * @param signal ends the look, which may take a second
 * @returns false where there is no ledger
 * @throws {Fault} where it can't be known
 */
export async function isLedgerHeld(ledger: string, signal?: AbortSignal): Promise<boolean> {
  try {
    const stats = await lstat(ledger)
    const isOurs = stats.uid === 0 || stats.uid === process.geteuid?.()
    return await isHeld(stats.isSymbolicLink() && isOurs ? await realpath(ledger) : ledger, constants.O_NOFOLLOW, signal)
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return false
    const hint = hintOf(error) ?? (errorCode(error) === 'EACCES' ? 'run this as root' : undefined)
    throw new Fault(`${ledger}: cannot tell whether a daemon holds the ledger: ${reason(error)}`, { hint })
  }
}
