import type { Now } from '../../gate/clock'
import { BEAT, Beats } from './beats'
import { type ClockJudgement, judgeClocks, latestOf, maySetBase } from './clocks'
import type { FleetMemory } from './memory'
import { type Peer, Peers } from './peers'
import { Trust } from './trust'

/** Milliseconds after which what was heard of etcd is too old to open by. */
export const OLD = 10_000
/** Milliseconds that a gateway which begins waits for the others to speak: their clocks, and whether etcd was restored, are known then. */
export const SETTLE = 2.5 * BEAT

/** What it takes to judge how a gateway stands. */
export interface StandingSetup {
  /** The server's label. */
  readonly server: string
  readonly skew: number
  /** Random, 16 hex digits: of this run. */
  readonly life: string
  readonly memory: FleetMemory
  /** The shortest period of the keys, in milliseconds. */
  window(): number
  /** Whether this gateway's clock is synchronised; null: nobody says. */
  synchronised(): boolean | null
}

/** Why nothing new opens. `is` stays the same while only figures change. */
export interface Hindrance {
  readonly is: 'setup' | 'name' | 'restored' | 'unheard' | 'begins' | 'skew' | 'clock'
  readonly why: string
}

/** How a gateway stands in its fleet, by all that it has heard: whether anything new opens. */
export class Standing {
  readonly trust: Trust
  readonly beats: Beats
  readonly peers = new Peers()
  /** Why etcd could not be asked the last time; null: it could. */
  trouble: string | null = null
  readonly #setup: StandingSetup
  /** Until when others may still be about to speak for the first time; null: nobody has looked who there is. */
  #settledAt: number | null = null

  constructor(setup: StandingSetup) {
    this.#setup = setup
    this.trust = new Trust(setup.memory, setup.server)
    this.beats = new Beats(setup.memory, setup.life)
  }

  /** All rows were listed. */
  listed({ steady }: Now): void {
    this.#settledAt ??= steady + SETTLE
  }

  /** Why nothing new opens right now, the first of several reasons; null: nothing stands in the way. */
  refused(now: Now): Hindrance | null {
    return this.#byEtcd(now) ?? this.#byOthers(now)
  }

  #byEtcd(now: Now): Hindrance | null {
    const { setup, restored, base } = this.trust
    if (setup !== null) return { is: 'setup', why: setup }
    const hindrance = this.beats.hindrance(now)
    if (hindrance !== null) return { is: 'name', why: hindrance }
    const forgot = restored ?? this.forgetful(now)?.name
    if (forgot !== undefined) return { is: 'restored', why: restoredText(restored ?? `${forgot} says so`) }
    const trouble = this.trouble === null ? '' : `: ${this.trouble}`
    const { heard } = this.beats
    if (heard === null || !base) return { is: 'unheard', why: `nothing has been heard of etcd yet${trouble}` }
    const age = now.steady - heard
    return age > OLD ? { is: 'unheard', why: `the watch is ${Math.floor(age / 1_000)} s old${trouble}` } : null
  }

  #byOthers(now: Now): Hindrance | null {
    const { skew } = this.#setup
    if (!this.#isSettled(now)) return { is: 'begins', why: 'the daemon has just begun, and listens to the other gateways first' }
    const odd = this.peers.speaking(now).find(({ word }) => word.skew !== skew)
    if (odd)
      return { is: 'skew', why: `skew is ${odd.word.skew} at ${odd.name} and ${skew} here: it must be one for all gateways` }
    const { stops } = this.clocks(now)
    return stops === null ? null : { is: 'clock', why: stops }
  }

  /** What becomes of this gateway by its clock. */
  clocks(now: Now): ClockJudgement {
    return judgeClocks(this.#setup.synchronised(), this.peers.clocks(now), this.#setup.window())
  }

  /** Whether what etcd has is believed, and may be handed on. */
  isTrusted(now: Now): boolean {
    return this.trust.base !== null && this.#isSettled(now)
  }

  /** Another gateway that has found etcd restored, and goes by no older base than is there. */
  forgetful(now: Now): Peer | undefined {
    const epoch = this.trust.found?.base?.epoch ?? -1
    return this.peers.speaking(now).find(({ word }) => word.restored && word.epoch >= epoch)
  }

  /** Whether etcd has forgotten something, and this gateway may say from when on the fleet knows the past. */
  mayRepair(now: Now): boolean {
    const { found, restored, setup } = this.trust
    if (!found || setup !== null || (restored === null && !this.forgetful(now))) return false
    const { synchronised, window } = this.#setup
    return this.clocks(now).stops === null && maySetBase(synchronised(), this.peers.clocks(now), window())
  }

  /** By how many milliseconds the clock of another gateway may be ahead that takes knocks, or has; 0: none is. */
  latest(now: Now): number {
    const offsets = this.peers.all().flatMap(({ name }) => this.peers.offset(name, now) ?? [])
    return latestOf(
      offsets.map((offset) => ({ offset })),
      this.#setup.window(),
    )
  }

  /** What is to be remembered now. */
  get memory(): FleetMemory {
    const { known, restored, newest, log } = this.trust
    const { taken, hasWritten, life } = this.beats
    return {
      ...{ ...this.#setup.memory, fleet: known.fleet, epoch: known.epoch, seconds: known.seconds },
      ...{ ...newest, reached: log.known, beat: taken, restored: restored !== null },
      ...(hasWritten ? { life } : {}),
    }
  }

  #isSettled({ steady }: Now): boolean {
    if (this.#settledAt === null) return false
    return steady >= this.#settledAt || this.peers.all().every(({ heard }) => heard !== null)
  }
}

const restoredText = (why: string): string =>
  `etcd was restored, or begun anew (${why}): a gateway whose clock is synchronised and agrees with another one raises the floor, or run "knockturn fleet floor"`
