import { setTimeout as sleep } from 'node:timers/promises'
import { reason } from '../../system/fault'
import { behind, type Etcd, type Header, type Row, type Watching } from './etcd/etcd'
import { SHARED } from './rows'

/** Milliseconds between two tries to begin to watch. */
const AGAIN = 1_000

/** Who follows what is shared. */
export interface Follower {
  /** What is to be kept of a moment before a request is sent. */
  before(): { readonly mark: number; readonly taken: number }
  /** All rows, at first and after each break. @returns whether to go on and watch */
  listed(rows: readonly Row[], header: Header, before: { readonly mark: number; readonly taken: number }): void
  changed(changes: Parameters<Watching['changed']>[0]): void
  /** Nothing is heard any more, until all rows are listed again. */
  broke(why: string): void
}

/** One watch over all that is shared, begun anew whenever it breaks. */
export class SharedWatch {
  readonly #etcd: Etcd
  readonly #follower: Follower
  #current = new AbortController()

  constructor(etcd: Etcd, follower: Follower) {
    this.#etcd = etcd
    this.#follower = follower
  }

  /** Looks at all rows once, and watches from there; resolves when it is over. */
  async once(signal: AbortSignal): Promise<void> {
    const follower = this.#follower
    const current = new AbortController()
    this.#current = current
    const ended = AbortSignal.any([signal, current.signal])
    const before = follower.before()
    try {
      const { header, rows } = await this.#etcd.list(SHARED, behind(SHARED))
      if (ended.aborted) return
      follower.listed(rows, header, before)
      if (ended.aborted) return
      await new Promise<void>((resolve) => {
        ended.addEventListener('abort', () => resolve(), { once: true })
        const broke = (why: string) => {
          if (!ended.aborted) follower.broke(why)
          resolve()
        }
        const changed: Watching['changed'] = (changes) => {
          if (!ended.aborted) follower.changed(changes)
        }
        this.#etcd.watch(SHARED, behind(SHARED), header.revision + 1, { changed, broke }, ended)
      })
    } catch (error) {
      if (!ended.aborted) follower.broke(reason(error))
    }
  }

  /** Looks at all rows again, now. */
  again(): void {
    this.#current.abort()
  }

  /** Follows until it is aborted. */
  async follow(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.once(signal)
      // One that was broken off on purpose begins anew at once.
      if (!this.#current.signal.aborted) await sleep(AGAIN, undefined, { signal, ref: false }).catch(() => {})
    }
  }
}
