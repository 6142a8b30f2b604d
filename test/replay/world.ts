import pino from 'pino'
import { warnOfFloors } from '../../src/daemon/ahead'
import { Daemon } from '../../src/daemon/daemon'
import { startingRecords } from '../../src/daemon/ledger/disk'
import { formatRecord, readLedger } from '../../src/daemon/ledger/record'
import { Chronicle } from '../../src/gate/chronicle'
import type { Now } from '../../src/gate/clock'
import type { Batch, Entry, Lease } from '../../src/gate/firewall'
import { Leases } from '../../src/gate/leases'
import { Ledger, type LedgerRecord, rebased } from '../../src/gate/ledger'
import { Listener } from '../../src/gate/listener/listener'
import { Passcodes } from '../../src/gate/passcodes/passcodes'
import type { GrantRules, ServerKey } from '../../src/gate/server-key'
import { type Cidr, parseCidr } from '../../src/protocol/address'
import { composeDatagram } from '../../src/protocol/datagram'
import { type Key, windowAt } from '../../src/protocol/key'
import { PASSCODE_BASE } from '../../src/protocol/passcode'
import type { Request } from '../../src/protocol/request'
import { keyOf, knockOf, MIDDLE, requestOf, seededRandom } from '../gate/listener/ear'

/* A server in one process with clocks of its own: everything from the tap to the firewall is the daemon's code, the disk and the kernel are simulated. */

export const USER = '198.51.100.2'
export const ATTACKER = '198.51.100.66'
export const SERVER = '198.51.100.1'

/** What a firewall was asked to open, and when. */
export interface Opening {
  readonly lease: Lease
  /** Unix milliseconds */
  readonly at: number
}

/** A line of the daemon's log. */
export type Said = Record<string, unknown>

export interface WorldOptions {
  readonly keys?: readonly ServerKey[]
  readonly skew?: number
  readonly seed?: number
  /** Unix seconds */
  readonly seconds?: number
  readonly neverLock?: readonly string[]
  /** As of {@link Stages.onceRefused}. */
  readonly onceRefused?: string
}

/** The nth key, as a server has it. */
export function serverKey(n: number, grant: Partial<GrantRules> = {}, more: Partial<ServerKey> = {}): ServerKey {
  const key = keyOf(n)
  return {
    id: `user${n}`,
    key,
    fingerprint: Buffer.from(key.fingerprint).toString('hex'),
    expires: null,
    revoked: null,
    grant: {
      services: [{ port: 22, protocol: 'tcp' }],
      max: 3_600,
      addresses: cidrs('0.0.0.0/0', '::/0'),
      bindSource: true,
      requireAddress: false,
      allowUntilClosed: false,
      lock: false,
      ...grant,
    },
    ...more,
  }
}

export function cidrs(...blocks: string[]): Cidr[] {
  return blocks.map((block) => parseCidr(block) as Cidr)
}

/**
 * The disk: what has been synced survives anything; what has not may survive in part. The daemon's own code writes the records and reads
 * them back.
 */
export class Disk {
  /** Lines that are synced, lines that are only written, and the part of these that has reached the disk when the power was cut. */
  synced = ''
  written = ''
  torn = ''
  exists = false
  /** Set to have every write fail, as a full or read-only disk does. */
  fault: Error | null = null
  /** Set to have writes wait until {@link Disk.sync}. */
  slow = false
  #waiting: (() => void)[] = []

  append(record: LedgerRecord): Promise<void> {
    if (this.fault) return Promise.reject(this.fault)
    this.written += `${formatRecord(record)}\n`
    this.exists = true
    return new Promise((resolve) => {
      this.#waiting.push(resolve)
      if (!this.slow) this.sync()
    })
  }

  /** What is written is durable now. */
  sync(): void {
    this.synced += this.written
    this.written = ''
    for (const resolve of this.#waiting.splice(0)) resolve()
  }

  /** The power is cut or the daemon is killed: of what was not synced, this many characters have reached the disk. */
  crash(reached = 0): void {
    this.torn += this.written.slice(0, reached)
    this.written = ''
    this.#waiting = []
  }

  /** The file's bytes, header included: the header records how much of them is synced. */
  get bytes(): Buffer {
    const header = `knockturn-ledger 1 ${'0'.repeat(16)}\n`
    const length = header.length + this.synced.length
    return Buffer.from(header.replace('0'.repeat(16), String(length).padStart(16, '0')) + this.synced + this.torn, 'latin1')
  }

  /** Another file in its place: the work of an attacker or a fault. */
  set bytes(bytes: Buffer) {
    const { records, state } = readLedger(bytes)
    this.damaged = state === 'damaged'
    this.synced = records.map((record) => `${formatRecord(record)}\n`).join('')
    this.torn = ''
  }

  damaged = false

  delete(): void {
    this.synced = ''
    this.written = ''
    this.torn = ''
    this.exists = false
  }
}

/** A server: daemon, disk, kernel and clocks. */
export class World {
  readonly disk = new Disk()
  readonly openings: Opening[] = []
  readonly log: Said[] = []
  /** What the daemon remembers, and the next one, too. */
  readonly chronicle: Chronicle
  /** The kernel's rules, which outlive the daemon. */
  readonly rules = new Set<Entry>()
  /** What a change of the rules waits for: the kernel, or whoever has its lock, may be slow. */
  held: Promise<void> | undefined
  /** Throws if a change is to fail. */
  fault: ((batch: Batch) => void) | undefined
  wall: number
  steady = 1_000_000
  keys: readonly ServerKey[]
  skew: number
  readonly random: () => number
  readonly #neverLock: readonly Cidr[]
  readonly #stages: { readonly onceRefused?: string }
  /** What the daemon has in force. */
  leases = new Leases()
  #daemon: Daemon | null = null
  #salt = 0

