import type { Entry } from '../../gate/firewall'
import type { Leases } from '../../gate/leases'
import { Quiet } from '../../gate/quiet'
import type { Stages } from '../stages'
import type { Adopted } from './plan'
import type { Outcome } from './waiting'
import { TableWorker } from './worker'

/** A firewall that fails is told of once in so many milliseconds, whatever it fails at. */
const QUIET = 60_000

/**
 * Brings the firewall to what the leases say should be in force, table by table, and reads back what is. It is told of nothing but that
 * something may have changed: what is composed for a table is what is wanted at that moment, and what ceases to be wanted later is taken
 * away by the next change. So no rule outlives its end for want of somebody who knows it.
 */
export class Doors {
  readonly #leases: Leases
  readonly #workers: readonly TableWorker[]

  constructor(stages: Pick<Stages, 'leases' | 'firewall' | 'log' | 'now'>) {
    this.#leases = stages.leases
    const quiet = new Quiet(QUIET)
    this.#workers = stages.firewall.map((table) => new TableWorker(table, stages, quiet))
  }

  /** Reads back what an earlier run has left in force. @throws where a table can't be read: it is not taken for an empty one */
  async adopt(): Promise<Adopted> {
    const found = await Promise.all(this.#workers.map((worker) => worker.adopt()))
    return { entries: found.flatMap(({ entries }) => entries), left: new Map(found.flatMap(({ left }) => [...left])) }
  }

  /** Has the firewall follow the leases, as far as they have changed, and looks whether it still does. Call it after each change, and now and then. */
  follow(): void {
    for (const { entry, why } of this.#leases.takeChanges()) this.#workerOf(entry)?.change(entry, why)
    for (const worker of this.#workers) worker.wake()
  }

  /** Another program may have changed the firewall: it is looked at now. */
  alarm(): void {
    for (const worker of this.#workers) worker.alarm()
  }

  /** Whether nothing stands open or locked, and nothing is to be changed or read again. */
  get isEmpty(): boolean {
    return this.#leases.size + this.#leases.locks === 0 && this.#workers.every((worker) => worker.isIdle)
  }

  /** Resolves when an entry is in force, has ended before it was, or could not be put there. */
  opened(entry: Entry): Promise<Outcome> {
    const [outcome] = this.#workerOf(entry)?.wait([{ entry, for: 'in force' }]) ?? []
    return outcome ?? Promise.resolve({ failed: 'the firewall has no table for this address' })
  }

  /**
   * Resolves when entries that have ended stand there no more, or could not be taken away, which is tried again.
   * @returns what has become of each, in their order
   */
  async shut(entries: readonly Entry[]): Promise<Outcome[]> {
    const outcomes = new Map<Entry, Outcome>()
    const waitIn = async (worker: TableWorker) => {
      const own = entries.filter(({ address }) => worker.table.holds(address))
      const all = await Promise.all(worker.wait(own.map((entry) => ({ entry, for: 'gone' }))))
      for (const [i, entry] of own.entries()) outcomes.set(entry, all[i])
    }
    await Promise.all(this.#workers.map(waitIn))
    return entries.map((entry) => outcomes.get(entry) ?? 'ended')
  }

  /** Whether the firewall shuts a door when its time comes, without us. */
  endsByItself(entry: Entry): boolean {
    return this.#workerOf(entry)?.table.endsByItself(entry) ?? true
  }

  /** Resolves when nothing is being changed; what could not be taken away is left, and whoever waits for that is told so. */
  async settle(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.settle()))
  }

  #workerOf({ address }: Entry): TableWorker | undefined {
    return this.#workers.find(({ table }) => table.holds(address))
  }
}
