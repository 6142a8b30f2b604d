import type { Logger } from 'pino'
import type { ServerKey } from '../gate/server-key'
import type { Cidr } from '../protocol/address'
import { explained, Fault, reason } from '../system/fault'
import { backendOf } from './backends/all'
import { type Config, readConfig } from './config'
import type { Daemon } from './daemon'
import { inTurn } from './in-turn'
import { KeyringLog } from './keyring-log'
import { judgePasscodes } from './passcode-rules'
import { loadServerKeys, readAgainAt, type ServerKeys } from './server-keys'
import { watchFolder } from './watch-folder'

const NOTHING: ServerKeys = { keys: [], faults: [], held: [], unread: [], ignored: [] }

/** Keeps a daemon's keys as the keyring has them, and `never_lock` as the config has it. */
export class Reloader {
  readonly #file: string
  readonly #config: Config
  readonly #log: Logger
  readonly #keyringLog: KeyringLog
  readonly #isWatched: () => boolean
  readonly #reload = inTurn(() => this.#readAgain())
  readonly #lookForUnheard = inTurn(async () => {
    const backend = backendOf(this.#config)
    if (!backend.isReal || this.#config.taps.source === 'stdin') return
    // Where there are no log rules at all, the daemon says so otherwise.
    const { lines } = await backend.leftOut(this.#judged, this.#config)
    for (const line of lines) this.#log.warn(line)
  })
  #daemon: Daemon | null = null
  #loaded = NOTHING
  #judged: readonly ServerKey[] = []
  #neverLock: readonly Cidr[]
  #isFollowing = false
  /** Whether there is a reason to read again, and not time alone has passed. */
  #isAsked = false
  /** When the last reading began, in steady milliseconds. */
  #began = 0
  #timer: NodeJS.Timeout | undefined

  /** Watches the keyring from now on: a key that is revoked while the daemon starts is revoked. @param file the config's path */
  constructor(file: string, config: Config, log: Logger) {
    this.#file = file
    this.#config = config
    this.#log = log
    this.#keyringLog = new KeyringLog(log)
    this.#neverLock = config.neverLock
    const changed = () => this.#ask()
    this.#isWatched = watchFolder(config.keys, changed, (message) => log.warn(message))
  }

  /** The keys as they were loaded last: another list where they have changed. */
  get keys(): readonly ServerKey[] {
    return this.#loaded.keys
  }

  /** The keys that the daemon has: without passcodes that must not be used. */
  get judged(): readonly ServerKey[] {
    return this.#judged
  }

  /**
   * Loads the keys for the first time.
   * @returns why none can be used; nothing where some can
   * @throws {Fault} when the keyring can't be read
   */
  async load(): Promise<readonly Fault[]> {
    await this.#load()
    const { keys, faults, unread } = this.#loaded
    if (keys.length === 0) {
      const none = new Fault(`${this.#config.keys}: contains no usable key`, { hint: 'make one with "knockturn key new"' })
      return [...faults, ...unread, none]
    }
    this.#keyringLog.tell(this.#loaded, performance.now())
    return []
  }

  /** Hands what was loaded to a daemon; resolves when all of it is heard. */
  handTo(daemon: Daemon): Promise<void> {
    this.#daemon = daemon
    return this.#handOver()
  }

  /** From now on what changes is loaded and handed over, and so is what has changed since the keys were watched. */
  follow(): void {
    this.#isFollowing = true
    if (this.#isAsked) this.#reload()
    else this.#lookAgain()
  }

  /** Somebody asks for all of it to be read again: they hear once more what is wrong with it. */
  readAll(): void {
    this.#keyringLog.forget()
    this.#ask()
  }

  /** Nothing is loaded any more. */
  stop(): void {
    this.#isFollowing = false
    clearTimeout(this.#timer)
  }

  #ask(): void {
    this.#isAsked = true
    if (this.#isFollowing) this.#reload()
  }

  async #load(before?: ServerKeys): Promise<void> {
    const { keys, server, datagram } = this.#config
    this.#began = performance.now()
    this.#loaded = await loadServerKeys(keys, server, { before, datagrams: datagram.ports, now: this.#began })
  }

  /** Hands over the keys that were loaded, at once, but for passcodes that must not be used; resolves when all of them are heard. */
  async #handOver(): Promise<void> {
    const log = this.#log
    const { keys, faults } = judgePasscodes(this.#loaded.keys, this.#config, Date.now())
    for (const fault of faults) log.error(explained(fault), 'passcodes disabled (ordinary knocks still work)')
    this.#judged = keys
    this.#lookForUnheard()
    await this.#daemon?.setKeys(keys, this.#neverLock)
  }

  async #readAgain(): Promise<void> {
    const log = this.#log
    const failed = (error: unknown) => log.error(explained(error), 'internal error, please report')
    clearTimeout(this.#timer)
    const wasAsked = this.#isAsked
    this.#isAsked = false
    try {
      if (wasAsked) await this.#readConfig()
      const before = this.#loaded
      await this.#load(before)
      const loaded = this.#loaded
      // Not awaited: with many keys, or an iptables that is held up, the next revocation would have to wait.
      const taken = this.#handOver()
      this.#keyringLog.tell(loaded, performance.now())
      const { keys } = loaded
      // Where the whole keyring can't be read the keys are those of before.
      const isNews = keys !== before.keys && (wasAsked || sizesOf(loaded) !== sizesOf(before))
      taken.then(() => isNews && log.info({ keys: keys.length }, 'reloaded')).catch(failed)
    } catch (error) {
      failed(error)
    }
    this.#lookAgain()
  }

  /** Takes over what of the config may change while the daemon runs. */
  async #readConfig(): Promise<void> {
    const log = this.#log
    const unread = (error: unknown) => ({ value: undefined, faults: [new Fault(reason(error))] })
    const { value, faults = [] } = await readConfig(this.#file).catch(unread)
    for (const fault of faults) log.error(explained(fault), 'invalid config: last good version kept')
    if (!value) return
    if (!sameButForLocks(this.#config, value)) log.warn('config changes need a restart: only never_lock was applied')
    this.#neverLock = value.neverLock
  }

  /** What no event tells of is seen by looking. */
  #lookAgain(): void {
    const ended = performance.now()
    const at = readAgainAt(this.#loaded, this.#began, ended, this.#isWatched())
    if (at < Infinity) this.#timer = setTimeout(this.#reload, Math.ceil(at - ended)).unref()
  }
}

/** How much there is of each kind: what may change while nobody has asked. */
const sizesOf = ({ keys, faults, held, unread }: ServerKeys): string =>
  [keys, faults, held, unread].map(({ length }) => length).join()

const sameButForLocks = (a: Config, b: Config): boolean =>
  JSON.stringify({ ...a, neverLock: null }) === JSON.stringify({ ...b, neverLock: null })
