import type { Logger } from 'pino'
import type { Told } from '../../gate/change'
import type { Now } from '../../gate/clock'
import { type Entry, isLease } from '../../gate/firewall'
import type { Leases } from '../../gate/leases'
import { Quiet } from '../../gate/quiet'
import type { Key } from '../../protocol/key'
import { explained } from '../../system/fault'
import type { CurrentKeys } from '../current-keys'
import type { Enforcement } from '../enforcement'
import { type Etcd, type Row, Unavailable } from './etcd/etcd'
import { FollowedRows } from './followed'
import { InParts } from './in-parts'
import type { Link, SharedRows } from './link'
import { Repeated } from './repeated'
import { Revocations } from './revocations'
import { placeOf, readShared, rowOf, type SharedEntry } from './rows'
import { Sights } from './sights'
import { isShared, Taking } from './taking'
import { isLonger, Writing } from './writing'

/** A row that goes so many milliseconds before its end has ended by itself, by etcd's clock: nobody has closed it. */
const NEAR_END = 2_000
/** What the firewall has refused is tried again after so many milliseconds. */
const RETRY = 5_000
/** What fails again and again is said once a minute. */
const QUIET = 60_000

/** What leases, locks and revocations are shared by. */
export interface SharingSetup {
  readonly etcd: Etcd
  readonly link: Link
  readonly leases: Leases
  readonly keys: CurrentKeys
  readonly enforcement: Pick<Enforcement, 'adopt' | 'drop' | 'expire' | 'elsewhere'>
  readonly log: Logger
  readonly now: () => Now
}

/**
 * Leases, locks and revocations of all gateways. What this one opens and closes it tells the others by rows, and by their rows it does as they do,
 * within its own grants. Nothing that it does by a row is told again.
 */
export class Sharing implements SharedRows {
  readonly #setup: SharingSetup
  readonly #rows: FollowedRows
  readonly #sights = new Sights((row) => this.#rows.has(row))
  readonly #repeated: Repeated
  readonly #writing: Writing
  readonly #taking: Taking
  readonly #revocations: Revocations
  readonly #quiet = new Quiet(QUIET)
  /** Rows that are to be taken over, and rows of which what is in force is to be compared with them. */
  readonly #judging = new InParts((name) => this.#taking.judge(name))
  readonly #comparing = new InParts((name) => this.#compareWith(name))
  /** What was opened here, and not by a row. */
  readonly #own = new WeakSet<Entry>()
  /** Whether what is being changed is by a row. */
  #isByRow = false

