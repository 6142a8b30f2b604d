import { setTimeout as sleep } from 'node:timers/promises'

/** Milliseconds after which what has not come will not: many times what it takes, since a machine may be busy. */
export const PATIENCE = 20_000

/** Waits until something holds. @returns the milliseconds it took */
export async function until(holds: () => boolean | Promise<boolean>, what: string, timeoutMs = PATIENCE): Promise<number> {
  const began = performance.now()
  while (!(await holds())) {
    if (performance.now() - began > timeoutMs) throw new Error(`not within ${timeoutMs} ms: ${what}`)
    await sleep(10)
  }
  return performance.now() - began
}
