import type { Logger } from 'pino'
import type { Why } from '../../gate/change'
import type { Now } from '../../gate/clock'
import { type Batch, type Entry, isLease, nameOf, Refused, type Table } from '../../gate/firewall'
import type { Leases } from '../../gate/leases'
import type { Quiet } from '../../gate/quiet'
import { asError, explained, inOneLine } from '../../system/fault'
import type { Stages } from '../stages'
import { Ends } from './ends'
import { Hold } from './hold'
import { LOOK, Looks } from './looks'
import { type Adopted, type Due, Plan } from './plan'
import { type Outcome, type Waiter, Waiting } from './waiting'

/** What could not be taken away is tried again after this many milliseconds. */
const RETRY = 1_000

/** Looks after one table: one change at a time. */
export class TableWorker {
  readonly table: Table
  readonly #leases: Leases
  readonly #log: Logger
  readonly #now: () => Now
  readonly #quiet: Quiet
  readonly #plan: Plan
  readonly #ends: Ends
  readonly #waiting = new Waiting()
  /** After a change of which nobody knows whether it was made: nothing is changed before the table has been read. */
  #isUnknown = false
  /** Whether the table was found in disorder, so that it has to be written anew, and when that may be tried. */
  #isBroken = false
  #notBefore = 0
  readonly #looks: Looks
  readonly #hold: Hold
  #unreadable = new Error('the firewall rules have not been read')
  /** What to say when the table is in order again. */
  #news = ''
  #running: Promise<void> | null = null
  /** Whether something may have changed since the work in hand has looked. */
  #isAsked = false

  constructor(table: Table, { leases, log, now }: Pick<Stages, 'leases' | 'log' | 'now'>, quiet: Quiet) {
    this.table = table
    this.#leases = leases
    this.#log = log
    this.#now = now
    this.#quiet = quiet
    this.#ends = new Ends(log)
    this.#plan = new Plan(table, leases, (lease) => this.#ends.opened(lease))
    this.#hold = new Hold(table, () => this.wake())
    this.#looks = new Looks(now().steady)
  }

