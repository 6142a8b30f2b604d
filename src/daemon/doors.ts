import type { Logger } from 'pino'
import type { Now } from '../gate/clock'
import { type Batch, type Entry, type Firewall, type Lease, nameOf, Refused, type Table } from '../gate/firewall'
import { isLease, type Leases, type Why } from '../gate/leases'
import { Quiet } from '../gate/quiet'
import { formatService } from '../protocol/service'
import { reason } from '../system/fault'

/** Milliseconds between two looks at the firewall: other programs flush it. */
const LOOK = 5_000
/** What could not be taken away is tried again after this many milliseconds. */
const RETRY = 1_000
/** What the kernel has ended by itself is swept up when nobody waits for a door, or when it has lain there for so many milliseconds. */
const LATEST_SWEEP = 10_000
/**
 * More than so many are not taken away one by one: the table is written anew. iptables compares each with all that stand in front of it, up to
 * 25 ms: 16 of them cost twice the whole of 4,096, and the 256 of one key 6 s, in which nobody's door opens or shuts.
 */
const MAX_REMOVED = 16
/** A firewall that fails is told of once in so many milliseconds, whatever it fails at. */
const QUIET = 60_000

/** What has become of an opening, or of an end. `ended`: closed, revoked or over before it was in force. */
export type Outcome = 'in force' | 'ended' | { readonly failed: string }

export interface DoorsStages {
  readonly leases: Leases
  readonly firewall: Firewall
  readonly log: Logger
  readonly now: () => Now
}

/**
 * Brings the firewall to what the leases say should be in force, table by table, and reads back what is. It is told of nothing but that
 * something may have changed: what is composed for a table is what is wanted at that moment, and what ceases to be wanted later is taken
 * away by the next change. So no rule outlives its end for want of somebody who knows it.
 */
export class Doors {
  readonly #leases: Leases
  readonly #workers: readonly Worker[]

  constructor(stages: DoorsStages) {
    this.#leases = stages.leases
    const quiet = new Quiet(QUIET)
    this.#workers = stages.firewall.map((table) => new Worker(table, stages, quiet))
  }

  /** Reads back what an earlier run has left in force. @throws where a table can't be read: it is not taken for an empty one */
  async adopt(): Promise<Entry[]> {
    const found = await Promise.all(this.#workers.map((worker) => worker.adopt()))
    return found.flat()
  }

  /** Has the firewall follow the leases, as far as they have changed, and looks whether it still does. Call it after each change, and now and then. */
  follow(): void {
    for (const { entry, why } of this.#leases.takeChanges()) this.#workerOf(entry)?.change(entry, why)
    for (const worker of this.#workers) worker.wake()
  }

  /** Whether nothing stands open or locked, and nothing is to be changed or read again. */
  get isEmpty(): boolean {
    return this.#leases.all().length === 0 && this.#workers.every((worker) => worker.isIdle)
  }

  /** Resolves when an entry is in force, has ended before it was, or could not be put there. */
  opened(entry: Entry): Promise<Outcome> {
    return this.#workerOf(entry)?.wait(entry, 'in force') ?? Promise.resolve({ failed: 'the firewall has no table for it' })
  }

  /** Resolves when an entry that has ended stands there no more, or when it could not be taken away, which is tried again. */
  shut(entry: Entry): Promise<Outcome> {
    return this.#workerOf(entry)?.wait(entry, 'gone') ?? Promise.resolve('ended')
  }

  /** Whether the firewall shuts a door when its time comes, without us. */
  endsByItself(entry: Entry): boolean {
    return this.#workerOf(entry)?.table.endsByItself(entry) ?? true
  }

  /** Resolves when nothing is being changed; what could not be taken away is left, and whoever waits for that is told so. */
  async settle(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.settle()))
  }

  #workerOf({ address }: Entry): Worker | undefined {
    return this.#workers.find(({ table }) => table.holds(address))
  }
}

/** An entry whose place in the firewall may have to change. */
interface Due {
  readonly entry: Entry
  /** `stray`: it stands there, and we have not put it there; `lost`: another program has taken it away. */
  readonly why: Why | 'stray' | 'lost'
  /** When it became due, and when it may be tried: in steady milliseconds. */
  readonly since: number
  readonly notBefore: number
}

