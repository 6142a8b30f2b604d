import {
  type Condition,
  type Done,
  type Header,
  type Row,
  type Step,
  type Transaction,
  Unavailable,
} from '../../../src/daemon/fleet/etcd/etcd'

/** What a watch is told of. */
export type Change = { readonly put: Row } | { readonly removed: string }
/** All that one transaction has changed. */
export interface Moment {
  readonly revision: number
  readonly changes: readonly Change[]
}

/** etcd's own bound: operations of one list of a transaction. */
const MAX_STEPS = 128

interface Lease {
  readonly seconds: number
  ends: number
}
interface Contents {
  readonly rows: ReadonlyMap<string, Row>
  readonly leases: ReadonlyMap<string, Readonly<Lease>>
  readonly revision: number
}

/**
 * What all members of an etcd agree on, in memory: rows, revisions, leases, history. It does as etcd does where that surprises: conditions, nested ones
 * too, are judged before anything is done; a row that is not there is neither equal nor below; a lease begins anew with each leader; a
 * restored one goes on from the revision of its snapshot under the same cluster id.
 */
export class TwinStore {
  readonly cluster: string
  term = 2
  /** How far its log has come: it has been there for long. */
  reached = 1_000
  quota = 2 * 1024 ** 3
  /** Whether it has complained of its size: nothing can be put then. */
  isFull = false
  readonly #clock: () => number
  readonly #listeners = new Set<(moment: Moment | null) => void>()
  #revision = 1
  #compacted = 0
  #rows = new Map<string, Row>()
  #leases = new Map<string, Lease>()
  #history: Moment[] = []
  #granted = 0

  /** @param clock milliseconds, by which leases end: nothing else looks at it */
  constructor(clock: () => number = () => 0, cluster = '14841639068965178418') {
    this.#clock = clock
    this.cluster = cluster
  }

