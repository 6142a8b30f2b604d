import { randomBytes } from 'node:crypto'
import type { Logger } from 'pino'
import type { Chronicle } from '../../gate/chronicle'
import type { Now } from '../../gate/clock'
import type { Leases } from '../../gate/leases'
import type { Ledger } from '../../gate/ledger'
import type { ServerKey } from '../../gate/server-key'
import { explained } from '../../system/fault'
import { isoTime } from '../../system/time'
import { anew } from '../anew'
import type { Config } from '../config'
import type { Daemon } from '../daemon'
import type { Stages } from '../stages'
import type { StateFleet } from '../state/fleet'
import type { FleetPart } from '../state/keeper'
import { FleetLedger } from './claims'
import { type FleetConfig, onceRefused } from './config'
import { openEtcd } from './etcd/client'
import type { Etcd } from './etcd/etcd'
import { GatewayLink } from './gateway-link'
import { keysWord } from './gateway-row'
import { type FleetMemory, joinedMemory, writeMemory } from './memory'
import { Rhythm } from './rhythm'
import { Sharing } from './sharing'
import { StandingLog } from './told'

/** The window of a fleet without keys, in milliseconds: a usual one. */
const WINDOW = 30_000

/** What a fleet needs of its daemon. */
export interface FleetSetup {
  readonly config: Config
  /** This gateway's own ledger. */
  readonly own: Ledger
  readonly leases: Leases
  readonly chronicle: Chronicle
  readonly keys: () => readonly ServerKey[]
  /** Version and commit. */
  readonly program: string
  readonly log: Logger
  readonly now: () => Now
}

/** One of several gateways that share what is spent, leases and revocations. */
export class Fleet implements FleetPart {
  readonly link: GatewayLink
  /** What of a daemon's stages is another in a fleet. */
  readonly stages: Pick<Stages, 'ledger' | 'onceRefused'>
  readonly #setup: FleetSetup
  /** Milliseconds that a call of etcd may take. */
  readonly #timeout: number
  readonly #claims: FleetLedger
  readonly #etcd: Etcd
  readonly #rhythm: Rhythm
  readonly #standing: StandingLog
  #sharing: Sharing | null = null
  /** One write of the memory after the other. */
  #remembering: Promise<void> = Promise.resolve()
  #isForgetful = false