  private constructor({
    keys = [serverKey(1)],
    skew = 1,
    seed = 1,
    seconds = MIDDLE,
    neverLock = [],
    onceRefused,
  }: WorldOptions) {
    this.keys = keys
    this.skew = skew
    this.random = seededRandom(seed)
    this.wall = seconds * 1000
    this.chronicle = new Chronicle(this.wall)
    this.#neverLock = cidrs(...neverLock)
    this.#stages = onceRefused === undefined ? {} : { onceRefused }
  }

  /** A server whose daemon runs, with a new ledger. */
  static async begin(options: WorldOptions = {}): Promise<World> {
    const world = new World(options)
    await world.start(true)
    return world
  }

  get now(): Now {
    return { wall: this.wall, steady: this.steady }
  }

  get daemon(): Daemon {
    if (!this.#daemon) throw new Error('the daemon is not running')
    return this.#daemon
  }

  /**
   * Starts the daemon, as src/daemon/serve.ts does.
   * @param isNew whether the administrator has confirmed that there was no ledger (--new-ledger)
   * @param ledger one that was opened by other means than from our disk
   */
  async start(isNew = false, ledger = this.#readLedger(isNew)): Promise<void> {
    const own = (): boolean => this.#daemon === daemon
    const log = pino({ base: null, level: 'info' }, { write: (line) => void (own() && this.log.push(JSON.parse(line))) })
    this.leases = new Leases()
    const daemon = new Daemon({
      ...this.#stages,
      listener: new Listener(this.skew, this.random, true),
      passcodes: new Passcodes({ base: PASSCODE_BASE, pinDigits: 4, skew: this.skew }),
      ledger,
      leases: this.leases,
      firewall: [
        {
          name: 'kernel',
          maxRemoved: 16,
          clock: 'wall',
          holds: () => true,
          endsByItself: () => true,
          read: async () => ({ entries: [...this.rules], isWhole: true }),
          // A daemon that has been killed does nothing more, whatever it still waits for.
          change: async (batch) => {
            const { add, remove } = batch
            await this.held
            if (!own()) return
            this.fault?.(batch)
            for (const entry of add) this.#add(entry)
            for (const { entry } of remove) this.rules.delete(entry)
          },
          rewrite: async (entries) => {
            if (!own()) return
            for (const rule of this.rules) if (!entries.includes(rule)) this.rules.delete(rule)
            for (const entry of entries) if (!this.rules.has(entry)) this.#add(entry)
          },
        },
      ],
      chronicle: this.chronicle,
      log,
      now: () => this.now,
    })
    this.#daemon = daemon
    await daemon.setKeys(this.keys, this.#neverLock)
    await daemon.restore()
    warnOfFloors(ledger, this.keys, false, log, this.wall)
    // From here on our own clock counts.
    await daemon.settle()
  }

  #add(entry: Entry): void {
    this.rules.add(entry)
    if ('port' in entry) this.openings.push({ lease: entry, at: this.wall })
  }

  #readLedger(isNew: boolean): Ledger {
    const { disk } = this
    const { state, records } = disk.exists ? readLedger(disk.bytes) : { state: 'missing' as const, records: [] }
    const found = { state: disk.damaged ? ('damaged' as const) : state, records }
    disk.damaged = false
    disk.exists = true
    const ledger = new Ledger(startingRecords(found, this.skew, this.wall, isNew), disk, this.skew)
    disk.synced = [...ledger.records()].map((record) => `${formatRecord(record)}\n`).join('')
    disk.torn = ''
    return ledger
  }

  /** The daemon is killed: nothing that it was doing goes on. @param reached characters of what it was writing that are on the disk */
  kill(reached = 0): void {
    this.#daemon = null
    this.disk.crash(reached)
  }

  /** It is stopped in order and started again. */
  async restart(): Promise<void> {
    await this.settled()
    this.kill()
    await this.start()
  }

