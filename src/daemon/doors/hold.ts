import type { Table } from '../../gate/firewall'

/** Puts back what makes a table's entries work, beside a look that is being taken, which may last for seconds. The next look finds the rest. */
export class Hold {
  readonly #table: Table
  readonly #done: () => void
  /** Whether anything may have changed since it was last looked at. */
  #isAsked = false
  #wasMissing = false
  #running: Promise<void> | null = null

  /** @param done called when it is done */
  constructor(table: Table, done: () => void) {
    this.#table = table
    this.#done = done
  }

  /** Another program may have taken something away. */
  ask(): void {
    this.#isAsked = true
    this.#running ??= this.#run()
  }

  /** Resolves when it is done; null where there is nothing to do. */
  get running(): Promise<void> | null {
    return this.#running
  }

  /** Whether anything has had to be put back since the last call. */
  takeMissing(): boolean {
    const wasMissing = this.#wasMissing
    this.#wasMissing = false
    return wasMissing
  }

  async #run(): Promise<void> {
    while (this.#isAsked) {
      this.#isAsked = false
      try {
        if (await this.#table.hold?.()) this.#wasMissing = true
      } catch {
        // The look will fail as well, and says so, or the table is written anew.
      }
    }
    this.#running = null
    this.#done()
  }
}
