import { type Lease, leaseName } from './firewall'
import type { Refusal } from './policy'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
/** Hours that make a day. */
const HOURS = 24
/** Keys whose last use is remembered: as many as a keyring has; beyond that, who has not knocked for longest is forgotten. */
const MAX_USES = 100_000
/** Leases of which it is remembered when they were opened: as many as may be in force, and as many that have ended. */
const MAX_OPENED = 131_072

/** What came of a knock that was understood. */
export interface Told {
  /** Unix milliseconds */
  readonly at: number
  /** The key's id. */
  readonly key: string
  readonly source: string
  readonly action: string
  readonly outcome: 'accepted' | Refusal
}

/** The last knock of a key that was accepted. */
export interface Use {
  /** Unix milliseconds */
  readonly at: number
  readonly source: string
  readonly action: string
  /** By how many windows the sender's clock was ahead; below zero, behind. */
  readonly windowsOff: number
}

/** A minute with many taps. */
interface Minute {
  /** Its beginning, in Unix milliseconds. */
  readonly at: number
  readonly taps: number
}

/** What came about in an hour. */
export interface Hour {
  /** Its beginning, in Unix milliseconds. */
  readonly at: number
  readonly accepted: number
  readonly refused: { readonly [refusal in Refusal]?: number | undefined }
  readonly taps: number
  readonly dropped: number
  /** Its busiest minute; null: there were no taps. */
  readonly busiest: Minute | null
}

/** What came about in the last 24 hours. */
export interface Day extends Omit<Hour, 'at'> {
  /** From when on it is known, in Unix milliseconds. */
  readonly since: number
}

/** What outlives a daemon. */
export interface Memory {
  readonly lastTap: number | null
  readonly lastKnock: Told | null
  /** fingerprint → its last use */
  readonly uses: ReadonlyMap<string, Use>
  /** {@link leaseName} → when it was opened, in Unix milliseconds */
  readonly opened: ReadonlyMap<string, number>
  readonly since: number
  readonly hours: readonly Hour[]
}

/** What a daemon remembers of the last day, and of the last use of each key: for people, and no decision is made by it. */
export class Chronicle {
  #revision = 0
  #lastTap: number | null = null
  #lastKnock: Told | null = null
  /** In order of the latest use. */
  #uses = new Map<string, Use>()
  #opened = new Map<string, number>()
  #since: number
  /** The oldest first. */
  #hours: Hour[] = []
  /** The taps of this minute. */
  #minute: Minute = { at: 0, taps: 0 }
  #totals = { taps: 0, dropped: 0 }

  /** @param wall Unix milliseconds */
  constructor(wall: number) {
    this.#since = wall
  }

  /** Takes over what an earlier run has left. What it says of times to come is left out: the clock has been set back. @param wall Unix milliseconds */
  restore({ lastTap, lastKnock, uses, opened, since, hours }: Memory, wall: number): void {
    const isPast = (at: number) => at <= wall
    this.#lastTap = lastTap !== null && isPast(lastTap) ? lastTap : null
    this.#lastKnock = lastKnock && isPast(lastKnock.at) ? lastKnock : null
    const oldestFirst = [...uses].filter(([, { at }]) => isPast(at)).sort(([, a], [, b]) => a.at - b.at)
    this.#uses = new Map(oldestFirst.slice(-MAX_USES))
    this.#opened = new Map([...opened].filter(([, at]) => isPast(at)).slice(-MAX_OPENED))
    const known = new Map(hours.map((hour) => [hour.at, hour]))
    this.#hours = [...known.values()].filter(({ at }) => at % HOUR === 0 && isOfDay(at, wall)).sort((a, b) => a.at - b.at)
    if (isPast(since)) this.#since = since
    this.#revision++
  }

  /** Another number when something of a knock has been noted. */
  get revision(): number {
    return this.#revision
  }

  get lastTap(): number | null {
    return this.#lastTap
  }

  get lastKnock(): Told | null {
    return this.#lastKnock
  }

  /** The last use of a key; undefined: none is known. */
  lastUse(fingerprint: string): Use | undefined {
    return this.#uses.get(fingerprint)
  }

  /** When a lease was opened, in Unix milliseconds; undefined: that is not known. */
  openedAt(lease: Lease): number | undefined {
    return this.#opened.get(leaseName(lease))
  }

