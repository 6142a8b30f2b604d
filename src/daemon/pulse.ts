import { randomBytes, randomInt } from 'node:crypto'
import { chmod, rename, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import { type Hearing, ProbeWatch } from '../gate/hearing'
import type { Tap } from '../gate/tap'
import { reason } from '../system/fault'
import { readHead } from '../system/files'
import type { ServiceManager } from '../system/service-manager'
import type { StateHearing } from './state/state'
import type { TapSource } from './taps/source'

/** Milliseconds between two looks. */
const LOOK = 5_000
/** systemd hears from us so often within its time. */
const FEEDS = 4
/** Bytes that are read of a file that another program has written. */
const MAX_TEXT = 64
/** The source of each probe. Who forges it from outside proves that taps flow, and nothing else comes of it. */
const LOOPBACK = '127.0.0.1'

const SAID: Readonly<Record<Hearing, string>> = {
  deaf:
    'no packet has arrived for at least 30 s though probes are sent: no knock opens anything; under the watchdog of systemd the daemon is ' +
    'restarted now',
  alone:
    'nobody sends probes (knockturn-probe.service does not run): the watchdog restarts a daemon that hangs, but not one that hears nothing',
  well: 'probes arrive again',
}

/** What a pulse is of. */
export interface PulseSetup {
  readonly manager: ServiceManager
  readonly taps: Pick<TapSource, 'counters' | 'count'>
  /** Whether probes are wanted: a source that reads a log would have them written there. */
  readonly isProbed: boolean
  /** See {@link ProbeWatch}. */
  readonly isSure: boolean
  /** The ports of the pools of all keys, as of now. */
  readonly pool: () => Uint16Array
  readonly log: Logger
}

/**
 * Shows others that the daemon lives and hears: systemd's watchdog, which restarts it otherwise, and bin/knockturn-fail-open, by the file `alive`
 * in the service's folder, whose text is another one each time. In the file `probe` the port stands to which bin/knockturn-probe sends.
 */
export class Pulse {
  readonly #setup: PulseSetup
  readonly #life = randomBytes(4).toString('hex')
  #beats = 0
  /** When systemd was last told, in steady milliseconds. */
  #fed = -Infinity
  #watch: ProbeWatch
  #probes = 0
  #lives = 0
  #hearing: Hearing = 'well'
  /** The port that is probed; null: there is none. */
  #port: number | null = null
  #isWarned = false
  /** Whether it has begun to hear: before that it waits for the clock, and for its source. */
  #isHearing = false

  constructor(setup: PulseSetup) {
    this.#setup = setup
    this.#watch = new ProbeWatch(setup.isSure)
  }

  /** What is known of the daemon's hearing. */
  get hearing(): StateHearing {
    if (!this.#isHearing) return 'waiting'
    if (this.#setup.manager.folder === null || this.#port === null) return 'unknown'
    // Until the first probe arrives, nothing proves that taps do.
    return this.#hearing === 'well' && !this.#watch.hasHeard ? 'unknown' : this.#hearing
  }

  /** Whether a tap is a probe, and no part of a knock. */
  isProbe({ port, source }: Tap): boolean {
    const isProbe = port === this.#port && source === LOOPBACK
    if (isProbe) this.#probes++
    return isProbe
  }

  /** Lets systemd go on, though the daemon does not hear yet and whoever asks `alive` shall know that. @param steady milliseconds */
  async wait(status: string, steady: number): Promise<void> {
    if (this.#beats++ === 0) await this.#tell('--ready', `--status=${status}`)
    await this.#feed(steady)
  }

  /** The daemon hears: shows that from now on, until it is aborted. */
  async begin(signal: AbortSignal): Promise<void> {
    this.#isHearing = true
    this.#lives = Number((await this.#read('unheard')) ?? 0) || 0
    this.#watch = new ProbeWatch(this.#setup.isSure, this.#lives)
    await this.look(performance.now())
    await this.#tell('--ready', '--status=')
    void this.#lookOn(signal)
  }

  async #lookOn(signal: AbortSignal): Promise<void> {
    for (;;) {
      await sleep(LOOK, undefined, { signal, ref: false }).catch(() => {})
      if (signal.aborted) return
      await this.look(performance.now())
    }
  }

  /** Takes a look, and shows what it comes to. @param steady milliseconds on a monotonic clock */
  async look(steady: number): Promise<void> {
    const { taps, manager } = this.#setup
    if (manager.folder === null) return this.#feed(steady)
    await this.#choosePort()
    await taps.count?.()
    const { seen, ignored, unreadable, dropped } = taps.counters
    const sent = this.#port === null ? null : await this.#read('sent', `${manager.folder}-probe`)
    const hadHeard = this.#watch.hasHeard
    const hearing = this.#watch.look(
      { sent, arrived: seen - ignored + unreadable, probes: this.#probes, dropped: dropped ?? 0 },
      steady,
    )
    if (this.#watch.hasHeard && !hadHeard) await this.#forget('unheard')
    await this.#note(this.#port === null ? 'well' : hearing)
    if (this.#hearing === 'deaf') return
    await this.#write('alive', `${this.#life} ${++this.#beats}`)
    await this.#feed(steady)
  }

  /** Says what has changed, and leaves word for the next life where this one has never heard a probe. */
  async #note(hearing: Hearing): Promise<void> {
    const before = this.#hearing
    this.#hearing = hearing
    if (before === hearing) return
    if (hearing === 'deaf') this.#setup.log.error(SAID.deaf)
    else if (hearing === 'well') this.#setup.log.info(SAID.well)
    else if (this.#setup.manager.watchdog !== null) this.#setup.log.warn(SAID.alone)
    if (hearing === 'deaf' && !this.#watch.hasHeard) await this.#write('unheard', `${this.#lives + 1}`)
  }

  /** Has a port of the pool probed, and the same one as long as it is in there: log rules of before may not have another. */
  async #choosePort(): Promise<void> {
    const pool = this.#setup.isProbed ? this.#setup.pool() : new Uint16Array()
    if (this.#port !== null && pool.includes(this.#port)) return
    const port = pool.length > 0 ? pool[randomInt(pool.length)] : null
    if (port !== null) await this.#write('probe', `${port}`)
    else if (this.#port !== null) await this.#forget('probe')
    this.#port = port
  }

  async #feed(steady: number): Promise<void> {
    const { watchdog } = this.#setup.manager
    // A look may be some milliseconds early.
    if (watchdog === null || steady - this.#fed < watchdog / FEEDS - LOOK / 10) return
    this.#fed = steady
    await this.#tell('WATCHDOG=1')
  }

  async #tell(...words: string[]): Promise<void> {
    await this.#setup.manager.notify(...words).catch((error) => this.#failed(error))
  }

  async #read(name: string, folder = this.#setup.manager.folder): Promise<string | null> {
    if (folder === null) return null
    return readHead(join(folder, name), MAX_TEXT).then(
      ({ bytes }) => Buffer.from(bytes).toString('latin1').trim(),
      () => null,
    )
  }

  /** Writes a file that everybody may read, in one step. */
  async #write(name: string, text: string): Promise<void> {
    const path = join(this.#setup.manager.folder ?? '', name)
    try {
      await writeFile(`${path}.new`, `${text}\n`)
      await chmod(`${path}.new`, 0o644)
      await rename(`${path}.new`, path)
    } catch (error) {
      this.#failed(error)
    }
  }

  async #forget(name: string): Promise<void> {
    await unlink(join(this.#setup.manager.folder ?? '', name)).catch(() => {})
  }

  /** What can't be written or told once can't be ever after. */
  #failed(error: unknown): void {
    if (!this.#isWarned) this.#setup.log.warn(`cannot show that the daemon is alive: ${reason(error)}`)
    this.#isWarned = true
  }
}
