import type { Logger } from 'pino'
import type { OneTimeRule } from '../gate/ledger'
import { isOver, type ServerKey } from '../gate/server-key'
import { isoTime } from '../system/time'

/**
 * Milliseconds by which a floor is ahead only where a clock was wrong: a ledger that begins anew has its base ahead by eleven windows of
 * five minutes at most.
 */
const FAR = 3_600_000

/** Keys that a line names. */
const MAX_IDS = 10

/** What says when keys open again. */
type Floors = Pick<OneTimeRule, 'opensAt' | 'remedy'>

/** A floor of the ledger that is ahead of the clock; `key` null: its base, which is below all keys. */
export interface FloorAhead {
  readonly key: ServerKey | null
  /** Whether the clock must have been wrong, now or then, so that somebody has to do something. */
  readonly isFar: boolean
  /** Unix milliseconds: before them nothing opens. */
  readonly until: number
  /** What follows from it, and the remedy. */
  readonly message: string
}

/** Every floor that is ahead of the clock. @param wall Unix milliseconds */
export function floorsAhead(ledger: Floors, keys: Iterable<ServerKey>, wall: number): FloorAhead[] {
  const floors: FloorAhead[] = []
  let all = 0
  for (const key of keys) {
    const { base, own } = ledger.opensAt(key.fingerprint, key.key.period, wall)
    all = Math.max(all, base ?? 0)
    // Of a key that is over nobody waits for anything.
    if (own !== null && !isOver(key, wall))
      floors.push({ key, isFar: own - wall > FAR, until: own, message: ownAhead(own, base) })
  }
  if (all > 0) floors.push({ key: null, isFar: all - wall > FAR, until: all, message: baseAhead(all, wall, ledger.remedy) })
  return floors
}

/**
 * Says which floors are ahead of the clock: below them nothing opens until it has caught up. Those of several keys in one line: a machine that
 * boots with a clock that is behind has all of them ahead.
 * @param isToldOfMinute whether it has been said that nothing opens in the first minute
 * @param wall Unix milliseconds
 */
export function warnOfFloors(
  ledger: Floors,
  keys: Iterable<ServerKey>,
  isToldOfMinute: boolean,
  log: Logger,
  wall: number,
): void {
  const floors = floorsAhead(ledger, keys, wall)
  const own = floors.filter(({ key }) => key)
  if (own.length > 1) {
    const ids = own.slice(0, MAX_IDS).flatMap(({ key }) => key?.id ?? [])
    if (own.some(({ isFar }) => isFar)) log.error({ keys: ids }, manyAhead(own))
    else log.warn({ keys: ids }, manyAhead(own))
  }
  for (const { key, isFar, message } of own.length > 1 ? floors.filter(({ key }) => !key) : floors) {
    const about = key ? { key: key.id, fingerprint: key.fingerprint } : {}
    if (isFar) log.error(about, message)
    else if (key || !isToldOfMinute) log.warn(about, message)
  }
}

/** Why a key opens nothing right now: the floor that is ahead for longest. @returns undefined where none is */
export function whyAhead(ledger: Floors, { fingerprint, key }: ServerKey, wall: number): string | undefined {
  const { base, own } = ledger.opensAt(fingerprint, key.period, wall)
  if (own !== null && own > (base ?? 0)) return ownAhead(own, base)
  return base === null ? undefined : baseAhead(base, wall, ledger.remedy)
}

/**
 * What is said of a clock that has jumped, with what follows for the floors.
 * @param jump milliseconds, below zero back
 * @param wall Unix milliseconds, after it
 */
export function clockJumped(jump: number, ledger: Floors, keys: Iterable<ServerKey>, wall: number): string {
  const opens = [...keys].map(({ key, fingerprint }) => ledger.opensAt(fingerprint, key.period, wall))
  const base = opens.reduce((last, { base }) => Math.max(last, base ?? 0), 0)
  const own = opens.reduce((last, { own }) => Math.max(last, own ?? 0), 0)
  const next = [
    ...(base > 0 ? [baseAhead(base, wall, ledger.remedy)] : []),
    ...(own > base ? [`keys whose floor is ahead of it open nothing before ${isoTime(own)}`] : []),
    ...(base + own === 0 && jump > 0
      ? ['if it is wrong now, set it before the next knock: otherwise the key of that knock opens nothing before this time']
      : []),
  ]
  const way = jump < 0 ? 'back' : 'forward'
  return [`the clock jumped ${way} by ${Math.round(Math.abs(jump) / 1000)} s`, ...next].join(': ')
}

/** What is said of a base that is ahead. @param until when it is so no more, in Unix milliseconds, as `wall` */
function baseAhead(until: number, wall: number, remedy: string): string {
  const then = `, not even with a new key: set the clock right, ${remedy}`
  return `the ledger's base is ahead of the clock: nothing opens before ${isoTime(until)}${until - wall > FAR ? then : ''}`
}

/** What is said of the floors of several keys. */
function manyAhead(floors: readonly FloorAhead[]): string {
  const last = isoTime(Math.max(...floors.map(({ until }) => until)))
  return `the floors of ${floors.length} keys are ahead of the clock: they open nothing before ${last} at the latest: set the clock if it is behind, or make new keys`
}

function ownAhead(until: number, base: number | null): string {
  const sooner = base === null ? 'at once' : `from ${isoTime(base)} on, because the ledger's base is ahead, too`
  return `the floor of this key is ahead of the clock: it opens nothing before ${isoTime(until)}: set the clock if it is behind; a new key opens ${sooner}`
}
