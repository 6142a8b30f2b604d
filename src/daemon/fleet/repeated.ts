import { setTimeout as sleep } from 'node:timers/promises'
import type { Now } from '../../gate/clock'

/** Attempts at once: each is a request to etcd or two, and claims go beside them. */
const PARALLEL = 16
/** Milliseconds until the next attempt, doubled each time, up to the most: etcd is back within seconds, or for long not. */
const FIRST_REST = 500
const MOST_REST = 8_000
/** Where many things come to nothing, each rests for so many milliseconds for each of them: a thousand attempts a second are no burden. */
const REST_EACH = 1
/** Far more than leases, locks and keys that a gateway can have: what does not fit is told. */
const MAX_JOBS = 262_144

interface Job {
  /** @returns whether it is over */
  attempt: () => Promise<boolean>
  rest: number
  /** steady milliseconds */
  notBefore: number
  isRunning: boolean
  /** Whether it was asked for again while it ran. */
  isAsked: boolean
}

/** Work that is tried again until it is over: one of a name, and one attempt of it at a time. */
export class Repeated {
  readonly #now: () => Now
  readonly #failed: (error: unknown) => void
  readonly #jobs = new Map<string, Job>()
  #ready: string[] = []
  /** Of those, so many have had their turn: to move up all others each time costs more than an attempt. */
  #begun = 0
  readonly #running = new Set<Promise<void>>()
  #timer: NodeJS.Timeout | undefined
  #isEnded = false

  /** @param failed told why an attempt has failed; it is repeated */
  constructor(now: () => Now, failed: (error: unknown) => void) {
    this.#now = now
    this.#failed = failed
  }

  /**
   * Has something done, in the place of what had this name.
   * @param after milliseconds before the first attempt
   * @returns false where there is too much to do
   */
  ask(name: string, attempt: () => Promise<boolean>, after = 0): boolean {
    if (this.#isEnded) return true
    const known = this.#jobs.get(name)
    if (!known && this.#jobs.size >= MAX_JOBS) return false
    const notBefore = this.#now().steady + after
    const job = known ?? { attempt, notBefore, rest: FIRST_REST, isRunning: false, isAsked: false }
    Object.assign(job, { attempt, notBefore, rest: FIRST_REST, isAsked: job.isRunning })
    this.#jobs.set(name, job)
    if (!job.isRunning && after === 0) this.#ready.push(name)
    this.work()
    return true
  }

  has(name: string): boolean {
    return this.#jobs.has(name)
  }

  /** Tries all that waits now: what kept it from being done is over. */
  wake(): void {
    for (const job of this.#jobs.values()) job.notBefore = 0
    this.work()
  }

  /** Begins what is due. It calls itself by a timer. */
  work(): void {
    if (this.#isEnded) return
    clearTimeout(this.#timer)
    const { steady } = this.#now()
    if (this.#begun === this.#ready.length) {
      this.#ready = []
      this.#begun = 0
      for (const [name, job] of this.#jobs) if (!job.isRunning && job.notBefore <= steady) this.#ready.push(name)
    }
    while (this.#running.size < PARALLEL && this.#begun < this.#ready.length) {
      const name = this.#ready[this.#begun++]
      const job = this.#jobs.get(name)
      if (job && !job.isRunning && job.notBefore <= steady) this.#begin(name, job)
    }
    if (this.#jobs.size > this.#running.size) this.#timer = setTimeout(() => this.work(), FIRST_REST).unref()
  }

  #begin(name: string, job: Job): void {
    job.isRunning = true
    const running = this.#attempt(name, job).finally(() => {
      this.#running.delete(running)
      this.work()
    })
    this.#running.add(running)
  }

  async #attempt(name: string, job: Job): Promise<void> {
    const isOver = await job.attempt().catch((error) => {
      this.#failed(error)
      return false
    })
    job.isRunning = false
    if (job.isAsked) {
      job.isAsked = false
      if (job.notBefore <= this.#now().steady) this.#ready.push(name)
    } else if (isOver) this.#jobs.delete(name)
    else {
      job.notBefore = this.#now().steady + job.rest
      job.rest = Math.min(2 * job.rest, Math.max(MOST_REST, REST_EACH * this.#jobs.size))
    }
  }

  /**
   * Begins nothing any more; resolves when what is under way has ended, or `limit` milliseconds are over: an attempt may ask etcd several times, and
   * wait for each answer.
   */
  async end(limit: number): Promise<void> {
    this.#isEnded = true
    clearTimeout(this.#timer)
    const over = new AbortController()
    await Promise.race([Promise.all(this.#running), sleep(limit, undefined, { signal: over.signal }).catch(() => {})])
    over.abort()
  }
}
