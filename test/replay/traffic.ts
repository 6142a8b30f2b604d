import { USER, type World } from './world'

/* Packets of several senders at the same time. */

/** A future tap, some milliseconds from now. */
export interface Coming {
  readonly at: number
  readonly source: string
  readonly port: number
}

/** Taps at a steady rate. */
export function stream(ports: readonly number[], { source = USER, from = 0, every = 0.1 } = {}): Coming[] {
  return ports.map((port, i) => ({ at: from + i * every, source, port }))
}

/** A knock as our client sends it: twice, 1 s ± 0.5 s apart; with --wait it sends it again. */
export function passes(world: World, ports: readonly number[], { source = USER, from = 0, times = 2 } = {}): Coming[] {
  const starts = [from]
  while (starts.length < times) starts.push((starts.at(-1) as number) + 500 + 1_000 * world.random())
  return starts.flatMap((start) => stream(ports, { source, from: start }))
}

/** Some of many, each once, in any order. */
export function anyOf(world: World, many: Iterable<number>, count = Infinity): number[] {
  const left = [...many]
  const most = Math.min(count, left.length)
  for (let i = 0; i < most; i++) {
    const j = i + Math.floor(world.random() * (left.length - i))
    ;[left[i], left[j]] = [left[j], left[i]]
  }
  return left.slice(0, most)
}

/** Sends the taps of all senders; meanwhile the daemon checks every 10 ms what is due, as it does by itself when it is busy. */
export async function play(world: World, ...senders: readonly Coming[][]): Promise<void> {
  const began = world.steady
  let looked = 0
  for (const { at, source, port } of senders.flat().sort((a, b) => a.at - b.at)) {
    for (; looked + 10 <= at; looked += 10) {
      advance(world, began + looked + 10 - world.steady)
      world.daemon.tick()
      await world.settled()
    }
    world.tap(port, { source, after: began + at - world.steady })
  }
  await world.settled()
  await world.pass(200)
}

function advance(world: World, milliseconds: number): void {
  world.wall += milliseconds
  world.steady += milliseconds
}
