import type { Logger } from 'pino'
import { explained } from '../system/fault'
import type { OpenFirewall } from './backends/backend'

/** Closes what bin/knockturn-fail-open has opened for want of a daemon: as soon as this one hears, and whenever it is opened once more. */
export class FailOpenWatch {
  readonly #open: OpenFirewall
  readonly #log: Logger
  #hears = false

  constructor(open: OpenFirewall, log: Logger) {
    this.#open = open
    this.#log = log
  }

  /** The daemon hears from now on. */
  begin(): void {
    this.#hears = true
    this.look()
  }

  /** Another program may have changed the firewall. Before the daemon hears, nothing is closed: it may never come to that. */
  look(): void {
    if (this.#hears) void this.#close()
  }

  async #close(): Promise<void> {
    try {
      if (!(await this.#open.closeFailOpen?.())) return
      this.#log.warn('the guarded ports were open to fail_open_to, because no daemon was alive: they are closed again')
    } catch (error) {
      this.#log.error(explained(error), 'cannot tell whether the guarded ports are open to fail_open_to')
    }
  }
}
