import type { Logger } from 'pino'
import type { Lease, Lock } from '../../gate/firewall'
import type { Quiet } from '../../gate/quiet'
import { inOneLine } from '../../system/fault'
import { steadyNow } from '../../system/time'
import { type Kept, readKept, writeKept } from './kept'
import { type Way, wayName } from './listed'

/** Milliseconds from one failure to the next try: doubled up to the last. */
const FIRST_WAIT = 1_000
const LAST_WAIT = 60_000

/** A way in, and how it stands with it. */
export interface Opened extends Way {
  /** By what names the program knows it: those of the lease that was the first. */
  readonly lease: string
  readonly key: string
  /** The leases that it is open for, by our account. None: it may be open, and is to be closed. */
  leases: readonly Lease[]
  /** Whether the program has said that it is open, and nothing since. */
  isOpen: boolean
  /** Whether it was to be closed when it was last tried. */
  isEnding: boolean
  /** Whether the program may have opened it: then it has to be closed. */
  isTouched: boolean
  /** Until when the program was told to open it; null: until it is closed */
  end: number | null
  failures: number
  /** Not to be tried again before, in steady milliseconds, and why. */
  notBefore: number
  reason: string
}

/** A way, and the leases that it is to be open for. */
export interface Work {
  readonly way: Opened
  readonly next: readonly Lease[]
}

/** What is open by our account, and what is written down of it. */
export class Ways {
  readonly #path: string
  readonly #log: Pick<Logger, 'error'>
  readonly #quiet: Quiet
  readonly #byName = new Map<string, Opened>()
  locks: readonly Lock[] = []
  #isRead = false
  /** What the file says; null: nobody knows. */
  #written: string | null = JSON.stringify(NOTHING)

  /** @param path of the file */
  constructor(path: string, log: Pick<Logger, 'error'>, quiet: Quiet) {
    this.#path = path
    this.#log = log
    this.#quiet = quiet
  }

  get size(): number {
    return this.#byName.size
  }

  all(): Opened[] {
    return [...this.#byName.values()]
  }

  has(way: Way): boolean {
    return this.#byName.has(wayName(way))
  }

  add(way: Opened): void {
    this.#byName.set(wayName(way), way)
  }

  forget(way: Way): void {
    this.#byName.delete(wayName(way))
  }

  /** Reads what an earlier run has written down, once. @throws where it can't be read */
  async restore(): Promise<void> {
    if (this.#isRead) return
    const kept = await readKept(this.#path)
    const { ways, locks } = kept
    for (const { leases, isOpen, lease, key, ...way } of ways) {
      const own = leases.map((one) => ({ ...one, ...way, once: false }))
      const opened = { leases: own, isOpen, isEnding: own.length === 0, isTouched: true, end: endOf(own) }
      this.add(Object.assign(newWay(way, lease, key), opened))
    }
    this.locks = locks
    this.#written = JSON.stringify(kept)
    this.#isRead = true
  }

  /**
   * Writes down what may be open, where that has changed.
   * @param works what is about to be done: a way that is to be closed is no lease's any more, and none is open for sure
   * @returns why it could not be written; null where it is
   */
  async write(works: readonly Work[]): Promise<string | null> {
    const soon = new Map(works.map(({ way, next }) => [way, next]))
    const kept: Kept = {
      ways: this.all().map((way) => ({
        address: way.address,
        protocol: way.protocol,
        port: way.port,
        lease: way.lease,
        key: way.key,
        isOpen: way.isOpen && !soon.has(way),
        leases: (soon.get(way) ?? (way.isEnding ? [] : way.leases)).map(({ id, key, fingerprint, until }) => ({
          id,
          key,
          fingerprint,
          until,
        })),
      })),
      locks: this.locks.map(({ id, key, fingerprint, address, until }) => ({ id, key, fingerprint, address, until })),
    }
    const text = JSON.stringify(kept)
    if (text === this.#written) return null
    this.#written = null
    try {
      await writeKept(this.#path, kept)
      this.#written = text
      return null
    } catch (error) {
      const reason = `${this.#path}: cannot be written: ${inOneLine(error)}`
      if (this.#quiet.may('write', steadyNow())) this.#log.error({ reason }, 'cannot write down what is open: nothing opens')
      return reason
    }
  }
}

const NOTHING: Kept = { ways: [], locks: [] }

/** A way that nobody has asked for yet. @param lease by whose name the program will know it @param key likewise */
export const newWay = ({ address, protocol, port }: Way, lease: string, key: string): Opened => ({
  ...{ address, protocol, port, lease, key },
  ...{ leases: [], isOpen: false, isEnding: false, isTouched: false, end: null, failures: 0, notBefore: 0, reason: '' },
})

/** Has a way that has failed wait before the next try: longer each time. */
export function putOff(way: Opened, reason: string): void {
  way.notBefore = steadyNow() + Math.min(FIRST_WAIT * 2 ** way.failures, LAST_WAIT)
  way.failures++
  way.reason = reason
}

/** When the last of these leases ends; null: one of them only when it is closed */
export const endOf = (leases: readonly Lease[]): number | null =>
  leases.some(({ until }) => until === null) ? null : Math.max(...leases.map(({ until }) => until ?? 0))
