import pino from 'pino'
import { backendOf } from '../../daemon/backends/all'
import { dryRunFirewall } from '../../daemon/backends/dry-run'
import type { Config } from '../../daemon/config'
import { Daemon } from '../../daemon/daemon'
import { BUSY } from '../../daemon/look-timer'
import type { Now } from '../../gate/clock'
import type { Knock } from '../../gate/knock'
import { Leases } from '../../gate/leases'
import { Ledger } from '../../gate/ledger'
import { Listener } from '../../gate/listener/listener'
import { Passcodes } from '../../gate/passcodes/passcodes'
import type { ServerKey } from '../../gate/server-key'
import type { Tap } from '../../gate/tap'

/* A whole daemon by the clock of a recording: with a ledger in memory, and a firewall that is none. It opens nothing and writes nothing. */

/** Milliseconds between two looks at what is due while some source is remembered, as the daemon's own timer has them. */
const IDLE = 250
/** Nothing is heard any more so many milliseconds after the last tap: a session has ended, and what it held has been tried. */
const AFTER = 15_000

/** A line of the daemon's log, read. */
export type Line = Readonly<Record<string, unknown>> & { readonly msg: string }

/** What the daemon made of a knock. */
export interface Verdict {
  /** The knock; null where the daemon has refused taps unread, since their source is locked. */
  readonly knock: Knock | null
  /** When it was opened, in Unix milliseconds. */
  readonly at: number
  /** What the log says of it; null where it is no news: its source has said it again, or it has just been refused for the same reason. */
  readonly line: Line | null
  /** Whether it was spent, and its own source has said it again. */
  readonly isRetransmitted: boolean
}

/** Tells of each knock that is opened. */
class Overheard extends Listener {
  told: (knocks: readonly Knock[]) => void = () => {}

  override hear(tap: Tap, now: Now): Knock[] {
    return this.#tell(super.hear(tap, now))
  }

  override due(now: Now): Knock[] {
    return this.#tell(super.due(now))
  }

  #tell(knocks: Knock[]): Knock[] {
    this.told(knocks)
    return knocks
  }
}

class OverheardPasscodes extends Passcodes {
  told: (knocks: readonly Knock[]) => void = () => {}

  override hear(tap: Tap, now: Now): Knock[] {
    const knocks = super.hear(tap, now)
    this.told(knocks)
    return knocks
  }
}

/** A daemon that is fed with taps of the past. */
export class Pipeline {
  readonly #listener: Overheard
  readonly #passcodes: OverheardPasscodes
  readonly #daemon: Daemon
  readonly #keys: readonly ServerKey[]
  readonly #config: Config
  readonly #take: (verdict: Verdict) => void
  #now: Now
  /** When it last looked, in steady milliseconds. */
  #looked = 0
  #opened: Knock[] = []
  #lines: Line[] = []
  #retransmits = 0

  /**
   * @param at when it begins, in Unix milliseconds
   * @param take told what becomes of each knock
   */
  constructor(config: Config, keys: readonly ServerKey[], at: number, take: (verdict: Verdict) => void) {
    this.#config = config
    this.#keys = keys
    this.#take = take
    this.#now = { wall: at, steady: 0 }
    const now = () => this.#now
    const told = (knocks: readonly Knock[]) => this.#opened.push(...knocks)
    this.#listener = new Overheard(config.skew, Math.random, config.datagram.ports.length > 0)
    this.#passcodes = new OverheardPasscodes({ ...config.passcode, skew: config.skew })
    this.#listener.told = told
    this.#passcodes.told = told
    this.#daemon = new Daemon({
      listener: this.#listener,
      passcodes: this.#passcodes,
      ledger: new Ledger([], { append: async () => {} }, config.skew),
      leases: new Leases({ all: backendOf(config).maxLeases, key: config.firewall.leasesPerKey }),
      firewall: dryRunFirewall(() => {}),
      log: pino({ base: null, timestamp: false }, { write: (line: string) => void this.#lines.push(JSON.parse(line)) }),
      now,
    })
  }

  /** Hands the keys to the daemon. */
  async begin(): Promise<void> {
    await this.#daemon.setKeys(this.#keys, this.#config.neverLock)
    // Its own timer goes by the clock of today: from here on we say when it looks.
    await this.#daemon.settle()
  }

  /** Has the daemon hear a tap. @param at Unix milliseconds */
  async hear(tap: Tap, at: number): Promise<void> {
    await this.#passTo(at)
    this.#daemon.hear(tap)
    if (this.#opened.length + this.#lines.length > 0) await this.#judge()
  }

  /** There will be no more: what is waiting comes to its end. */
  async end(): Promise<void> {
    await this.#passTo(this.#now.wall + AFTER)
  }

  /** Lets time pass, with the looks that the daemon would have taken meanwhile. A clock that is set back does not have it pass. */
  async #passTo(wall: number): Promise<void> {
    for (let left = wall - this.#now.wall; left > 0; left = wall - this.#now.wall) {
      const { isEmpty, busy } = this.#listener
      const pace = busy || this.#passcodes.busy ? BUSY : IDLE
      // Where nobody is remembered, hours pass at once.
      const until = isEmpty && !busy ? left : Math.max(0, this.#looked + pace - this.#now.steady)
      const passed = Math.min(until, left)
      this.#now = { wall: this.#now.wall + passed, steady: this.#now.steady + passed }
      // As the sum has it: where that is rounded down, the difference never comes to the whole pace, and nothing would ever pass.
      if (this.#now.steady >= this.#looked + pace) await this.#look()
    }
    this.#now = { ...this.#now, wall }
  }

  async #look(): Promise<void> {
    this.#looked = this.#now.steady
    this.#daemon.tick()
    // Slices that the daemon takes one a look: here no time passes between them.
    while (!this.#listener.prepare(this.#now));
    while (!this.#passcodes.prepare(this.#now));
    if (this.#opened.length + this.#lines.length > 0) await this.#judge()
  }

  /** Waits for what becomes of the knocks that were opened, each of which the log has at most one line of. */
  async #judge(): Promise<void> {
    const opened = this.#opened
    this.#opened = []
    const before = this.#retransmits
    await this.#daemon.settle()
    this.#retransmits = this.#daemon.retransmits
    const lines = this.#lines.filter(({ msg }) => msg === 'accepted' || msg === 'refused')
    this.#lines = []
    const at = this.#now.wall
    for (const knock of opened) {
      const place = lines.findIndex((line) => isOf(line, knock))
      const [line = null] = place < 0 ? [] : lines.splice(place, 1)
      this.#take({ knock, at, line, isRetransmitted: !line && this.#retransmits > before })
    }
    for (const line of lines) this.#take({ knock: null, at, line, isRetransmitted: false })
  }
}

const isOf = (line: Line, { key, source, request }: Knock): boolean =>
  line.source === source && line.action === request.action && line.fingerprint === Buffer.from(key.fingerprint).toString('hex')
