import {
  type Etcd,
  type EtcdStatus,
  type Header,
  type Outcome,
  type Row,
  type Transaction,
  type Trouble,
  Unavailable,
  type Watching,
} from '../../../src/daemon/fleet/etcd/etcd'
import { type Moment, TwinStore } from './twin-store'

/**
 * What befalls a request. `lost before`: no answer comes, and it was never done; `lost after`: it was done; `twice`: its answer was lost, and it is done
 * again at another member, whose answer comes; `held`: it waits in {@link Twin.held} until the test goes on with it.
 */
export type Fault = 'lost before' | 'lost after' | 'twice' | 'held'

/** A request that is under way: a test decides when it is done, and when its answer comes. */
export interface Held {
  /** What was asked; null: it is no transaction. */
  readonly transaction: Transaction | null
  /** Does it, and keeps the answer back. It may be done again, as at another member. */
  perform(): void
  /** Has the answer come: does it first where it was not done. */
  answer(): void
  /** Whoever asked stops waiting: nobody knows. It may still be done. */
  giveUp(): void
}

/**
 * An etcd in memory, as one gateway asks it; others ask the same one by {@link Twin.beside}. Answers come in a later microtask. Faults are planned for the
 * requests to come, and befall only those of this gateway.
 */
export class Twin implements Etcd {
  readonly store: TwinStore
  /** Every transaction that was asked, in order. */
  readonly asked: Transaction[] = []
  readonly held: Held[] = []
  /** What befalls every request for which nothing else is planned. */
  always: Fault | null = null
  /** Watches stay silent while it is set, as those of a member without quorum do. */
  isSilent = false
  readonly #plan: (Fault | Trouble | null)[] = []
  readonly #watches = new Set<Watch>()
  #trouble: Trouble | null = null

  constructor(store = new TwinStore()) {
    this.store = store
  }

  /** The same etcd, as another gateway asks it. */
  beside(): Twin {
    return new Twin(this.store)
  }

  /** What befalls the next requests, in their order; null: nothing. */
  plan(...faults: (Fault | Trouble | null)[]): this {
    this.#plan.push(...faults)
    return this
  }

  /** Why every request is refused, at once and without having been done; null: none is. Watches break when it is set. */
  get trouble(): Trouble | null {
    return this.#trouble
  }
  set trouble(trouble: Trouble | null) {
    this.#trouble = trouble
    if (trouble) this.cut()
  }

