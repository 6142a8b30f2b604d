import type { Logger } from 'pino'
import type { Now } from '../../gate/clock'
import type { GatewayLink } from './gateway-link'
import { type Health, healthFault } from './health'
import type { Hindrance } from './standing'

/** Milliseconds within which a daemon that begins is expected to hear its fleet: before, it is no news that it has not. */
const BEGINNING = 8_000

/** Says how a gateway stands, once each time that it changes. */
export class StandingLog {
  readonly #link: GatewayLink
  readonly #health: () => Health
  readonly #log: Pick<Logger, 'info' | 'warn' | 'error'>
  readonly #began: Now
  /** Of the last look; undefined: nothing has been said yet. */
  #is: Hindrance['is'] | 'well' | undefined
  #clocks: string | null = null
  #fault: string | null = null
  /** Unix milliseconds */
  since: number

  constructor(link: GatewayLink, health: () => Health, log: Pick<Logger, 'info' | 'warn' | 'error'>, now: Now) {
    this.#link = link
    this.#health = health
    this.#log = log
    this.#began = now
    this.since = now.wall
  }

  /** Looks, and says what has changed. */
  look(now: Now): void {
    this.#lookAtLink(now)
    this.#lookAtClocks(now)
    this.#lookAtHealth()
  }

  #lookAtLink(now: Now): void {
    const refused = this.#link.standing.refused(now)
    const is = refused?.is ?? 'well'
    if (is === this.#is) return
    const begins = this.#is === undefined && (is === 'unheard' || is === 'begins' || is === 'name')
    if (begins && now.steady - this.#began.steady < BEGINNING) return
    // Since when knocks are refused, or accepted: not for which reason.
    if ((this.#is === 'well') !== (is === 'well')) this.since = now.wall
    this.#is = is
    const { gateway } = this.#link
    if (refused) this.#log.error({ gateway, reason: refused.why }, 'this gateway accepts no knocks')
    else this.#log.info({ gateway, others: this.#link.standing.peers.speaking(now).length }, 'this gateway accepts knocks')
  }

  #lookAtClocks(now: Now): void {
    const { says } = this.#link.standing.clocks(now)
    if (says !== null && this.#clocks === null) this.#log.warn({ reason: says }, 'the clocks of the fleet differ')
    if (says === null && this.#clocks !== null) this.#log.info('the clocks of the fleet agree again')
    this.#clocks = says
  }

  #lookAtHealth(): void {
    const health = this.#health()
    const fault = healthFault(health)
    const { size, quota } = health
    if (fault !== null && fault !== this.#fault) this.#log.warn({ reason: fault, size, quota }, 'etcd needs room')
    this.#fault = fault
  }
}
