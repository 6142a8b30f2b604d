import { join } from 'node:path'
import type { Host } from '../lab/host'
import { ROOT } from '../root'

const STOPWATCH = join(ROOT, 'test/bench/stopwatch.mjs')

export type Hand = ReturnType<typeof makeHand>

/** A process in a host's namespace that does and times what it is asked to; it ends with the lab. */
export function makeHand(host: Host) {
  const stopwatch = host.agent(STOPWATCH)
  return {
    /** Answers datagrams on ports. */
    serve: (first: number, count: number): Promise<void> => stopwatch.ask('serve', first, count),
    /**
     * Sends datagrams to a port until one is answered.
     * @param spacing milliseconds between two of them
     * @returns when that one was sent
     */
    opened: (address: string, port: number, spacing: number): Promise<number> => stopwatch.ask('opened', address, port, spacing),
    /** Runs a command to its end. */
    execute: (argv: string[]): Promise<{ began: number; ended: number }> => stopwatch.ask('execute', argv),
    /** Sends SYNs to ports. @returns the moment just before the first */
    touch: (address: string, ports: number[]): Promise<number> => stopwatch.ask('touch', address, ports),
  }
}