  /** Notes a knock that was accepted, and is in force. @param knock without its outcome */
  accepted(fingerprint: string, { at, key, source, action, windowsOff }: Use & { readonly key: string }): void {
    this.#lastKnock = { at, key, source, action, outcome: 'accepted' }
    this.#uses.delete(fingerprint)
    this.#uses.set(fingerprint, { at, source, action, windowsOff })
    forgetOldest(this.#uses, MAX_USES)
    this.#add(at, ({ accepted }) => ({ accepted: accepted + 1 }))
  }

  /** Notes a refusal. @param knock absent where a tap alone was refused, and nobody knows of which knock it is */
  refused(refusal: Refusal, at: number, knock?: Omit<Told, 'at' | 'outcome'>): void {
    if (knock) this.#lastKnock = { ...knock, at, outcome: refusal }
    this.#add(at, ({ refused }) => ({ refused: { ...refused, [refusal]: (refused[refusal] ?? 0) + 1 } }))
  }

  /** Notes that a lease stands in the firewall; one that is made longer has been opened when it first did. */
  opened(lease: Lease, at: number): void {
    const name = leaseName(lease)
    if (this.#opened.has(name)) return
    this.#opened.set(name, at)
    forgetOldest(this.#opened, MAX_OPENED)
  }

  /** Notes how many taps have been heard so far, and how many packets the kernel has dropped: what has come since the last call is of this minute. */
  count({ taps, dropped }: { readonly taps: number; readonly dropped: number }, at: number): void {
    const more = Math.max(0, taps - this.#totals.taps)
    const lost = Math.max(0, dropped - this.#totals.dropped)
    this.#totals = { taps, dropped }
    if (more + lost === 0) return
    if (more > 0) this.#lastTap = at
    const minute = at - (at % MINUTE)
    this.#minute = { at: minute, taps: more + (this.#minute.at === minute ? this.#minute.taps : 0) }
    this.#add(
      at,
      (hour) => ({
        taps: hour.taps + more,
        dropped: hour.dropped + lost,
        busiest: busier(hour.busiest, this.#minute.taps > 0 ? this.#minute : null),
      }),
      false,
    )
  }

  #add(wall: number, change: (hour: Hour) => Partial<Hour>, isKnock = true): void {
    if (isKnock) this.#revision++
    const at = wall - (wall % HOUR)
    const hours = this.#hours.filter((hour) => isOfDay(hour.at, wall))
    const found = hours.findIndex((hour) => hour.at === at)
    const hour = hours[found] ?? { at, accepted: 0, refused: {}, taps: 0, dropped: 0, busiest: null }
    const changed = { ...hour, ...change(hour) }
    if (found >= 0) hours[found] = changed
    else hours.push(changed)
    this.#hours = hours
  }

  /** What came about in the last 24 hours. @param wall Unix milliseconds */
  day(wall: number): Day {
    const hours = this.#hours.filter(({ at }) => isOfDay(at, wall))
    const first = wall - (wall % HOUR) - (HOURS - 1) * HOUR
    const sum = (of: (hour: Hour) => number | undefined) => hours.reduce((all, hour) => all + (of(hour) ?? 0), 0)
    const refusals = [...new Set(hours.flatMap(({ refused }) => Object.keys(refused) as Refusal[]))]
    return {
      since: Math.max(first, Math.min(this.#since, wall)),
      accepted: sum(({ accepted }) => accepted),
      refused: Object.fromEntries(refusals.map((refusal) => [refusal, sum(({ refused }) => refused[refusal])])),
      taps: sum(({ taps }) => taps),
      dropped: sum(({ dropped }) => dropped),
      busiest: hours.reduce<Minute | null>((most, { busiest }) => busier(most, busiest), null),
    }
  }

  /** The hours of which a day is made, the oldest first. */
  get hours(): readonly Hour[] {
    return this.#hours
  }
}

/** Whether an hour is one of the last 24. */
const isOfDay = (at: number, wall: number): boolean => at <= wall && at > wall - HOURS * HOUR

const busier = (a: Minute | null, b: Minute | null): Minute | null => (a && (!b || a.taps >= b.taps) ? a : b)

function forgetOldest(map: Map<string, unknown>, most: number): void {
  if (map.size > most) map.delete(map.keys().next().value as string)
}
