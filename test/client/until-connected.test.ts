import { expect, it, vi } from 'vitest'
import { Attempts } from '../../src/client/attempts'
import { prepare } from '../../src/client/client'
import { passPause } from '../../src/client/passes'
import type { Sending } from '../../src/client/sending'
import { knockUntilConnected } from '../../src/client/until-connected'
import { keyOf } from '../gate/listener/ear'

const sending: Sending = {
  ...{ key: keyOf(1), parity: undefined, udp: true, pace: 0, passes: 2, timeOffset: 0, random: Math.random },
  request: { action: 'open', protocol: 'tcp', once: true, port: 1, seconds: 30, address: '0.0.0.0' },
}

it('a knock for a connection is not sent once more as its time is up', async () => {
  const passes = Array.from({ length: 40 }, async () => {
    const told: number[] = []
    // Shorter than the pause behind the first pass.
    await knockUntilConnected(sending, '127.0.0.1', prepare(sending, Date.now()), 1, 200.5, (pass) => told.push(pass))
    return told
  })
  expect(await Promise.all(passes)).toEqual(passes.map(() => [1]))
})

it('attempts to connect do not catch up after a time in which nothing could be done', async () => {
  const begun: number[] = []
  const begin = vi.spyOn(Attempts.prototype, 'begin').mockImplementation(() => {
    begun.push(performance.now())
    // Behind the third, the time of a dozen others.
    if (begun.length === 3) while (performance.now() - (begun.at(-1) ?? 0) < 200);
  })
  await knockUntilConnected(sending, '127.0.0.1', prepare(sending, Date.now()), 1, 400, () => {})
  begin.mockRestore()
  const pauses = begun.slice(1).map((at, i) => at - begun[i])
  expect(Math.min(...pauses)).toBeGreaterThan(8)
})

it('a knock for a connection is said less and less often', async () => {
  // A port that neither answers nor refuses.
  const begin = vi.spyOn(Attempts.prototype, 'begin').mockImplementation(() => {})
  const told: number[] = []
  const soon = { ...sending, random: () => 0 }
  await knockUntilConnected(soon, '127.0.0.1', prepare(soon, Date.now()), 1, 2_900, (pass) => told.push(pass))
  begin.mockRestore()
  // With the pauses as they are at first, it would be six in this time.
  expect(told.length).toBeLessThan(6)
})

it.each([
  ['half a second', 0, [500, 500, 500, 1_000, 2_000, 4_000, 4_000]],
  ['one and a half', 1, [1_500, 1_500, 1_500, 3_000, 6_000, 12_000, 12_000]],
])('the pauses behind passes grow, from %s', (_, random, pauses) => {
  expect([1, 2, 3, 4, 5, 6, 1_000].map((pass) => passPause({ random: () => random }, pass))).toEqual(pauses)
})
