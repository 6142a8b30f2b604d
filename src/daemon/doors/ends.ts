import type { Logger } from 'pino'
import { type Lease, leaseName } from '../../gate/firewall'
import { formatService } from '../../protocol/service'
import type { Plan } from './plan'

/** Tells the log of each lease that has stood in a table how it has ended: once, however often it was made longer. */
export class Ends {
  readonly #log: Logger
  /** Leases that have stood there and whose end has not been told, by {@link leaseName}; and why they have ended, where they have. */
  readonly #open = new Set<string>()
  readonly #ended = new Map<string, { readonly lease: Lease; readonly why: string; readonly about?: object | undefined }>()

  constructor(log: Logger) {
    this.#log = log
  }

  /** Notes that a lease stands. */
  opened(lease: Lease): void {
    this.#open.add(leaseName(lease))
  }

  /** Notes that a lease is no longer wanted, and why. */
  ended(lease: Lease, why: string, about?: object): void {
    this.#ended.set(leaseName(lease), { lease, why, about })
  }

  /** Forgets the end of a lease that has never stood. */
  forget(lease: Lease): void {
    const name = leaseName(lease)
    if (!this.#open.has(name)) this.#ended.delete(name)
  }

  /** Tells of the ends that are there: a lease has ended when nothing of it stands any more, and nothing of it is wanted. */
  tell(plan: Pick<Plan, 'standsAnyhow' | 'heirOf'>): void {
    for (const [name, { lease, why, about }] of this.#ended) {
      if (plan.standsAnyhow(lease)) continue
      this.#ended.delete(name)
      if (plan.heirOf(lease)) continue
      if (this.#open.delete(name) && why !== 'replaced') this.#log.info({ ...lineOf(lease), ...about }, why)
    }
  }
}

const lineOf = ({ key, id, address, ...service }: Lease) => ({ key, lease: id, address, service: formatService(service) })
