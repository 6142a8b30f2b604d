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
  /** All rows, at first and after each break. @param before of before they were asked for */
  listed(rows: readonly Row[], header: Header, before: { readonly mark: number; readonly taken: number }): void
  changed(changes: Parameters<Watching['changed']>[0]): void
  /** Nothing is heard any more, until all rows are listed again. */
  broke(why: string): void
}

/** One watch over all that is shared, begun anew whenever it breaks. */
export class SharedWatch {
  readonly #etcd: Etcd
  readonly #follower: Follower
  /** Ends the current watch; null while rows are listed. */
  #current: AbortController | null = null
  /** Somebody wants all rows to be listed again. */
  #isAsked = false

  constructor(etcd: Etcd, follower: Follower) {
    this.#etcd = etcd
    this.#follower = follower
  }

  /** Lists all rows, and watches from there; resolves when that is over. */
  async once(signal: AbortSignal): Promise<void> {
    const follower = this.#follower
    this.#isAsked = false
    const before = follower.before()
    try {
      const { header, rows } = await this.#etcd.list(SHARED, behind(SHARED))
      if (signal.aborted) return
      follower.listed(rows, header, before)
      if (!this.#isAsked) await this.#watch(header.revision + 1, signal)
    } catch (error) {
      if (!signal.aborted) follower.broke(reason(error))
    }
  }

  async #watch(revision: number, signal: AbortSignal): Promise<void> {
    const current = new AbortController()
    const ended = AbortSignal.any([signal, current.signal])
    this.#current = current
    await new Promise<void>((resolve) => {
      ended.addEventListener('abort', () => resolve(), { once: true })
      const broke = (why: string) => {
        this.#follower.broke(why)
        resolve()
      }
      const changed: Watching['changed'] = (changes) => {
        if (!ended.aborted) this.#follower.changed(changes)
      }
      this.#etcd.watch(SHARED, behind(SHARED), revision, { changed, broke }, ended)
    })
    // A watch that broke may have been told of it before it was given up.
    current.abort()
    this.#current = null
  }

  /** Has all rows listed again, at once. */
  again(): void {
    this.#isAsked = true
    this.#current?.abort()
  }

  /** Follows until it is aborted. */
  async follow(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.once(signal)
      if (!this.#isAsked) await sleep(AGAIN, undefined, { signal, ref: false }).catch(() => {})
    }
  }
}
