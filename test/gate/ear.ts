import { type Knock, Listener } from '../../src/gate/listener'
import type { Key } from '../../src/protocol/key'

/** A real listener with clocks of its own: taps arrive, time passes, knocks are collected. */
export class Ear {
  readonly listener: Listener
  readonly knocks: Knock[] = []
  wall: number
  steady = 1_000_000

  constructor(keys: Key[], { skew = 1, seconds, seed = 1 }: { skew?: number; seconds: number; seed?: number }) {
    this.wall = seconds * 1000
    this.listener = new Listener(skew, seededRandom(seed))
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
  tap(port: number, { source = '198.51.100.2', destination = '198.51.100.1', after = 0.1 } = {}): void {
    this.pass(after)
    this.knocks.push(...this.listener.hear({ source, destination, port }, this.now))
  }

  /** Time passes without a tap, and the listener is asked for what is due every 10 ms, as the daemon does. */
  wait(milliseconds: number): void {
    for (let passed = 0; passed < milliseconds; passed += 10) {
      this.pass(10)
      this.knocks.push(...this.listener.due(this.now))
    }
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
