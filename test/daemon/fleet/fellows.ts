import pino from 'pino'
import { behind, type Row } from '../../../src/daemon/fleet/etcd/etcd'
import type { Link } from '../../../src/daemon/fleet/link'
import { BASE, type Base, formatBase, formatEntry, leaseRow, SHARED } from '../../../src/daemon/fleet/rows'
import { Sharing } from '../../../src/daemon/fleet/sharing'
import type { Entry, Lease } from '../../../src/gate/firewall'
import { serverKey, USER, World, type WorldOptions } from '../../replay/world'
import { Twin } from './twin'
import { TwinStore } from './twin-store'

/* Gateways in one process, each a whole daemon with clocks of its own, that share an etcd in memory. */

const START: Base = { fleet: '00112233445566aa', server: 'test', epoch: 1, seconds: 0, ahead: 0 }

/** A gateway of a fleet. */
export class Fellow {
  readonly world: World
  readonly twin: Twin
  /** What the link says; tests set it. */
  refusal: string | null = null
  base: Base | null = START
  readonly name: string
  #sharing: Sharing | null = null
  #watch = new AbortController()

  private constructor(name: string, world: World, twin: Twin) {
    this.name = name
    this.world = world
    this.twin = twin
  }

  static async begin(name: string, twin: Twin, options: WorldOptions): Promise<Fellow> {
    const fellow = new Fellow(name, await World.begin(options), twin)
    fellow.join()
    await fellow.follow()
    return fellow
  }

  get sharing(): Sharing {
    if (!this.#sharing) throw new Error('it has ended')
    return this.#sharing
  }

  join(): void {
    const { world, twin } = this
    const baseOf = () => this.base && { base: this.base, value: formatBase(this.base) }
    const link: Link = {
      gateway: this.name,
      refusal: () => this.refusal,
      get base() {
        return baseOf()
      },
      beaten: null,
      ahead: () => 0,
      mark: () => 0,
      believes: () => true,
      isSame: async () => true,
      look: () => {},
    }
    const log = pino({ base: null }, { write: (line) => void world.log.push(JSON.parse(line)) })
    const { keys, enforcement } = world.daemon
    this.#sharing = new Sharing({
      ...{ etcd: twin, link, leases: world.leases, keys, enforcement, log },
      now: () => world.now,
    })
    this.#sharing.begin()
  }

  /** Looks at all rows, and hears what changes from then on, as the link does. */
  async follow(): Promise<void> {
    this.#watch.abort()
    this.#watch = new AbortController()
    const { signal } = this.#watch
    const { header, rows } = await this.twin.list(SHARED, behind(SHARED))
    this.sharing.reset(rows, header.revision)
    const watching = {
      changed: (changes: readonly ({ readonly put: Row } | { readonly removed: string })[]) => {
        for (const change of changes) {
          if ('put' in change) this.sharing.put(change.put)
          else this.sharing.removed(change.removed)
        }
      },
      broke: () => {},
    }
    this.twin.watch(SHARED, behind(SHARED), header.revision + 1, watching, signal)
  }

  /** Its etcd is out of reach. */
  cutOff(): void {
    this.twin.trouble = 'no-quorum'
    this.#watch.abort()
  }

  async back(): Promise<void> {
    this.twin.trouble = null
    await this.follow()
  }

  async end(): Promise<void> {
    await this.#sharing?.end(5_000)
    this.#watch.abort()
    this.#sharing = null
  }

  /** The daemon is stopped in order and started again; with `reboot`, its machine is. */
  async restart(reboot = false): Promise<void> {
    await this.end()
    if (reboot) {
      const { wall } = this.world
      await this.world.reboot(0)
      this.world.wall = wall
    } else await this.world.restart()
    this.join()
    await this.follow()
  }

  /** Has it try what is due, as its timer does. */
  works(): void {
    this.#sharing?.work()
  }

  /** What is said of some kind. */
  said(msg: string): Record<string, unknown>[] {
    return this.world.log.filter((line) => line.msg === msg)
  }
}

/** A fleet, and the time that passes for all of it. */
export class Fellows {
  readonly store: TwinStore
  readonly all: Fellow[] = []
  ms = 0
  #salt = 100

  private constructor() {
    this.store = new TwinStore(() => this.ms)
  }

  /** @param options of each gateway */
  static async begin(...options: WorldOptions[]): Promise<Fellows> {
    const fellows = new Fellows()
    await new Twin(fellows.store).transact({ if: [], do: [{ put: BASE, value: formatBase(START) }], else: [] })
    for (const [i, one] of options.entries())
      fellows.all.push(await Fellow.begin(`gw${i + 1}`, new Twin(fellows.store), { keys: [serverKey(1)], ...one, seed: i + 1 }))
    return fellows
  }