  /** Breaks all watches. */
  cut(why = 'the connection is gone'): void {
    for (const watch of [...this.#watches]) watch.end(why)
  }

  /** Goes on with all that is held. */
  release(): void {
    for (const request of this.held.splice(0)) request.answer()
  }

  /** Has watches say what they have kept back. */
  speak(): void {
    this.isSilent = false
    for (const watch of this.#watches) watch.speak()
  }

  // ---- Etcd

  transact(transaction: Transaction): Promise<Outcome> {
    this.asked.push(transaction)
    return this.#ask((): Outcome => {
      const { held, done } = this.store.transact(transaction)
      return { header: this.store.header, held, done }
    }, transaction)
  }

  list(from: string, to: string): Promise<{ header: Header; rows: Row[] }> {
    return this.#ask(() => {
      this.store.tick()
      return { header: this.store.header, rows: this.store.between(from, to) }
    })
  }

  watch(from: string, to: string, revision: number, watching: Watching, signal: AbortSignal): void {
    if (signal.aborted) return
    const watch = new Watch(this, from, to, watching, signal, (ended) => this.#watches.delete(ended))
    this.#watches.add(watch)
    signal.addEventListener('abort', () => watch.end(null))
    watch.begin(revision)
    if (this.#trouble) watch.end(this.#trouble)
  }

  grant(seconds: number): Promise<string> {
    return this.#ask(() => this.store.grant(seconds))
  }

  left(lease: string): Promise<number | null> {
    return this.#ask(() => this.store.left(lease))
  }

  compact(revision: number): Promise<void> {
    return this.#ask(() => this.store.compact(revision))
  }

  async reached(): Promise<number> {
    if (this.#trouble) throw unavailable(this.#trouble)
    return this.store.reached
  }

  async status(): Promise<readonly { readonly endpoint: string; readonly status: EtcdStatus | Unavailable }[]> {
    const { size, quota, isFull } = this.store
    const status = {
      ...{
        version: '3.5.16',
        size,
        sizeInUse: size,
        quota,
        hasLeader: this.#trouble !== 'no-quorum',
        reached: this.store.reached,
      },
      alarms: isFull ? ['NOSPACE'] : [],
    }
    return [{ endpoint: 'http://127.0.0.1:2379', status: this.#trouble ? unavailable(this.#trouble) : status }]
  }

  close(): void {
    for (const watch of [...this.#watches]) watch.end(null)
  }

  // ---- requests

  #ask<Answer>(perform: () => Answer, transaction: Transaction | null = null): Promise<Answer> {
    const fault = this.#plan.shift() ?? this.always
    return new Promise<Answer>((resolve, reject) => {
      const request = new Request(transaction, perform, resolve, reject)
      if (this.#trouble) return reject(unavailable(this.#trouble))
      switch (fault) {
        case null:
          return request.answer()
        case 'held':
          return void this.held.push(request)
        case 'lost before':
          return request.giveUp()
        case 'lost after':
          request.perform()
          return request.giveUp()
        case 'twice':
          request.perform()
          request.perform()
          return request.answer()
        default:
          return reject(unavailable(fault))
      }
    })
  }
}

const unavailable = (trouble: Trouble): Unavailable => new Unavailable(`etcd: ${trouble}`, trouble, trouble === 'timeout')

class Request<Answer> implements Held {
  readonly transaction: Transaction | null
  readonly #perform: () => Answer
  readonly #resolve: (answer: Answer) => void
  readonly #reject: (error: unknown) => void
  #answer: { readonly is: Answer } | { readonly error: unknown } | null = null

  constructor(
    transaction: Transaction | null,
    perform: () => Answer,
    resolve: (answer: Answer) => void,
    reject: (error: unknown) => void,
  ) {
    this.transaction = transaction
    this.#perform = perform
    this.#resolve = resolve
    this.#reject = reject
  }

  perform(): void {
    try {
      this.#answer = { is: this.#perform() }
    } catch (error) {
      this.#answer = { error }
    }
  }

  answer(): void {
    if (!this.#answer) this.perform()
    if (this.#answer && 'is' in this.#answer) this.#resolve(this.#answer.is)
    else this.#reject(this.#answer?.error)
  }

  giveUp(): void {
    this.#reject(new Unavailable('etcd: no answer within 5 s', 'timeout', true))
  }
}

/** A watch: what it is told comes in a later microtask, in order. */
class Watch {
  readonly #twin: Twin
  readonly #watching: Watching
  readonly #signal: AbortSignal
  readonly #isWanted: (row: string) => boolean
  readonly #ended: (watch: Watch) => void
  readonly #unlisten: () => void
  #waiting: Moment[] = []
  #isOver = false

  constructor(twin: Twin, from: string, to: string, watching: Watching, signal: AbortSignal, ended: (watch: Watch) => void) {
    this.#twin = twin
    this.#signal = signal
    this.#watching = watching
    this.#isWanted = (row) => row >= from && row < to
    this.#ended = ended
    this.#unlisten = twin.store.listen((moment) => (moment ? this.#hear(moment) : this.end('etcd was restored')))
  }

  begin(revision: number): void {
    const missed = this.#twin.store.since(revision)
    if (missed) for (const moment of missed) this.#hear(moment)
    else this.end('etcd: the required revision has been compacted')
  }

  speak(): void {
    for (const moment of this.#waiting.splice(0)) this.#hear(moment)
  }

  /** @param why null: nobody wants to hear of it */
  end(why: string | null): void {
    if (this.#isOver) return
    this.#isOver = true
    this.#unlisten()
    this.#ended(this)
    if (why === null) return
    queueMicrotask(() => {
      if (!this.#signal.aborted) this.#watching.broke(why)
    })
  }

  #hear(moment: Moment): void {
    if (this.#twin.isSilent) return void this.#waiting.push(moment)
    const changes = moment.changes.filter((change) => this.#isWanted('put' in change ? change.put.row : change.removed))
    if (changes.length === 0) return
    queueMicrotask(() => {
      if (!this.#isOver) this.#watching.changed(changes)
    })
  }
}
