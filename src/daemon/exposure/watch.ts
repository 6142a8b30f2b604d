import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import { formatService, type Service } from '../../protocol/service'
import { explained, Fault, inOneLine } from '../../system/fault'
import { type Granting, grantedServices } from './look'
import { type Exposure, NOTHING } from './text'

/** Milliseconds between two looks at whether strangers reach the services: each runs a dozen processes. */
const EVERY = 3_600_000
/** Milliseconds between two looks at whether the services have changed. */
const LOOK = 1_000
/** Services that are named at a time: the rest is counted. */
const MAX_NAMED = 10

/** What a log is to say after a look, of each kind of {@link Exposure}. */
export interface Said {
  readonly open: readonly Fault[]
  readonly shut: readonly Fault[]
  readonly warnings: readonly string[]
}

/** Decides when to look whether strangers reach the services, and leases do, and what of it to say: faults each time, what is unknown when it changes. */
export class ExposureWatch {
  #last: { readonly services: string; readonly steady: number } | null = null
  #unknown = ''

  /**
   * Whether to look now: the first time, when the services have changed, and every hour. Who is told so is expected to look.
   * @param steady milliseconds on a monotonic clock
   */
  isDue(services: readonly Service[], steady: number): boolean {
    const names = services.map(formatService).join()
    if (this.#last?.services === names && steady - this.#last.steady < EVERY) return false
    this.#last = { services: names, steady }
    return true
  }

  /** What to say of what was found. */
  say({ open, shut, unknown }: Exposure): Said {
    const isNews = unknown.join('\n') !== this.#unknown
    this.#unknown = unknown.join('\n')
    const faults = (all: readonly Fault[]) => bounded(all, (line) => new Fault(line))
    return { open: faults(open), shut: faults(shut), warnings: isNews ? bounded(unknown, (line) => line) : [] }
  }
}

function bounded<T>(all: readonly T[], make: (line: string) => T): T[] {
  const rest = all.length - MAX_NAMED
  return [...all.slice(0, MAX_NAMED), ...(rest > 0 ? [make(`and ${rest} more: see "knockdaemon --check"`)] : [])]
}

/**
 * Looks from now on until it is aborted.
 * @param keys those of now: another list where they have changed
 * @param look finds out about the services that they grant
 */
export async function watchExposure(
  keys: () => readonly Granting[],
  look: (services: readonly Service[]) => Promise<Exposure>,
  log: Logger,
  signal: AbortSignal,
): Promise<void> {
  const watch = new ExposureWatch()
  let known = { keys: keys(), steady: Number.NEGATIVE_INFINITY, services: [] as readonly Service[] }
  while (!signal.aborted) {
    const [now, steady] = [keys(), performance.now()]
    // There may be 100,000 of them: they are gone through when they change, and every hour, since they expire.
    if (known.keys !== now || steady - known.steady >= EVERY)
      known = { keys: now, steady, services: grantedServices(now, Date.now()) }
    if (watch.isDue(known.services, steady)) {
      const failed = (error: unknown) => ({ ...NOTHING, unknown: [inOneLine(error)] })
      const { open, shut, warnings } = watch.say(await look(known.services).catch(failed))
      for (const fault of open) log.error(explained(fault), 'a service is open to everyone, without a knock')
      for (const fault of shut) log.error(explained(fault), 'no lease opens a service: another firewall drops its packets')
      for (const line of warnings) log.warn({ reason: line }, 'cannot tell whether a service is open or closed')
    }
    await sleep(LOOK, undefined, { signal, ref: false }).catch(() => {})
  }
}