  constructor(setup: SharingSetup) {
    this.#setup = setup
    const { etcd, link, now, log, keys, enforcement } = setup
    const rows = new FollowedRows(keys, link)
    const repeated = new Repeated(now, (error) => {
      const what = error instanceof Unavailable ? 'cannot share with the fleet: trying again' : 'internal error, please report'
      if (this.#quiet.may(what, now().steady)) log.error(explained(error), what)
    })
    this.#rows = rows
    this.#repeated = repeated
    this.#writing = new Writing({
      ...{ etcd, link, rows, sights: this.#sights, repeated, now },
      own: (name) => this.#ownOf(name),
      gone: (name) => this.#shut(name, this.#inForce(name)),
    })
    this.#taking = new Taking({
      ...{ ...setup, rows, sights: this.#sights, repeated },
      takeAway: (name) => this.#write(name),
      adopt: (entry, left, gateway) => this.#byRow(() => enforcement.adopt(entry, left, gateway)),
    })
    const expire = () => enforcement.expire()
    this.#revocations = new Revocations({ etcd, keys, expire, gateway: link.gateway, log, now }, repeated)
  }

  /** Tells from now on what happens here. Call it when what an earlier run has left is in force. */
  begin(): void {
    const { leases, keys, enforcement } = this.#setup
    leases.subscribe(this.#told)
    enforcement.elsewhere = (isMeant) => this.#closeElsewhere(isMeant)
    keys.follow(() => {
      this.#revocations.look()
      this.#judging.ask(this.#rows.names())
    })
    this.#revocations.look()
  }

  /** Tells and does nothing any more: what ends with this daemon ends here alone. Resolves when what is under way has ended, or `limit` milliseconds are over. */
  async end(limit: number): Promise<void> {
    const { leases, keys, enforcement } = this.#setup
    leases.subscribe(null)
    enforcement.elsewhere = null
    keys.follow(() => {})
    this.#judging.end()
    this.#comparing.end()
    await this.#repeated.end(limit)
  }

  /** Tries what waits and is due. It does so by a timer of its own. */
  work(): void {
    this.#repeated.work()
  }

  /** Fingerprints of keys that were revoked at another gateway, and not here. */
  get revoked(): readonly string[] {
    return this.#setup.keys.revokedElsewhere
  }

  // ---- what happens here

  readonly #told: Told = (entry, why) => {
    if (this.#isByRow || !isShared(entry)) return
    const name = rowOf(entry)
    if (why === 'wanted') {
      this.#own.add(entry)
      this.#write(name)
    } else if (why === 'given up') queueMicrotask(() => this.#givenUp(name, entry))
    else if (why === 'closed' && this.#isOrdered(entry)) this.#close(name, entry)
  }

  /** Whether somebody has closed it, and it is not over with its key here, or by what this gateway's config says of its address. */
  #isOrdered(entry: Entry): boolean {
    const { keys, now } = this.#setup
    return keys.isAlive(entry.fingerprint, now().wall) && (isLease(entry) || !keys.isSpared(entry.address))
  }

  #close(name: string, entry: Entry): void {
    this.#sights.close(name, [entry.id, this.#rows.read(name)?.entry.id], this.#setup.now())
    this.#write(name)
  }

  /** Closes what others have open, and is not in force here, or not yet. */
  #closeElsewhere(isMeant: (entry: Entry) => boolean): void {
    for (const name of this.#rows.names()) {
      const [key, said] = [this.#rows.keyOf(name), this.#rows.read(name)]
      if (key && said && isMeant({ ...said.entry, key: key.id })) this.#close(name, said.entry)
    }
  }

  /** The firewall has not opened it: what was opened here is so nowhere, and what others have opened is tried again. */
  #givenUp(name: string, entry: Entry): void {
    if (this.#setup.leases.current(entry)) return
    const shared = this.#rows.read(name)
    if (this.#own.has(entry)) this.#close(name, entry)
    else if (shared) {
      this.#taking.sightOf(name, shared).isTaken = false
      this.#taking.later(name, RETRY)
    }
  }

  #write(name: string): void {
    if (!this.#writing.ask(name)) this.#taking.sayTooMany()
  }

  #ownOf(name: string): { entry: Entry; key: Key; left: number } | null {
    const { leases, now } = this.#setup
    const entry = this.#inForce(name)
    const key = this.#rows.keyOf(name)?.key
    if (!entry || !key || !this.#own.has(entry)) return null
    const left = leases.left(entry, now())
    return left > 0 ? { entry, key, left } : null
  }

  /** What is in force in the place of a row. */
  #inForce(name: string): Entry | undefined {
    const place = placeOf(name)
    return place ? this.#setup.leases.current(place) : undefined
  }

  // ---- rows of the fleet

  reset(rows: readonly Row[], revision: number): void {
    const { gone, isTooMany } = this.#rows.replace(rows.filter(isEntry))
    if (isTooMany) this.#taking.sayTooMany()
    this.#writing.looked(revision)
    for (const row of rows) this.#writing.saw(row)
    this.#revocations.reset(rows.filter(({ row }) => readShared(row)?.kind === 'revoked'))
    for (const [name, said] of gone) this.#gone(name, said)
    this.#judging.ask(this.#rows.names())
    const inForce = this.#setup.leases.all().filter(isShared)
    // What is closed is shut at once: no row of it need be read.
    for (const entry of inForce) if (!this.#rows.has(rowOf(entry))) this.#compare(rowOf(entry), entry)
    this.#comparing.ask(inForce.map(rowOf))
    this.#repeated.wake()
  }

  #compareWith(name: string): void {
    const entry = this.#inForce(name)
    if (entry && isShared(entry)) this.#compare(name, entry)
  }

  /** What is in force, and its row is not, was closed while nobody here could hear of it. Something shorter may have been opened there since. */
  #compare(name: string, entry: Entry): void {
    const said = this.#rows.read(name)
    const isThere = this.#setup.link.base === null || (said && (said.entry.id === entry.id || !isLonger(entry, said.entry)))
    if (isThere || this.#writing.isOnItsWay(name)) {
      if (this.#own.has(entry)) this.#write(name)
      return
    }
    this.#shut(name, entry)
    this.#taking.judge(name)
  }

  put(row: Row): void {
    if (readShared(row.row)?.kind === 'revoked') this.#revocations.put(row)
    if (!isEntry(row)) return
    const said = this.#rows.read(row.row)
    if (!this.#rows.set(row)) {
      this.#taking.sayTooMany()
      return
    }
    this.#writing.saw(row)
    // Nobody shortens what is open. Who writes over it takes it away: it was closed, and opened anew, or that is no gateway.
    const now = this.#rows.read(row.row)
    if (said && (!now || isLonger(said.entry, now.entry))) this.#gone(row.row, said)
    this.#taking.judge(row.row)
  }

  removed(row: string): void {
    if (readShared(row)?.kind === 'revoked') this.#revocations.removed(row)
    const said = this.#rows.read(row)
    this.#rows.delete(row)
    this.#gone(row, said)
  }

  /** What a row said is there no more: its time is over, or somebody has closed it. */
  #gone(name: string, said: SharedEntry<Entry> | null): void {
    const { leases, now } = this.#setup
    // What has been closed here may have been opened anew since.
    if (!said || this.#sights.isClosed(name, said.entry.id)) return
    const { entry } = said
    const byWall = entry.until === null ? Infinity : entry.until * 1000 - now().wall
    if (Math.min(byWall, this.#taking.sightOf(name, said).end - now().steady) <= NEAR_END) return
    this.#sights.close(name, [entry.id], now())
    this.#shut(name, leases.current(entry))
  }

  /** Closes what was closed elsewhere, unless it is about to end. */
  #shut(name: string, entry: Entry | undefined): void {
    const { leases, enforcement, now } = this.#setup
    if (!entry || leases.left(entry, now()) <= NEAR_END) return
    this.#sights.close(name, [entry.id], now())
    this.#writing.forget(name)
    this.#byRow(() => enforcement.drop(entry))
  }

  #byRow<Result>(act: () => Result): Result {
    this.#isByRow = true
    try {
      return act()
    } finally {
      this.#isByRow = false
    }
  }
}

const isEntry = ({ row }: Row): boolean => placeOf(row) !== null
