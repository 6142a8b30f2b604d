import type { Tap } from '../../gate/tap'
import { AWAIT_LIMIT } from './order'

/** Sources whose taps somebody waits for. */
export class Awaited {
  readonly #waiting = new Map<string, readonly ((heard: boolean) => void)[]>()

  get isEmpty(): boolean {
    return this.#waiting.size === 0
  }

  /** Waits for a tap. @returns whether one has come in time */
  wait(source: string): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#tell(source, false), AWAIT_LIMIT)
      const tell = (heard: boolean) => {
        clearTimeout(timer)
        resolve(heard)
      }
      this.#waiting.set(source, [...(this.#waiting.get(source) ?? []), tell])
    })
  }

  hear({ source }: Tap): void {
    this.#tell(source, true)
  }

  /** Nobody has to wait any longer. */
  end(): void {
    for (const source of this.#waiting.keys()) this.#tell(source, false)
  }

  #tell(source: string, heard: boolean): void {
    for (const tell of this.#waiting.get(source) ?? []) tell(heard)
    this.#waiting.delete(source)
  }
}
