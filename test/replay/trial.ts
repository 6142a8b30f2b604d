import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Backend, chooseBackend, chooseGuard, usualBackend } from '../lab/backend'
import { type Attack, holds, type Kind } from './attack'

const scale = { isLong: false, times: (full: number) => full }

/**
 * Makes the tests that the attacks of a kind open nothing. Each kind has its file, so that the kinds run side by side.
 * @param where they are tried, after the kind's name
 * @param backend of the servers there
 * @param isGuarded whether a guard shuts their ports: always with nftables
 */
export const testing =
  (attacks: readonly Attack[], where: string, backend: Backend = usualBackend(), isGuarded = false) =>
  (kind: Kind): void => {
    /** Attacks that have opened something: another attempt does not undo that. */
    const successful = new Set<string>()
    const own = attacks.filter((attack) => attack.kind === kind)
    describe(`${kind}, ${where}:`, () => {
      const usual = usualBackend()
      beforeAll(() => {
        chooseBackend(backend)
        chooseGuard(isGuarded)
      })
      afterAll(() => {
        chooseBackend(usual)
        chooseGuard(false)
      })
      it.each(own.map(({ name, run }) => [name, run] as const))('%s: opens nothing', async (name, run) => {
        const outcome = await run(scale)
        if (outcome.opened > 0) successful.add(name)
        expect([...successful]).not.toContain(name)
        expect(outcome.tried).toBeGreaterThan(0)
        expect(outcome, JSON.stringify(outcome)).toSatisfy(holds)
      })
    })
  }
