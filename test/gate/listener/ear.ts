import type { Knock } from '../../../src/gate/knock'
import { Listener } from '../../../src/gate/listener/listener'
import { deriveKey, type Key } from '../../../src/protocol/key'
import { compose, PARITY } from '../../../src/protocol/knock'
import { DEFAULT_POOL, parsePool } from '../../../src/protocol/pool'
import type { Request } from '../../../src/protocol/request'

/** A window, and the Unix time (seconds) of its middle, where the windows beside it are 15 s away. */
export const WINDOW = 59_000_000
export const MIDDLE = (WINDOW + 0.5) * 30

export const SOURCE = '198.51.100.2'
export const OTHER = '198.51.100.3'

export const POOL = parsePool(DEFAULT_POOL)

/** The nth key of a daemon. */
export function keyOf(n: number, period = 30): Key {
  const secret = new Uint8Array(32)
  new DataView(secret.buffer).setUint32(0, n)
  return deriveKey({ secret, server: 'door.example', period, pool: POOL })
}

/** The nth request: the same as any other but for its salt. */
export function requestOf(n: number): Request {
  return { action: 'open', protocol: 'tcp', once: false, salt: n, port: 22, seconds: 60, address: '0.0.0.0' }
}

/** The ports of the nth knock of a key in a window. */
export function knockOf(key: Key, n = 1, window = WINDOW, request = requestOf(n), parity = PARITY): number[] {
  return compose(key, window, request, parity)
}

/** A real listener with clocks of its own: taps arrive, time passes, knocks are collected. */
export class Ear {
  readonly listener: Listener
  readonly knocks: Knock[] = []
  wall: number
  steady = 1_000_000

  constructor(keys: Key[], { skew = 1, seconds = MIDDLE, seed = 1, datagrams = false } = {}) {
    this.wall = seconds * 1000
    this.listener = new Listener(skew, seededRandom(seed), datagrams)
    this.listener.setKeys(keys)
    while (!this.listener.prepare(this.now)) {}
  }

  get now() {
    return { wall: this.wall, steady: this.steady }
  }

  get timely(): Knock[] {
    return this.knocks.filter(({ arrival }) => arrival === 'timely')
  }

  /** One tap, `after` milliseconds later than the last. */
  tap(port: number, { source = SOURCE, destination = '198.51.100.1', after = 0.1 } = {}): void {
    this.pass(after)
    this.knocks.push(...this.listener.hear({ source, destination, port }, this.now))
  }

  /** A datagram, `after` milliseconds later than the last tap; returns the knocks that it was. */
  datagram(payload: Uint8Array, { source = SOURCE, destination = '198.51.100.1', port = 53, after = 0.1 } = {}): Knock[] {
    this.pass(after)
    const knocks = this.listener.hear({ source, destination, port, payload }, this.now)
    this.knocks.push(...knocks)
    return knocks
  }

  /** Taps on one port after the other. */
  taps(ports: Iterable<number>, how: Parameters<Ear['tap']>[1] = {}): void {
    for (const port of ports) this.tap(port, how)
  }

  /** The salts of the knocks that were opened: they tell the knocks of {@link requestOf} apart. */
  get salts(): number[] {
    return this.knocks.map(({ request }) => request.salt)
  }

  /** Time passes without a tap, and the listener is asked for what is due every 10 ms, as the daemon does. */
  wait(milliseconds: number): void {
    for (let passed = 0; passed < milliseconds; passed += 10) {
      this.pass(10)
      this.due()
    }
  }

  due(): void {
    this.knocks.push(...this.listener.due(this.now))
  }

  pass(milliseconds: number): void {
    this.wall += milliseconds
    this.steady += milliseconds
  }
}

/** Numbers from 0 to 1 that are the same in every run (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/** The items in another order, the same in every run. */
export function shuffled<T>(items: readonly T[], random: () => number): T[] {
  return items
    .map((item) => [random(), item] as const)
    .sort(([a], [b]) => a - b)
    .map(([, item]) => item)
}
