import { setTimeout as sleep } from 'node:timers/promises'
import type { Host } from './host'

/** Milliseconds between two tries: 200 a second. */
const PACE = 5
/** Milliseconds after which a try has met silence; sooner than a SYN is sent again, so that each try stands for one moment. */
const PATIENCE = 400

/**
 * Has a host try a TCP port all the time, 200 times a second.
 * @returns what ends it and gives what was seen, each answer with how often
 */
export function besiege(host: Host, address: string, port: number) {
  const seen: Record<string, number> = {}
  let isOver = false
  const tries: Promise<void>[] = []
  const attack = (async () => {
    while (!isOver) {
      const answered = host.connect(address, port, PATIENCE).then(({ saw }) => {
        seen[saw] = (seen[saw] ?? 0) + 1
      })
      tries.push(answered)
      await sleep(PACE)
    }
    await Promise.all(tries)
  })()
  return {
    /** What was seen so far. */
    seen,
    end: async () => {
      isOver = true
      await attack
      return seen
    },
  }
}
