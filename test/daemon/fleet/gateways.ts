import type { Row } from '../../../src/daemon/fleet/etcd/etcd'
import { GatewayLink } from '../../../src/daemon/fleet/gateway-link'
import { keysWord } from '../../../src/daemon/fleet/gateway-row'
import type { SharedRows } from '../../../src/daemon/fleet/link'
import { type FleetMemory, joined } from '../../../src/daemon/fleet/memory'
import { BASE, type Base, formatBase } from '../../../src/daemon/fleet/rows'
import { Twin } from './twin'
import { TwinStore } from './twin-store'

export const SERVER = 'gate.example'
export const FLEET = '0123456789abcdef'
/** A quarter of an hour after a full one, as Unix milliseconds. */
const BEGAN = 1_800_000_900_000

/** Has all that is under way in this process come about. */
export async function settled(): Promise<void> {
  for (let i = 0; i < 4; i++) await new Promise(setImmediate)
}

/** Several gateways at one etcd in memory, and a clock that they share but for what each is off. */
export class Gateways {
  /** Steady milliseconds. */
  at = 1_000
  readonly store = new TwinStore(() => this.at)
  readonly all: Gateway[] = []
  #lives = 0

  constructor(base: Partial<Base> = {}) {
    const whole = { fleet: FLEET, server: SERVER, epoch: 1, seconds: BEGAN / 1_000 - 900, ahead: 2, ...base }
    this.store.transact({ if: [], do: [{ put: BASE, value: formatBase(whole) }], else: [] })
  }

  get wall(): number {
    return BEGAN + this.at
  }
  get base(): Base | null {
    const row = this.store.rows.find((one) => one.row === BASE)
    return row ? JSON.parse(row.value) : null
  }

  /** A gateway that joins, or goes on with what it remembers. */
  add(
    name: string,
    options: Partial<Pick<Gateway, 'memory' | 'off' | 'synchronised'>> & { skew?: number; server?: string } = {},
  ): Gateway {
    const life = (++this.#lives).toString(16).padStart(16, '0')
    const base = this.base ?? { fleet: FLEET, server: SERVER, epoch: 1, seconds: 0, ahead: 2 }
    const gateway = new Gateway(this, life, { memory: joined(base, this.store.header, name), ...options })
    this.all.push(gateway)
    return gateway
  }

  /** Time goes on, and every gateway that lives beats. @param beats two seconds each */
  async pass(beats = 1): Promise<void> {
    for (let i = 0; i < beats; i++) {
      this.at += 2_000
      await settled()
      for (const gateway of this.all) if (gateway.lives) await gateway.tick()
      await settled()
    }
  }
}

/** One of them. */
export class Gateway {
  readonly link: GatewayLink
  readonly twin: Twin
  /** What was handed on of what is shared. */
  readonly fed: (readonly Row[] | Row | string)[] = []
  readonly told: string[] = []
  memory: FleetMemory
  /** Milliseconds by which its clock is ahead. */
  off: number
  synchronised: boolean | null
  lives = true
  keys = ['aa', 'bb']
  readonly #all: Gateways
  readonly #ending = new AbortController()
  #following: Promise<void> | null = null

  constructor(
    all: Gateways,
    life: string,
    {
      memory,
      off = 0,
      synchronised = true,
      skew = 1,
      server = SERVER,
    }: { memory: FleetMemory; off?: number; synchronised?: boolean | null; skew?: number; server?: string },
  ) {
    this.#all = all
    this.memory = memory
    this.off = off
    this.synchronised = synchronised
    this.twin = new Twin(all.store)
    const shared: SharedRows = {
      reset: (rows) => this.fed.push(rows),
      put: (row) => this.fed.push(row),
      removed: (row) => this.fed.push(row),
    }
    this.link = new GatewayLink({
      ...{ etcd: this.twin, gateway: memory.gateway, server, skew, program: '0', life, memory },
      remember: async () => {
        this.memory = this.link.standing.memory
      },
      window: () => 30_000,
      keys: () => keysWord(this.keys),
      about: () => ({ lastTap: null, leases: 0, locks: 0 }),
      synchronised: () => this.synchronised,
      told: (what, { epoch }) => this.told.push(`${what} ${epoch}`),
      now: () => this.now,
    })
    this.link.share(shared)
  }

  get now() {
    return { wall: this.#all.wall + this.off, steady: this.#all.at + 7 }
  }
  get refusal(): string | null {
    return this.link.refusal(this.now)
  }
  /** Of what kind it is. */
  get refused(): string | null {
    return this.link.standing.refused(this.now)?.is ?? null
  }

  get isWatching(): boolean {
    return this.#following !== null
  }

  /** What its timers do. */
  async tick(): Promise<void> {
    this.link.tend()
    await settled()
    this.#following ??= this.link.watch.once(this.#ending.signal).finally(() => {
      this.#following = null
    })
    await settled()
    await this.link.beat()
    await settled()
  }

  /** It ends, as when it is killed: nothing is written down at the end. */
  async kill(): Promise<FleetMemory> {
    this.lives = false
    this.#ending.abort()
    await settled()
    return this.memory
  }
}