  /** It is stopped, the administrator rebases the ledger, as `knockturn ledger rebase` does on a file, and it is started again. */
  async rebase(): Promise<void> {
    await this.settled()
    this.kill()
    const records = rebased(readLedger(this.disk.bytes).records, this.wall, this.skew)
    this.disk.synced = records.map((record) => `${formatRecord(record)}\n`).join('')
    this.disk.torn = ''
    await this.start()
  }

  /** The machine is rebooted: rules are gone, the ledger is what the disk has kept. */
  async reboot(seconds = 30): Promise<void> {
    this.kill()
    this.rules.clear()
    this.wall += seconds * 1000
    this.steady = 0
    await this.start()
  }

  /** Other keys, as after a change of the keyring. */
  async setKeys(keys: readonly ServerKey[]): Promise<void> {
    this.keys = keys
    await this.daemon.setKeys(keys, this.#neverLock)
  }

  /** One tap, `after` milliseconds after the last. */
  tap(port: number, { source = USER, destination = SERVER, after = 0.1 } = {}): void {
    this.wall += after
    this.steady += after
    this.daemon.hear({ source, destination, port })
  }

  /** Taps one after the other; then waits for all that they cause. */
  async taps(ports: Iterable<number>, how: { source?: string; destination?: string; after?: number } = {}): Promise<void> {
    for (const port of ports) this.tap(port, how)
    await this.settled()
  }

  /** Time passes, and the daemon checks what is due as often as it does by itself. */
  async pass(milliseconds: number): Promise<void> {
    const step = milliseconds > 5_000 ? 250 : 10
    for (let passed = 0; passed < milliseconds; passed += step) {
      const by = Math.min(step, milliseconds - passed)
      this.wall += by
      this.steady += by
      this.daemon.tick()
    }
    await this.settled()
  }

  /** Time passes as in {@link World.pass}, without waiting for the firewall. */
  async passes(milliseconds: number): Promise<void> {
    for (let passed = 0; passed < milliseconds; passed += 10) {
      const by = Math.min(10, milliseconds - passed)
      this.wall += by
      this.steady += by
      this.daemon.tick()
      await new Promise(setImmediate)
    }
  }

  /** Waits until what the daemon has begun is done. */
  settled(): Promise<void> {
    return this.daemon.settle()
  }

  /** Holds changes of the rules back, until the returned function is called. */
  hold(): () => void {
    let release = () => {}
    this.held = new Promise((resolve) => {
      release = resolve
    })
    return () => {
      this.held = undefined
      release()
    }
  }

  /** Taps one after the other, and their effects that do not wait for the firewall. */
  async tapped(ports: Iterable<number>, how: { source?: string; destination?: string; after?: number } = {}): Promise<void> {
    for (const port of ports) this.tap(port, how)
    await new Promise(setImmediate)
  }

  /** The window that the clock is in. */
  window(key: Key = this.keys[0].key): number {
    return windowAt(this.wall / 1000, key.period)
  }

  /** The ports of a new knock. */
  compose(request: Partial<Request> = {}, key: Key = this.keys[0].key, window = this.window(key)): number[] {
    return knockOf(key, 1, window, { ...requestOf(++this.#salt), ...request })
  }

  /** A new knock in one datagram. */
  composeDatagram(request: Partial<Request> = {}, key: Key = this.keys[0].key, window = this.window(key)): Uint8Array {
    return composeDatagram(key, window, { ...requestOf(++this.#salt), ...request })
  }

  /** One datagram; then waits for all that it causes. */
  async datagram(payload: Uint8Array, { source = USER, destination = SERVER, port = 53, after = 0.1 } = {}): Promise<void> {
    this.wall += after
    this.steady += after
    this.daemon.hear({ source, destination, port, payload })
    await this.settled()
  }

  /** An honest knock; returns whether it opened. */
  async knock({ source = USER, key = this.keys[0].key, request = {} as Partial<Request> } = {}): Promise<boolean> {
    const before = this.openings.length
    await this.taps(this.compose(request, key), { source })
    await this.pass(200)
    return this.openings.length > before
  }

  /** Whether a rule of the kernel lets an address in: its own clock ends it, daemon or no daemon. */
  isOpen(address = USER, port = 22): boolean {
    return [...this.rules].some(
      (rule) =>
        'port' in rule &&
        rule.address === address &&
        rule.port === port &&
        (rule.until === null || rule.until * 1000 > this.wall),
    )
  }

  /** How often each refusal, and "accepted", has been logged. */
  said(since = 0): Record<string, number> {
    const said: Record<string, number> = {}
    for (const { msg, refusal } of this.log.slice(since)) {
      const what = String(refusal ?? msg)
      said[what] = (said[what] ?? 0) + 1
    }
    return said
  }
}
