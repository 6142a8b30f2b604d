import type { Now } from '../../gate/clock'
import type { Entry } from '../../gate/firewall'
import type { Key } from '../../protocol/key'
import { type Condition, type Etcd, type Row, Unavailable, unwritten } from './etcd/etcd'
import type { FollowedRows } from './followed'
import type { Link } from './link'
import type { Repeated } from './repeated'
import { type Base, formatEntry, type SharedEntry } from './rows'
import type { Sights } from './sights'

/** What was opened by one knock ends by one lease of etcd: asked for within so many milliseconds. */
const ONE_GRANT = 500
/** A row that was written meanwhile is looked at again so often in one attempt. */
const MAX_LOOKS = 4

/** What rows are written by. */
export interface WritingSetup {
  readonly etcd: Etcd
  readonly link: Link
  readonly rows: FollowedRows
  readonly sights: Sights
  readonly repeated: Repeated
  readonly now: () => Now
  /** What this gateway has opened there itself, and how long it has, in milliseconds; null: nothing, or it is over. */
  own(name: string): { readonly entry: Entry; readonly key: Key; readonly left: number } | null
  /** What this gateway has written is gone again: it was closed elsewhere, or nobody knows. */
  gone(name: string): void
}

/** What was sent, and has not come back by the watch. */
interface Sent {
  /** As of which it was written; null: nobody knows (yet) whether it was. */
  revision: number | null
  isInFlight: boolean
  /** As of which all rows were looked at since it was sent. */
  looked: number | null
}

/** Brings the fleet's rows to what this gateway has opened and closed. */
export class Writing {
  readonly #setup: WritingSetup
  readonly #sent = new Map<string, Sent>()
  #granted: { seconds: number; at: number; lease: Promise<string> } | null = null

  constructor(setup: WritingSetup) {
    this.#setup = setup
  }

  /** Has a row brought to what is opened or closed here. @returns false where there is too much to do */
  ask(name: string): boolean {
    return this.#setup.repeated.ask(`write ${name}`, () => this.#write(name))
  }

  /** A row has come by the watch. */
  saw({ row, modified }: Row): void {
    const sent = this.#sent.get(row)
    if (sent && !sent.isInFlight && (sent.revision ?? 0) <= modified) this.#sent.delete(row)
  }

  /** What was sent there is of no interest any more. */
  forget(name: string): void {
    this.#sent.delete(name)
  }