/** Somebody who waits for an entry to be in force, or to be gone. */
interface Waiting {
  readonly entry: Entry
  readonly for: 'in force' | 'gone'
  readonly resolve: (outcome: Outcome) => void
}

/** Looks after one table: one change at a time. */
class Worker {
  readonly table: Table
  readonly #leases: Leases
  readonly #log: Logger
  readonly #now: () => Now
  readonly #quiet: Quiet
  /** What stands in the table as far as we know, by name. */
  #standing = new Map<string, Entry>()
  /** Leases that have stood there and whose end has not been told, by {@link leaseName}; and why they have ended, where they have. */
  readonly #open = new Map<string, Lease>()
  readonly #ended = new Map<string, { readonly lease: Lease; readonly why: string; readonly about?: object }>()
  readonly #due = new Map<string, Due>()
  #waiting: Waiting[] = []
  /** After a change of which nobody knows whether it was made: nothing is changed before the table has been read. */
  #isUnknown = false
  /** Whether the table was found in disorder, so that it has to be written anew, and when that may be tried. */
  #isBroken = false
  #notBefore = 0
  #looked: number
  #unreadable = new Error('the firewall has not been read')
  /** What to say when the table is in order again. */
  #news = ''
  #running: Promise<void> | null = null
  /** Whether something may have changed since the work in hand has looked. */
  #isAsked = false

  constructor(table: Table, { leases, log, now }: DoorsStages, quiet: Quiet) {
    this.table = table
    this.#leases = leases
    this.#log = log
    this.#now = now
    this.#quiet = quiet
    this.#looked = now().steady
  }

  async adopt(): Promise<Entry[]> {
    const { entries, isWhole } = await this.table.read()
    this.#stand(entries)
    for (const lease of entries.filter(isLease)) this.#open.set(leaseName(lease), lease)
    this.#isBroken = !isWhole || this.#standing.size < entries.length
    if (!isWhole) this.#news = `${this.table.name}: our chains were not in force, and are now`
    this.#looked = this.#now().steady
    return [...this.#standing.values()]
  }

  change(entry: Entry, why: Why): void {
    this.#note(entry, why)
    // One that is made longer is the same lease.
    if (isLease(entry) && why !== 'wanted' && !this.#heirOf(entry)) this.#ended.set(leaseName(entry), { lease: entry, why })
  }

  /** Notes that an entry is due as of now. */
  #note(entry: Entry, why: Due['why']): void {
    const { steady } = this.#now()
    this.#due.set(nameOf(entry), { entry, why, since: steady, notBefore: steady })
  }

  get isIdle(): boolean {
    return this.#due.size + this.#waiting.length === 0 && !this.#isUnknown && !this.#isBroken
  }

  /** Begins to work where there is something to do. */
  wake(): void {
    this.#isAsked = true
    this.#running ??= this.#run()
  }

  async #run(): Promise<void> {
    // Not in this very step: who has asked for a change says first that they wait for it.
    await null
    while (this.#isAsked) {
      this.#isAsked = false
      try {
        await this.#work()
      } catch (error) {
        this.#isUnknown = true
        this.#log.error({ reason: reason(error) }, 'something failed that should not')
      }
    }
    this.#running = null
  }

  wait(entry: Entry, what: Waiting['for']): Promise<Outcome> {
    return new Promise((resolve) => {
      this.#waiting.push({ entry, for: what, resolve })
      this.#tell()
    })
  }

