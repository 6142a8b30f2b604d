import type { Chronicle, Hour, Told, Use } from '../../gate/chronicle'
import type { Lease, Lock } from '../../gate/firewall'
import type { ServerKey } from '../../gate/server-key'
import { formatService } from '../../protocol/service'
import { isoTime } from '../../system/time'
import type { State, StateDay, StateKey, StateKnock, StateLease, StateLock } from './state'

/** Entries that are made text in one go: a quarter of a millisecond or so, behind which the daemon hears again. */
const AT_ONCE = 250

/** What a state is made of: lists that nobody changes any more. */
export interface Snapshot {
  /** All but the lists. */
  readonly head: Omit<State, 'keys' | 'leases' | 'locks' | 'day' | 'lastTap' | 'lastKnock'>
  readonly keys: readonly ServerKey[]
  readonly leases: readonly Lease[]
  readonly locks: readonly Lock[]
  readonly chronicle: Chronicle
  /** Unix milliseconds */
  readonly wall: number
}

/**
 * Writes a state as the text of its file, in pieces: with 65,536 leases it takes a tenth of a second, in which no tap must wait.
 * @returns the pieces, one behind the other; what they say is that of this moment, but for when a lease was opened
 */
export function stateText(snapshot: Snapshot): Generator<string> {
  const { head, keys, chronicle, wall } = snapshot
  const all = {
    ...head,
    lastTap: moment(chronicle.lastTap),
    lastKnock: stateKnock(chronicle.lastKnock),
    day: stateDay(chronicle, wall),
    hours: chronicle.hours.map(stateHour),
  }
  const uses = keys.map(({ fingerprint }) => chronicle.lastUse(fingerprint))
  return pieces(JSON.stringify(all).slice(0, -1), uses, snapshot)
}

/** @param uses the last one of each key */
function* pieces(
  first: string,
  uses: readonly (Use | undefined)[],
  { keys, leases, locks, chronicle }: Snapshot,
): Generator<string> {
  yield first
  yield* list('keys', keys, (key, i) => stateKey(key, uses[i]))
  yield* list('leases', leases, (lease) => stateLease(lease, chronicle.openedAt(lease)))
  yield* list('locks', locks, stateLock)
  yield '}\n'
}

function* list<T>(name: string, items: readonly T[], compose: (item: T, at: number) => object): Generator<string> {
  yield `,\n"${name}":[`
  for (let at = 0; at < items.length; at += AT_ONCE) {
    const lines = items.slice(at, at + AT_ONCE).map((item, i) => JSON.stringify(compose(item, at + i)))
    yield `${at > 0 ? ',' : ''}\n${lines.join(',\n')}`
  }
  yield ']'
}

/** A lease as others see it. @param opened when it was opened, in Unix milliseconds; undefined: that is not known */
export function stateLease(lease: Lease, opened?: number): StateLease {
  const { id, key, fingerprint, address, once, until } = lease
  const [from, to] = [moment(opened ?? null), second(until)]
  return { id, key, fingerprint, address, service: formatService(lease), once, opened: from, until: to }
}

/** A lock as others see it. */
export function stateLock({ id, key, fingerprint, address, until }: Lock): StateLock {
  return { id, key, fingerprint, address, until: isoTime(until * 1000) }
}

function stateKey({ id, fingerprint, expires, grant }: ServerKey, use: Use | undefined): StateKey {
  const lastUse = use ? { ...use, at: isoTime(use.at) } : null
  return { id, fingerprint, expires: moment(expires), services: grant.services.map(formatService), lastUse }
}

const stateKnock = (told: Told | null): StateKnock | null => told && { ...told, at: isoTime(told.at) }

function stateDay(chronicle: Chronicle, wall: number): StateDay {
  const { since, busiest, ...day } = chronicle.day(wall)
  return { since: isoTime(since), ...day, busiest: busiest && { ...busiest, at: isoTime(busiest.at) } }
}

const stateHour = ({ at, busiest, ...hour }: Hour) => ({
  at: isoTime(at),
  ...hour,
  busiest: busiest && { ...busiest, at: isoTime(busiest.at) },
})

const moment = (at: number | null): string | null => (at === null ? null : isoTime(at))
const second = (at: number | null): string | null => (at === null ? null : isoTime(at * 1000))