  /** All rows were looked at. */
  looked(revision: number): void {
    for (const sent of this.#sent.values()) sent.looked = revision
  }

  /** Whether it is known that what was opened here is on its way to a row that is not there. */
  isOnItsWay(name: string): boolean {
    const sent = this.#sent.get(name)
    if (!sent) return this.#setup.repeated.has(`write ${name}`)
    return sent.isInFlight || (sent.revision !== null && sent.revision > (sent.looked ?? -1))
  }

  async #write(name: string): Promise<boolean> {
    if (this.#setup.own(name)) return this.#put(name)
    const shared = this.#setup.rows.read(name)
    if (shared && !this.#setup.sights.isClosed(name, shared.entry.id)) return true
    return this.#setup.rows.row(name) || this.#sent.has(name) ? this.#remove(name) : true
  }

  // ---- what was opened here

  async #put(name: string): Promise<boolean> {
    const base = this.#setup.link.base?.base
    if (!base) return false
    const first = this.#setup.own(name)
    if (!first || this.#isSaid(name, first.entry, base)) return true
    const lease = await this.#leaseFor(first.left)
    const own = this.#setup.own(name)
    if (own?.entry !== first.entry) {
      // It was closed, or made longer, while that was waited for.
      this.ask(name)
      return false
    }
    const { entry, key, left } = own
    const said = { entry, gateway: this.#setup.link.gateway, epoch: base.epoch, seconds: secondsOf(left) }
    return this.#send(name, said, formatEntry(name, said, base.fleet, key), lease)
  }

  /** Whether the row that is there says as much already. */
  #isSaid(name: string, entry: Entry, base: Base): boolean {
    const shared = this.#setup.rows.read(name)
    if (!shared || this.#setup.sights.isClosed(name, shared.entry.id)) return false
    return shared.epoch >= base.epoch && !isLonger(entry, shared.entry)
  }

  /** @returns whether it is written */
  async #send(name: string, said: SharedEntry<Entry>, value: string, lease: string | null): Promise<boolean> {
    const isFirst = !this.#sent.has(name)
    const sent: Sent = this.#sent.get(name) ?? { revision: null, isInFlight: true, looked: null }
    sent.isInFlight = true
    this.#sent.set(name, sent)
    try {
      const { held, header, done } = await this.#setup.etcd.transact({
        if: [this.#asKnown(name)],
        do: [{ put: name, value, lease }],
        else: [{ get: name }],
      })
      const [row] = done[0]?.rows ?? []
      const isWritten = held || (row !== undefined && this.#isOf(said, row))
      if (isWritten) this.#written(name, sent, held ? header.revision : row.modified)
      else if (isFirst) this.#sent.delete(name)
      return isWritten
    } catch (error) {
      const isUnknown = !(error instanceof Unavailable) || error.isUnknown
      if (!isUnknown && isFirst) this.#sent.delete(name)
      // It may have been written, and closed elsewhere, before all was looked at.
      const isLost = isUnknown && sent.looked !== null && !this.#setup.rows.row(name)
      if (isLost && this.#sent.get(name) === sent) this.#setup.gone(name)
      throw error
    } finally {
      sent.isInFlight = false
    }
  }

  /** Whether a row is what was sent, by an attempt of which that was not known. */
  #isOf({ entry, gateway }: SharedEntry<Entry>, row: Row): boolean {
    const there = this.#setup.rows.said(row)
    return there?.entry.id === entry.id && there.entry.until === entry.until && there.gateway === gateway
  }

  #written(name: string, sent: Sent, revision: number): void {
    // The watch has been faster, and may have told already that it is gone again.
    if (this.#sent.get(name) !== sent) return
    const seen = this.#setup.rows.row(name)?.modified ?? 0
    if (seen >= revision) this.#sent.delete(name)
    else if (sent.looked !== null && sent.looked >= revision) this.#setup.gone(name)
    else sent.revision = revision
  }

  #asKnown(name: string): Condition {
    return unwritten(name, this.#setup.rows.row(name)?.modified ?? 0)
  }

  /** An etcd lease for what has so long, in milliseconds; null: it needs none. */
  async #leaseFor(left: number): Promise<string | null> {
    const seconds = secondsOf(left)
    if (seconds === null) return null
    const at = this.#setup.now().steady
    if (this.#granted?.seconds !== seconds || at - this.#granted.at > ONE_GRANT) {
      const granted = { seconds, at, lease: this.#setup.etcd.grant(seconds) }
      this.#granted = granted
      granted.lease.catch(() => {
        if (this.#granted === granted) this.#granted = null
      })
    }
    return this.#granted.lease
  }

  // ---- what was closed here

  async #remove(name: string): Promise<boolean> {
    let condition = this.#asKnown(name)
    for (let look = 0; look < MAX_LOOKS; look++) {
      const isThere = condition.is !== 'absent'
      const { held, done } = await this.#setup.etcd.transact({
        if: [condition],
        do: isThere ? [{ remove: name }] : [],
        else: [{ get: name }],
      })
      const [row] = done[0]?.rows ?? []
      const isClosed = row !== undefined && this.#isOfClosed(name, row)
      if (held || !row || !isClosed) {
        this.#sent.delete(name)
        return true
      }
      condition = unwritten(name, row.modified)
    }
    return false
  }

  #isOfClosed(name: string, row: Row): boolean {
    const shared = this.#setup.rows.said(row)
    return shared !== null && this.#setup.sights.isClosed(name, shared.entry.id)
  }
}

/** Whole seconds, which are not fewer; null: until closed. */
const secondsOf = (left: number): number | null => (left === Infinity ? null : Math.ceil(left / 1000))

/** Whether an entry lasts longer than another one says. */
export const isLonger = (one: Pick<Entry, 'until'>, other: Pick<Entry, 'until'>): boolean =>
  (one.until ?? Infinity) > (other.until ?? Infinity)
