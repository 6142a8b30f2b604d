import { lutimes, open, rename, unlink, writeFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { Chronicle } from '../../gate/chronicle'
import type { Now } from '../../gate/clock'
import { isLease, isLock } from '../../gate/firewall'
import type { Leases } from '../../gate/leases'
import type { ServerKey } from '../../gate/server-key'
import { errorCode, explained, reason } from '../../system/fault'
import { isoTime } from '../../system/time'
import type { Config } from '../config'
import { formatGuarded } from '../guard'
import type { TapSource } from '../taps/source'
import { type Snapshot, stateText } from './compose'
import type { StateFleet } from './fleet'
import { readMemory } from './memory'
import { type Mark, Pace } from './pace'
import { STATE_VERSION, type StateHearing, statePath } from './state'

/** Milliseconds between two looks whether anything has changed: numbers are compared, and nothing else is done. */
const LOOK = 200
/** Who may read it beside the daemon's user: their group, and root. */
const MODE = 0o640

/** What a fleet adds to a state. */
export interface FleetPart {
  state(): StateFleet
  /** Is another one where something else than a figure has changed; and how often figures have. */
  mark(): string
  beats(): number
}

/** What a state tells of. */
export interface KeeperSetup {
  /** Version and commit. */
  readonly program: string
  /** The config's path, and what it says. */
  readonly file: string
  readonly config: Config
  readonly leases: Leases
  readonly chronicle: Chronicle
  readonly keys: () => readonly ServerKey[]
  readonly taps: Pick<TapSource, 'counters'>
  /** Taps that were heard so far, without probes. */
  readonly heard: () => number
  readonly hearing: () => StateHearing
  /** Absent where there is none. */
  readonly fleet?: FleetPart | undefined
  readonly log: Logger
  readonly now: () => Now
}

/** Keeps a daemon's state in a file, so that others can see how it is. It holds up nothing, and its failure is no end. */
export class StateKeeper {
  readonly #setup: KeeperSetup
  readonly #path: string
  readonly #started: string
  readonly #pace = new Pace()
  #isFailing = false
  /** The keys that were seen last, and how often there were others. */
  #keys: readonly ServerKey[] = []
  #keyrings = 0
  #running: Promise<void> = Promise.resolve()
  readonly #ending = new AbortController()
  /** One write after the other: each has what was there when it began. */
  #writing: Promise<void> = Promise.resolve()

  constructor(setup: KeeperSetup) {
    this.#setup = setup
    this.#path = statePath(setup.config.ledger.path)
    this.#started = isoTime(setup.now().wall)
  }

  /** Takes over what an earlier daemon has left, writes the first state, and keeps it from then on. The ledger must be held. */
  async begin(): Promise<void> {
    const { config, chronicle, log, now } = this.#setup
    try {
      const memory = await readMemory(config.ledger.path)
      if (memory) chronicle.restore(memory, now().wall)
    } catch (error) {
      log.warn(explained(error), 'the state of an earlier daemon is not used')
    }
    await this.#look()
    this.#running = this.#keep()
  }

  /** Writes the state of now, however lately one was written; resolves also where that fails. */
  show(): Promise<void> {
    return this.#write()
  }

  /** Writes the last state. */
  async end(): Promise<void> {
    this.#ending.abort()
    await this.#running
    await this.#write()
  }

  async #keep(): Promise<void> {
    const { signal } = this.#ending
    for (;;) {
      await sleep(LOOK, undefined, { signal, ref: false }).catch(() => {})
      if (signal.aborted) return
      await this.#look()
    }
  }

  async #look(): Promise<void> {
    const { taps, heard, chronicle, now } = this.#setup
    const { wall, steady } = now()
    chronicle.count({ taps: heard(), dropped: taps.counters.dropped ?? 0 }, wall)
    const mark = this.#mark()
    const due = this.#pace.due(mark, steady)
    if (due === 'write') await this.#write()
    else if (due === 'touch') await this.#touch()
  }

  #mark(): Mark {
    const { leases, chronicle, hearing, keys, taps, fleet } = this.#setup
    if (this.#keys !== keys()) {
      this.#keys = keys()
      this.#keyrings++
    }
    const { seen, dropped } = taps.counters
    return {
      what: `${leases.revision} ${chronicle.revision} ${this.#keyrings} ${hearing()} ${fleet?.mark() ?? ''}`,
      counters: seen + (dropped ?? 0) + (fleet?.beats() ?? 0),
    }
  }

  #write(): Promise<void> {
    this.#writing = this.#writing.then(() => this.#writeNext())
    return this.#writing
  }

  async #writeNext(): Promise<void> {
    const { now } = this.#setup
    const mark = this.#mark()
    const began = now().steady
    try {
      await this.#replace()
      this.#pace.wrote(mark, began, now().steady)
      if (this.#isFailing) this.#setup.log.info('the state file is writable again')
      this.#isFailing = false
    } catch (error) {
      this.#failed(error)
    }
  }

  /** Writes it in one step: readers see the old state or the new one. */
  async #replace(): Promise<void> {
    const next = `${this.#path}.new`
    // What a killed run has left. No link is followed: a daemon of root's may work in the folder of another user.
    await unlink(next).catch(() => {})
    const file = await open(next, 'wx', MODE)
    try {
      await writeFile(file, this.#text())
      await file.chmod(MODE)
    } catch (error) {
      await unlink(next).catch(() => {})
      throw error
    } finally {
      await file.close()
    }
    await rename(next, this.#path)
  }

  #text(): Generator<string> {
    const { program, file, config, leases, chronicle, taps, hearing, keys, now, fleet } = this.#setup
    const { seen, ignored, unreadable, dropped } = taps.counters
    const entries = leases.all()
    const head: Snapshot['head'] = {
      version: STATE_VERSION,
      program,
      pid: process.pid,
      started: this.#started,
      config: resolve(file),
      ledger: config.ledger.path,
      server: config.server,
      backend: config.firewall.backend,
      source: config.taps.source,
      hearing: hearing(),
      taps: { seen, ignored, unreadable, dropped },
      guard: config.firewall.guard.ports.map(formatGuarded),
      fleet: fleet?.state() ?? null,
    }
    return stateText({
      head,
      keys: keys(),
      leases: entries.filter(isLease),
      locks: entries.filter(isLock),
      chronicle,
      wall: now().wall,
    })
  }

  /** Shows that the daemon lives, though nothing has changed. */
  async #touch(): Promise<void> {
    const { now } = this.#setup
    try {
      const { wall, steady } = now()
      await lutimes(this.#path, wall / 1000, wall / 1000)
      this.#pace.touched(steady)
    } catch (error) {
      // Somebody has deleted it: it is written anew.
      if (errorCode(error) === 'ENOENT') await this.#write()
      else this.#failed(error)
    }
  }

  /** What can't be written is told of once, until it can be again. */
  #failed(error: unknown): void {
    this.#pace.failed(this.#setup.now().steady)
    if (!this.#isFailing) this.#setup.log.warn(`${this.#path}: cannot write the state: ${reason(error)}`)
    this.#isFailing = true
  }
}