  async settle(): Promise<void> {
    while (this.#running) await this.#running
    for (const { resolve } of this.#waiting.splice(0)) resolve({ failed: 'the daemon has ended before' })
  }

  // ---- the work

  async #work(): Promise<void> {
    for (;;) {
      const { steady } = this.#now()
      const isUrgent = this.#isUnknown && (this.#waiting.length > 0 || steady - this.#looked >= RETRY)
      const isMany = (this.#compose()?.remove.length ?? 0) > MAX_REMOVED
      // Never written anew from memory alone: the one connection of a lease that has been taken away meanwhile may have been used.
      if (isUrgent || steady - this.#looked >= LOOK || this.#mustRewrite() || isMany) await this.#look(!this.#isUnknown)
      const batch = this.#compose()
      if (!batch) return this.#tell()
      if (this.#isUnknown) return this.#fail(batch, this.#unreadable)
      await this.#bring(batch, isMany)
      this.#tell()
    }
  }

  /** Makes a change, and whatever can be made of it where the firewall refuses it. */
  async #bring(batch: Batch, isMany: boolean): Promise<void> {
    const failure = await (isMany || this.#mustRewrite() ? this.#rewrite() : this.#change(batch))
    if (!failure) return
    await this.#look(false)
    if (this.#isUnknown || !(failure instanceof Refused)) return this.#fail(batch, failure)
    // Something that was to be taken away is gone already, or something of it is refused: what is wanted now, in the place of all there is.
    if (!(await this.#rewrite())) return
    // Something is refused. It must hold up no end, and nobody else's door.
    await this.#bringOneByOne()
  }

  /** Ends alone, and then key by key, so that a rule which the firewall refuses fails its own key. */
  async #bringOneByOne(): Promise<void> {
    const tried = new Set<string>()
    while (!this.#isUnknown) {
      await this.#attempt(this.#compose(({ entry }) => !this.#leases.wants(entry)))
      const next = [...this.#due.values()].find(({ entry }) => this.#leases.wants(entry) && !tried.has(entry.fingerprint))
      if (!next || this.#isUnknown) return
      const { fingerprint } = next.entry
      tried.add(fingerprint)
      await this.#attempt(this.#compose(({ entry }) => entry.fingerprint === fingerprint || !this.#leases.wants(entry)))
      this.#tell()
    }
  }

  /** Makes a change, or gives it up. */
  async #attempt(batch: Batch | null): Promise<void> {
    if (!batch || batch.add.length + batch.remove.length === 0) return
    const failure = await this.#change(batch)
    if (failure) this.#fail(batch, failure)
  }

  /** @returns why it was not made; undefined where it was */
  async #change(batch: Batch): Promise<Error | undefined> {
    try {
      await this.table.change(batch)
    } catch (error) {
      return this.#noted(error)
    }
    for (const { entry } of batch.remove) this.#standing.delete(nameOf(entry))
    for (const entry of batch.add) this.#put(entry)
    this.#strike()
    return undefined
  }

  /** Writes the table anew, with what is wanted at this moment. @returns as {@link Worker.#change} */
  async #rewrite(): Promise<Error | undefined> {
    const wanted = this.#wanted()
    try {
      await this.table.rewrite(wanted)
    } catch (error) {
      this.#notBefore = this.#now().steady + RETRY
      return this.#noted(error)
    }
    this.#stand(wanted)
    this.#isBroken = false
    if (this.#news && this.#quiet.may(this.#news, this.#now().steady)) this.#log.warn(this.#news)
    this.#news = ''
    return undefined
  }

  /** All that should stand in the table. */
  #wanted(): Entry[] {
    return this.#leases.all().filter(({ address }) => this.table.holds(address))
  }

  #mustRewrite(): boolean {
    return this.#isBroken && this.#now().steady >= this.#notBefore
  }

  #noted(error: unknown): Error {
    this.#isUnknown ||= !(error instanceof Refused)
    return asError(error)
  }

  /**
   * What is to be done now, in one step; null where there is nothing.
   * @param isMeant of what is due; everything, unless it is given
   */
  #compose(isMeant: (due: Due) => boolean = () => true): Batch | null {
    const { steady, wall } = this.#now()
    const add: Entry[] = []
    const ends: Due[] = []
    const sweeps: Due[] = []
    this.#strike()
    for (const due of this.#due.values()) {
      const { entry } = due
      const isWanted = this.#leases.wants(entry)
      if (!isMeant(due)) continue
      else if (isWanted) {
        if (due.notBefore <= steady) add.push(entry)
      } else if (entry.until !== null && entry.until * 1000 <= wall && this.table.endsByItself(entry)) sweeps.push(due)
      else if (!this.#awaitsHeir(due, isMeant)) ends.push(due)
    }
    // What could not be taken away waits for its next try, and goes with every change that is made anyway.
    const isDue = ({ notBefore }: Due) => notBefore <= steady
    const isIdle = add.length === 0 && !ends.some(isDue)
    const swept = sweeps.filter((due) => isDue(due) && (isIdle || steady - due.since >= LATEST_SWEEP))
    const remove = [...(isIdle && swept.length === 0 ? [] : ends), ...swept]
    return add.length + remove.length > 0 || this.#mustRewrite() ? { add, remove } : null
  }

  /** Strikes out what is as it should be. */
  #strike(): void {
    if (this.#isUnknown) return
    for (const [name, { entry }] of this.#due) if (this.#leases.wants(entry) === this.#standing.has(name)) this.#due.delete(name)
  }

  /** Whether an entry stays until the one that takes its place is in force, or goes with it in one step: not in one that leaves that out. */
  #awaitsHeir({ entry, why }: Due, isMeant: (due: Due) => boolean): boolean {
    // One that was given up and stands there all the same is a stray.
    const heir = why === 'replaced' || why === 'stray' ? this.#leases.current(entry) : undefined
    if (!heir || this.#standing.has(nameOf(heir))) return false
    const due = this.#due.get(nameOf(heir))
    return due === undefined || due.notBefore > this.#now().steady || !isMeant(due)
  }

  /** Gives up what could not be opened, and tries the rest again later. */
  #fail({ add, remove }: Batch, { message }: Error): void {
    const now = this.#now()
    const failed = { failed: message.split('\n')[0] }
    /** Tells those who wait for it; says whether there was anybody. */
    const refuse = (isMeant: (one: Waiting) => boolean) => {
      const meant = this.#waiting.filter(isMeant)
      for (const { resolve } of meant) resolve(failed)
      this.#waiting = this.#waiting.filter((one) => !meant.includes(one))
      return meant.length > 0
    }
    let isLeft = false
    for (const entry of add) {
      const name = nameOf(entry)
      const due = this.#due.get(name)
      if (this.#standing.has(name) || !due) continue
      refuse((one) => one.for === 'in force' && nameOf(this.#heirOf(one.entry) ?? one.entry) === name)
      if (due.why === 'wanted' && isLease(entry)) {
        this.#due.delete(name)
        this.#leases.giveUp(entry, (one) => this.#standing.has(nameOf(one)), now)
      } else {
        // A lock holds all the same: it is we who ignore the taps. And what was in force before is not given up for a firewall that fails.
        isLeft = true
        this.#due.set(name, { ...due, notBefore: now.steady + LOOK })
      }
    }
    for (const { entry } of remove) {
      const name = nameOf(entry)
      const due = this.#due.get(name)
      if (!due) continue
      const isTold = refuse((one) => nameOf(one.entry) === name)
      if (this.#standing.has(name)) {
        this.#due.set(name, { ...due, notBefore: now.steady + RETRY })
        isLeft ||= !isTold
      } else {
        // If it stands all the same, it is found when the table can be read: until then nothing must pile up.
        this.#due.delete(name)
        if (isLease(entry) && !this.#open.has(leaseName(entry))) this.#ended.delete(leaseName(entry))
      }
    }
    if (isLeft && this.#quiet.may(`failed ${this.table.name}`, now.steady))
      this.#log.error({ left: add.length + remove.length, reason: failed.failed }, 'the firewall failed')
  }

  // ---- reading back

  /**
   * Looks at what stands, and notes what differs from what is wanted.
   * @param isOthers whether a difference is another program's doing, and not that of a change of ours of which nobody knew how it ended
   */
  async #look(isOthers: boolean): Promise<void> {
    const found = await this.table.read().catch((error) => {
      this.#unreadable = asError(error)
      return null
    })
    const { steady } = this.#now()
    this.#looked = steady
    if (!found) {
      if (this.#quiet.may(`unreadable ${this.table.name}`, steady))
        this.#log.error({ reason: reason(this.#unreadable) }, 'the firewall cannot be looked after')
      return
    }
    this.#isUnknown = false
    this.#stand(found.entries)
    const lost = this.#wanted().filter((entry) => !this.#isAt(entry))
    // The kernel has forgotten who has had the one connection: another one would be one too many.
    const isOver = (entry: Entry): entry is Lease => isLease(entry) && entry.once && this.#leases.hasStood(entry)
    for (const lease of lost.filter(isOver)) this.#lose(lease)
    const missing = lost.filter((entry) => !isOver(entry))
    for (const entry of missing) this.#note(entry, 'lost')
    const strays = [...this.#standing.values()].filter((entry) => !this.#leases.wants(entry) && !this.#due.has(nameOf(entry)))
    for (const entry of strays) this.#note(entry, 'stray')
    this.#isBroken ||= !found.isWhole || this.#standing.size < found.entries.length
    if (!isOthers || !(this.#isBroken || missing.length + strays.length > 0)) return
    this.#news ||= 'another program has changed the firewall: our rules are put back'
    // In one step, whatever it was.
    this.#isBroken = true
  }

  #lose(lease: Lease): void {
    this.#leases.lose(lease)
    const about = { reason: 'another program has taken its rule away' }
    this.#ended.set(leaseName(lease), { lease, why: 'closed', about })
  }

  /** Notes all that stands, as the objects that we know. */
  #stand(entries: readonly Entry[]): void {
    const before = this.#standing
    this.#standing = new Map()
    for (const entry of entries) this.#put(before.get(nameOf(entry)) ?? this.#due.get(nameOf(entry))?.entry ?? entry)
    this.#strike()
  }

  /** Notes that an entry stands. */
  #put(entry: Entry): void {
    const name = nameOf(entry)
    this.#standing.set(name, entry)
    this.#leases.stands(entry)
    if (isLease(entry) && this.#due.has(name)) this.#open.set(leaseName(entry), entry)
  }

  /** Whether an entry stands there, or is on its way. */
  #isAt(entry: Entry): boolean {
    return this.#standing.has(nameOf(entry)) || this.#due.has(nameOf(entry))
  }

  // ---- who waits

  /** Tells those who wait what has come of it, and the log what has ended. */
  #tell(): void {
    if (this.#isUnknown) return
    this.#tellEnds()
    const waiting = this.#waiting
    this.#waiting = []
    for (const one of waiting) {
      const outcome = this.#outcomeOf(one)
      if (outcome) one.resolve(outcome)
      else this.#waiting.push(one)
    }
  }

  /** A lease has ended when nothing of it stands any more, and nothing of it is wanted. */
  #tellEnds(): void {
    if (this.#ended.size === 0) return
    const there = new Set([...this.#standing.values()].filter(isLease).map(leaseName))
    for (const [name, { lease, why, about }] of this.#ended) {
      if (there.has(name)) continue
      this.#ended.delete(name)
      if (this.#heirOf(lease)) continue
      if (this.#open.delete(name) && why !== 'replaced') this.#log.info({ ...lineOf(lease), ...about }, why)
    }
  }

  #outcomeOf({ entry, for: what }: Waiting): Outcome | null {
    if (what === 'gone') return this.#standing.has(nameOf(entry)) ? null : 'ended'
    const heir = this.#heirOf(entry)
    // One that was closed while it was put in force has been in force.
    if (this.#standing.has(nameOf(heir ?? entry))) return 'in force'
    return heir ? null : 'ended'
  }

  /** What an entry has become, where it is still wanted. */
  #heirOf(entry: Entry): Entry | undefined {
    const current = this.#leases.current(entry)
    return current?.id === entry.id ? current : undefined
  }
}

const asError = (error: unknown): Error => (error instanceof Error ? error : new Error(String(error)))
/** What a lease is called however often it is made longer. */
const leaseName = ({ fingerprint, id }: Lease) => `${fingerprint} ${id}`
const lineOf = ({ key, id, address, ...service }: Lease) => ({ key, lease: id, address, service: formatService(service) })