  get header(): Header {
    return { cluster: this.cluster, revision: this.#revision, term: this.term }
  }
  /** Everything that is there, by name. */
  get rows(): readonly Row[] {
    return [...this.#rows.values()].sort((a, b) => (a.row < b.row ? -1 : 1))
  }
  /** What it has been told to keep, roughly. */
  get size(): number {
    return this.#history.reduce((sum, { changes }) => sum + changes.reduce((sum, change) => sum + sizeOf(change), 0), 0)
  }

  // ---- what is asked of it

  transact(transaction: Transaction): { readonly held: boolean; readonly done: readonly Done[] } {
    this.tick()
    this.reached++
    check(transaction)
    if (this.isFull && puts(transaction).size > 0) throw new Unavailable('etcd: database space exceeded', 'full', false)
    for (const lease of leasesIn(transaction))
      if (!this.#leases.has(lease)) throw new Unavailable('etcd: requested lease not found', 'strange', false)
    const changes = new Map<string, Change>()
    const outcome = this.#judged(transaction)(changes)
    this.#commit([...changes.values()])
    return outcome
  }

  /** Rows of names from one up to another. */
  between(from: string, to: string): Row[] {
    return this.rows.filter(({ row }) => row >= from && row < to)
  }

  grant(seconds: number): string {
    if (this.isFull) throw new Unavailable('etcd: database space exceeded', 'full', false)
    const id = `${7_587_000_000_000_000_000n + BigInt(++this.#granted)}`
    this.#leases.set(id, { seconds, ends: this.#clock() + seconds * 1000 })
    return id
  }

  /** Whole seconds, as etcd says them; null: it is over. */
  left(lease: string): number | null {
    this.tick()
    const known = this.#leases.get(lease)
    return known ? Math.floor((known.ends - this.#clock()) / 1000) : null
  }

  compact(revision: number): void {
    if (revision > this.#revision || revision <= this.#compacted)
      throw new Unavailable(`etcd: revision ${revision} is compacted or in the future`, 'strange', false)
    this.#compacted = revision
    this.#history = this.#history.filter((moment) => moment.revision >= revision)
  }

  /** What has changed since; null where that is no longer known. */
  since(revision: number): readonly Moment[] | null {
    return revision < this.#compacted ? null : this.#history.filter((moment) => moment.revision >= revision)
  }

  /** @param listener is given null when the etcd behind it is another one now @returns ends it */
  listen(listener: (moment: Moment | null) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  // ---- what happens to it

  /** Lets go of leases that are over, with their rows. Whatever is asked does so first. */
  tick(): void {
    for (const [id, { ends }] of this.#leases) {
      if (ends > this.#clock()) continue
      this.#leases.delete(id)
      const rows = [...this.#rows.values()].filter(({ lease }) => lease === id)
      for (const { row } of rows) this.#rows.delete(row)
      this.#commit(rows.map(({ row }) => ({ removed: row })))
    }
  }

  /** Another leader: each lease begins anew. */
  elect(): void {
    this.tick()
    this.term++
    this.reached++
    for (const lease of this.#leases.values()) lease.ends = this.#clock() + lease.seconds * 1000
  }

  snapshot(): Contents {
    const leases = new Map([...this.#leases].map(([id, lease]) => [id, { ...lease }]))
    return { rows: new Map(this.#rows), leases, revision: this.#revision }
  }

  /** Goes back to a snapshot, in a new data directory; without one it is brand-new. */
  restore({ rows, leases, revision }: Contents = { rows: new Map(), leases: new Map(), revision: 1 }): void {
    this.#rows = new Map(rows)
    this.#leases = new Map([...leases].map(([id, { seconds }]) => [id, { seconds, ends: this.#clock() + seconds * 1000 }]))
    this.#revision = revision
    this.#compacted = revision
    this.#history = []
    this.term = 2
    this.reached = 4
    this.isFull = false
    for (const listener of [...this.#listeners]) listener(null)
  }

  // ---- transactions

  /** Judges conditions, of nested transactions too, and gives what is then to be done. */
  #judged({
    if: conditions,
    do: steps,
    else: others,
  }: Transaction): (changes: Map<string, Change>) => { held: boolean; done: Done[] } {
    const held = conditions.every((condition) => this.#holds(condition))
    const work = (held ? steps : others).map((step) => ('if' in step ? this.#judged(step) : step))
    return (changes) => {
      const done = work.flatMap((step): Done[] => {
        if (typeof step !== 'function') return [{ rows: this.#do(step, changes) }]
        step(changes)
        return [{ rows: [] }]
      })
      return { held, done }
    }
  }

  #holds(condition: Condition): boolean {
    const row = this.#rows.get(condition.row)
    switch (condition.is) {
      case 'absent':
        return !row
      case 'there':
        return row !== undefined
      case 'equal':
        return row?.value === condition.value
      case 'below':
        return row !== undefined && row.value < condition.value
      case 'since':
        return (row?.modified ?? 0) >= condition.revision
      case 'modified':
        return (row?.modified ?? 0) === condition.revision
    }
  }

  #do(step: Exclude<Step, { if: unknown }>, changes: Map<string, Change>): Row[] {
    if ('get' in step) return this.#rows.has(step.get) ? [this.#rows.get(step.get) as Row] : []
    if ('put' in step) {
      const modified = this.#revision + 1
      const created = this.#rows.get(step.put)?.created ?? modified
      const row = { row: step.put, value: step.value, created, modified, lease: step.lease ?? null }
      this.#rows.set(step.put, row)
      changes.set(step.put, { put: row })
      return []
    }
    const gone = 'remove' in step ? [step.remove] : this.between(step.removeFrom, step.to).map(({ row }) => row)
    for (const row of gone) if (this.#rows.delete(row)) changes.set(row, { removed: row })
    return []
  }

  #commit(changes: readonly Change[]): void {
    if (changes.length === 0) return
    const moment = { revision: ++this.#revision, changes }
    this.#history.push(moment)
    for (const listener of [...this.#listeners]) listener(moment)
  }
}

const sizeOf = (change: Change): number => ('put' in change ? change.put.row.length + change.put.value.length + 64 : 64)

// ---- what etcd refuses

const strange = (message: string) => new Unavailable(`etcd: ${message}`, 'strange', false)

function check(transaction: Transaction): void {
  const { if: conditions, do: steps, else: others } = transaction
  if (Math.max(conditions.length, steps.length, others.length) > MAX_STEPS) throw strange('too many operations in txn request')
  for (const step of [...steps, ...others]) if ('if' in step) check(step)
  written(steps)
  written(others)
}

interface Written {
  readonly puts: Set<string>
  readonly removes: readonly (readonly [from: string, to: string])[]
}

/** What steps write: no row twice, unless only one of both can come to be done. */
function written(steps: readonly Step[]): Written {
  const removes: (readonly [string, string])[] = steps.flatMap((step) =>
    'remove' in step
      ? [[step.remove, `${step.remove}\0`] as const]
      : 'removeFrom' in step
        ? [[step.removeFrom, step.to] as const]
        : [],
  )
  const puts = new Set<string>()
  const take = (row: string, beside: ReadonlySet<string> = new Set()) => {
    const isTwice = (puts.has(row) && !beside.has(row)) || removes.some(([from, to]) => row >= from && row < to)
    if (isTwice) throw strange('duplicate key given in txn request')
    puts.add(row)
  }
  for (const step of steps) {
    if (!('if' in step)) continue
    const [first, second] = [written(step.do), written(step.else)]
    for (const row of first.puts) take(row)
    for (const row of second.puts) take(row, first.puts)
    removes.push(...first.removes, ...second.removes)
  }
  for (const step of steps) if ('put' in step) take(step.put)
  return { puts, removes }
}

const puts = ({ do: steps, else: others }: Transaction): Set<string> => new Set([...written(steps).puts, ...written(others).puts])

const leasesIn = ({ do: steps, else: others }: Transaction): string[] =>
  [...steps, ...others].flatMap((step) => ('if' in step ? leasesIn(step) : 'put' in step && step.lease ? [step.lease] : []))