  constructor(setup: FleetSetup, fleet: FleetConfig, etcd: Etcd, memory: FleetMemory) {
    const { config, own, log, now, program } = setup
    const { skew, server } = config
    const { timeout } = fleet
    this.#setup = setup
    this.#etcd = etcd
    this.link = new GatewayLink({
      ...{ etcd, gateway: memory.gateway, server, skew, program, memory, now },
      life: randomBytes(8).toString('hex'),
      remember: () => this.#remember(),
      window: anew(setup.keys, shortestWindow),
      keys: anew(setup.keys, (keys) => keysWord(keys.map(({ fingerprint }) => fingerprint))),
      about: () => this.#about(),
      synchronised: () => this.#rhythm.synchronised,
      told: (what, { epoch, seconds }) => {
        const base = { epoch, at: isoTime(seconds * 1_000) }
        if (what === 'raised') log.warn(base, 'etcd was restored: this gateway has raised the floor of all')
        else log.warn(base, 'the floor of the fleet was raised: what was sent until then opens nothing')
      },
    })
    const warn = (message: string) => log.warn(message)
    this.#timeout = timeout
    this.#claims = new FleetLedger(own, etcd, this.link, { skew, timeout, now, warn })
    this.stages = { ledger: this.#claims, onceRefused: onceRefused(fleet) }
    this.#rhythm = new Rhythm({
      ...{ link: this.link, etcd, now },
      looked: () => this.#standing.look(now()),
      failed: (error) => log.error(explained(error), 'internal error, please report'),
    })
    this.#standing = new StandingLog(this.link, () => this.#rhythm.health, log, now())
  }

  /** Beats, listens and shares from now on. The daemon has what an earlier run has left in force. */
  begin({ keys, enforcement }: Pick<Daemon, 'keys' | 'enforcement'>): void {
    const { leases, log, now } = this.#setup
    const sharing = new Sharing({ etcd: this.#etcd, link: this.link, leases, keys, enforcement, log, now })
    this.#sharing = sharing
    this.link.share(sharing, () => this.#rhythm.listed())
    sharing.begin()
    this.#rhythm.begin()
  }

  /** Shares nothing any more, before the daemon lets go of its leases: they go on at the others. */
  async leave(): Promise<void> {
    this.link.share(null)
    await this.#sharing?.end(this.#timeout)
  }

  /** Ends the rest, when no knock is on its way any more. */
  async end(): Promise<void> {
    await this.#claims.end()
    await this.#rhythm.end()
    await this.link.remember()
  }

  // ---- the daemon's state

  state(): StateFleet {
    const now = this.#setup.now()
    const { standing, gateway } = this.link
    const { known } = standing.trust
    const base = this.link.base?.base ?? null
    const speaking = new Set(standing.peers.speaking(now).map(({ name }) => name))
    return {
      ...{ gateway, fleet: known.fleet, epoch: known.epoch },
      base: base && { seconds: base.seconds, ahead: base.ahead },
      ...{ link: this.link.refusal(now), since: isoTime(this.#standing.since) },
      ...{ clocks: standing.clocks(now).says, synchronised: this.#rhythm.synchronised },
      revoked: this.#sharing?.revoked ?? [],
      gateways: standing.peers.all().map(({ name, word, heard }) => ({
        name,
        at: heard === null ? null : isoTime(now.wall - (now.steady - heard)),
        offset: speaking.has(name) ? rounded(standing.peers.offset(name, now)) : null,
        ...{ synchronised: word.synchronised, life: word.life },
      })),
      ...this.#rhythm.health,
    }
  }

  mark(): string {
    const now = this.#setup.now()
    // The log says it no later than the state.
    this.#standing.look(now)
    const speaking = this.link.standing.peers.speaking(now).map(({ name }) => name)
    return `${this.link.standing.refused(now)?.is} ${this.link.standing.trust.known.epoch} ${speaking.join()} ${this.#sharing?.revoked.length ?? 0}`
  }

  beats(): number {
    return this.link.standing.beats.taken
  }

  #about() {
    const { leases, chronicle } = this.#setup
    const { size, locks } = leases
    return { lastTap: chronicle.lastTap, leases: size, locks }
  }

  // ---- memory

  /** Writes what is to be remembered by then. A disk that fails is told of once: what etcd has is believed less well after a restart. */
  #remember(): Promise<void> {
    this.#remembering = this.#remembering.then(async () => {
      const { config, log } = this.#setup
      try {
        await writeMemory(config.ledger.path, this.link.standing.memory)
        this.#isForgetful = false
      } catch (error) {
        if (!this.#isForgetful) log.error(explained(error), 'cannot write what is known of the fleet')
        this.#isForgetful = true
      }
    })
    return this.#remembering
  }
}

const shortestWindow = (keys: readonly ServerKey[]): number =>
  keys.length === 0 ? WINDOW : 1_000 * Math.min(...keys.map(({ key }) => key.period))
const rounded = (offset: number | null): number | null => (offset === null ? null : Math.round(offset))

/**
 * Opens the fleet of a config.
 * @throws {Fault} where this gateway has not joined it, its memory can't be read, or a file of etcd's can't
 */
export async function openFleet(setup: FleetSetup): Promise<Fleet> {
  const { fleet, path } = setup.config.ledger
  if (!fleet) throw new Error('the config has no fleet')
  const memory = await joinedMemory(path, fleet.gateway)
  return new Fleet(setup, fleet, await openEtcd(fleet), memory)
}