  /** Reads back what stands in the table. @throws where it can't be read */
  async adopt(): Promise<Adopted> {
    this.#looks.began(this.#now().steady)
    const { entries, left, isWhole, isOutdated } = await this.table.read()
    const isSingle = this.#plan.stand(entries)
    for (const lease of entries.filter(isLease)) this.#ends.opened(lease)
    this.#isBroken = !isWhole || isOutdated === true || !isSingle
    if (!isWhole) this.#news = `${this.table.name}: our chains were missing and have been restored`
    this.#looks.ended(this.#now().steady)
    return { entries: [...this.#plan.standing()], left: left ?? new Map() }
  }

  /** Notes that an entry may have to be changed; {@link TableWorker.wake} has it done. */
  change(entry: Entry, why: Why): void {
    this.#plan.note(entry, why, this.#now())
    // One that is made longer is the same lease.
    if (isLease(entry) && why !== 'wanted' && !this.#plan.heirOf(entry)) this.#ends.ended(entry, why)
  }

  /** Whether nothing is to be changed or read again, and nobody waits. */
  get isIdle(): boolean {
    return this.#plan.isDone && this.#waiting.isEmpty && !this.#isUnknown && !this.#isBroken
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
        this.#log.error(explained(error), 'internal error, please report')
      }
    }
    this.#running = null
  }

  /** Resolve when it is known what has become of each entry. */
  wait(waiters: readonly Waiter[]): Promise<Outcome>[] {
    const outcomes = waiters.map((waiter) => this.#waiting.add(waiter))
    this.#tell()
    return outcomes
  }

  /** Resolves when nothing is being changed; whoever still waits is told that it could not be done. */
  async settle(): Promise<void> {
    while (this.#running || this.#hold.running) await (this.#running ?? this.#hold.running)
    this.#waiting.fail(() => true, 'the daemon ended first')
  }

  // ---- the work

  async #work(): Promise<void> {
    for (;;) {
      const { steady } = this.#now()
      const isUrgent = this.#isUnknown && (!this.#waiting.isEmpty || steady - this.#looks.last >= RETRY)
      const isMany = (this.#compose()?.remove.length ?? 0) > this.table.maxRemoved
      // Never written anew from memory alone: the one connection of a lease that has been taken away meanwhile may have been used.
      if (isUrgent || this.#looks.isDue(steady) || this.#mustRewrite() || isMany) await this.#look(!this.#isUnknown)
      const batch = this.#compose()
      if (!batch) return this.#tell()
      if (this.#isUnknown) return this.#fail(batch, this.#unreadable)
      await this.#bring(batch, isMany)
      this.#tell()
    }
  }

  /** What is to be done now, in one step; null where there is nothing. @param isMeant as of {@link Plan.compose} */
  #compose(isMeant?: (due: Due) => boolean): Batch | null {
    if (!this.#isUnknown) this.#plan.strike()
    const batch = this.#plan.compose(this.#now(), isMeant)
    return batch.add.length + batch.remove.length > 0 || this.#mustRewrite() ? batch : null
  }

  /** Another program may have changed the table: it is looked at now. */
  alarm(): void {
    this.#looks.alarm()
    this.#hold.ask()
  }

  #mustRewrite(): boolean {
    return this.#isBroken && this.#now().steady >= this.#notBefore
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
      const next = [...this.#plan.due()].find(({ entry }) => this.#leases.wants(entry) && !tried.has(entry.fingerprint))
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
    this.#plan.made(batch)
    return undefined
  }

  /** Writes the table anew, with what is wanted at this moment. @returns as {@link TableWorker.#change} */
  async #rewrite(): Promise<Error | undefined> {
    const wanted = this.#plan.wanted()
    try {
      await this.table.rewrite(wanted)
    } catch (error) {
      this.#notBefore = this.#now().steady + RETRY
      return this.#noted(error)
    }
    this.#plan.stand(wanted)
    this.#isBroken = false
    if (this.#news && this.#quiet.may(this.#news, this.#now().steady)) this.#log.warn(this.#news)
    this.#news = ''
    return undefined
  }

  #noted(error: unknown): Error {
    this.#isUnknown ||= !(error instanceof Refused)
    return asError(error)
  }

  // ---- what fails

  /** Gives up what could not be opened, and tries the rest again later. */
  #fail({ add, remove }: Batch, error: Error): void {
    const why = inOneLine(error)
    const untold = [
      ...add.filter((entry) => this.#failToAdd(entry, why)),
      ...remove.filter(({ entry }) => this.#failToRemove(entry, why)),
    ]
    if (untold.length > 0 && this.#quiet.may(`failed ${this.table.name}`, this.#now().steady))
      this.#log.error({ left: add.length + remove.length, reason: why }, 'cannot change the firewall rules')
  }

  /** @returns whether it is tried again, and the log is to be told of it */
  #failToAdd(entry: Entry, why: string): boolean {
    const due = this.#plan.dueOf(entry)
    if (this.#plan.stands(entry) || !due) return false
    const name = nameOf(entry)
    this.#waiting.fail((one) => one.for === 'in force' && nameOf(this.#plan.heirOf(one.entry) ?? one.entry) === name, why)
    if (due.why === 'wanted' && isLease(entry)) {
      this.#plan.giveUp(entry)
      this.#leases.giveUp(entry, (one) => this.#plan.stands(one), this.#now())
      return false
    }
    // A lock holds all the same: it is we who ignore the taps. And what was in force before is not given up for a firewall that fails.
    this.#plan.putOff(due, this.#now().steady + LOOK)
    return true
  }

  /** @returns as {@link TableWorker.#failToAdd}: not where whoever waits is told */
  #failToRemove(entry: Entry, why: string): boolean {
    const due = this.#plan.dueOf(entry)
    if (!due) return false
    const isTold = this.#waiting.failOf(entry, why)
    if (this.#plan.stands(entry)) {
      this.#plan.putOff(due, this.#now().steady + RETRY)
      return !isTold
    }
    // If it stands all the same, it is found when the table can be read: until then nothing must pile up.
    this.#plan.giveUp(entry)
    if (isLease(entry)) this.#ends.forget(entry)
    return false
  }

  // ---- reading back

  /**
   * Looks at what stands, and notes what differs from what is wanted.
   * @param isOthers whether a difference is another program's doing, and not that of a change of ours of which nobody knew how it ended
   */
  async #look(isOthers: boolean): Promise<void> {
    this.#looks.began(this.#now().steady)
    if (this.#hold.running) await this.#hold.running
    const wasHeld = this.#hold.takeMissing()
    const found = await this.table.read().catch((error) => {
      this.#unreadable = asError(error)
      return null
    })
    const now = this.#now()
    this.#looks.ended(now.steady)
    if (!found) {
      if (this.#quiet.may(`unreadable ${this.table.name}`, now.steady))
        this.#log.error(explained(this.#unreadable), 'cannot check the firewall rules')
      return
    }
    this.#isUnknown = false
    const isSingle = this.#plan.stand(found.entries)
    const { gone, isOther } = this.#plan.compare(now)
    for (const lease of gone) {
      this.#leases.lose(lease)
      this.#ends.ended(lease, 'closed', { reason: 'another program removed its rule' })
    }
    const isForeign = !found.isWhole || !isSingle || isOther || wasHeld
    this.#isBroken ||= !found.isWhole || !isSingle || found.isOutdated === true
    if (!isOthers || !isForeign) return
    this.#news ||= 'another program changed the firewall: our rules have been restored'
    // In one step, whatever it was.
    this.#isBroken = true
  }

  // ---- who waits

  /** Tells those who wait what has come of it, and the log what has ended. */
  #tell(): void {
    if (this.#isUnknown) return
    this.#ends.tell(this.#plan)
    this.#waiting.tell((waiter) => this.#plan.outcomeOf(waiter))
  }
}
