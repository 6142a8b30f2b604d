import { expect, it } from 'vitest'
import { knockUntilConnected, prepare, type Sending } from '../src/client'
import { keyOf } from './gate/ear'

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