  /** As {@link Fellows.begin}, with two gateways of the same keys. */
  static async two(keys: () => WorldOptions['keys'] = () => [serverKey(1)]): Promise<[Fellow, Fellow, Fellows]> {
    const fellows = await Fellows.begin({ keys: keys() ?? [] }, { keys: keys() ?? [] })
    const [one, other] = fellows.all
    return [one, other, fellows]
  }

  /** Waits until nothing more comes of what has happened. */
  async settled(): Promise<void> {
    for (let turn = 0; turn < 12; turn++) await new Promise(setImmediate)
  }

  /** Time passes everywhere. @param milliseconds in steps of a quarter of a second */
  async pass(milliseconds: number): Promise<void> {
    for (let passed = 0; passed < milliseconds; passed += 250) {
      this.ms += 250
      this.store.tick()
      for (const { world } of this.all) {
        world.wall += 250
        world.steady += 250
        world.daemon.tick()
      }
      for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate)
      for (const fellow of this.all) fellow.works()
    }
    await this.settled()
  }

  /** Rows of leases and locks. */
  rows(): string[] {
    return this.store.rows.map(({ row }) => row).filter((row) => /^shared\/(lease|lock)\//.test(row))
  }

  /** A knock at a gateway; what comes of it elsewhere, too. */
  async knock(
    fellow: Fellow,
    request: Parameters<World['compose']>[0] = {},
    source = USER,
    key = fellow.world.keys[0].key,
  ): Promise<void> {
    const { world } = fellow
    for (const port of world.compose({ seconds: 60, salt: ++this.#salt, ...request }, key)) {
      world.wall += 0.1
      world.steady += 0.1
      world.daemon.hear({ source, destination: '198.51.100.1', port })
    }
    await this.settled()
  }

  /** Writes a row as somebody does who is no gateway. */
  async write(row: string, value: string, lease: string | null = null): Promise<void> {
    await new Twin(this.store).transact({ if: [], do: [{ put: row, value, lease }], else: [] })
    await this.settled()
  }

  async remove(row: string): Promise<void> {
    await new Twin(this.store).transact({ if: [], do: [{ remove: row }], else: [] })
    await this.settled()
  }
}

/** The leases that a gateway's kernel has. */
export const leasesOf = ({ world }: Fellow): Lease[] =>
  [...world.rules].filter(
    (rule: Entry): rule is Lease => 'port' in rule && (rule.until === null || rule.until * 1000 > world.wall),
  )

// ---- one user, one door

/** Another address than the user's. */
export const OTHER = '203.0.113.9'
export const FLEET = '00112233445566aa'
export const { fingerprint: ALICE, key: KEY } = serverKey(1)
/** The lease that a user's knock comes to. */
export const ROW = `shared/lease/${ALICE}/tcp/22/${USER}`
export const RICH = { lock: true, allowUntilClosed: true }
/** A key that may ban, and open until closed. */
export const rich = () => [serverKey(1, RICH)]

/** Whether the user's door is open at each. */
export const isOpen = (...fellows: Fellow[]) => fellows.map(({ world }) => world.isOpen())
/** Until when what each has open is open, in Unix seconds. */
export const untils = (...fellows: Fellow[]) => fellows.map((fellow) => leasesOf(fellow).map(({ until }) => until))
/** All leases of the first key are closed by an order. */
export const ordered = (fellow: Fellow) => fellow.world.daemon.closeNamed({ key: 'user1' })
/** How often a gateway has tried to change something. */
export const writes = (fellow: Fellow) =>
  fellow.twin.asked.filter(({ do: steps }) => steps.some((step) => 'put' in step || 'remove' in step)).length
/** The row of the lease, as etcd has it. */
export const rowIn = ({ store }: Fellows, name = ROW) => store.rows.find(({ row }) => row === name)
/** A row as a gateway would write it. */
export function rowOf(seconds: number | null, wall: number, more: object = {}) {
  const until = seconds === null ? null : Math.ceil(wall / 1000) + seconds
  const whose = { id: 'abcdef01', key: 'user1', fingerprint: ALICE, address: USER }
  const entry = { ...whose, protocol: 'tcp' as const, port: 22, once: false, until, ...more }
  const row = leaseRow(entry)
  return { row, value: formatEntry(row, { entry, gateway: 'gw9', epoch: 1, seconds, ...more }, FLEET, KEY) }
}
