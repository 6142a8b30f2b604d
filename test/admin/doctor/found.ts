import { expect } from 'vitest'
import type { Check } from '../../../src/system/check'

export const verdicts = (checks: readonly Check[]) => checks.map(({ verdict }) => verdict)
export const first = (checks: readonly Check[]) => checks[0] as Check
/** A verdict that is not ok, with its evidence and remedy. */
export const found = (verdict: string, evidence: RegExp, remedy?: RegExp) => [
  expect.objectContaining({
    verdict,
    evidence: expect.stringMatching(evidence),
    ...(remedy ? { remedy: expect.stringMatching(remedy) } : {}),
  }),
]
