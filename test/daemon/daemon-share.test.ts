import { describe, expect, it } from 'vitest'
import { MAX_KEY_LOCKS } from '../../src/gate/leases'
import { REFUSAL_RATE, REFUSALS, SHARE, SHARE_RATE } from '../../src/gate/share'
import type { Request } from '../../src/protocol/request'
import { serverKey, World } from '../replay/world'

/** Milliseconds between two knocks: as many as the daemon decodes of one key. */
const PAUSE = 5
/** Knocks of a key that asks for more than its share. */
const MANY = 400
const SECONDS = (MANY * PAUSE) / 1_000

/** A key's holder says knock after knock, from so many addresses in turn. */
async function greedy(request: Partial<Request>, addresses = MANY): Promise<World> {
  const world = await World.begin({ keys: [serverKey(1, { lock: true })] })
  for (let n = 0; n < MANY; n++) {
    const source = `203.0.${(n % addresses) >> 8}.${(n % addresses) & 255}`
    await world.datagram(world.composeDatagram(request), { source, after: PAUSE })
  }
  return world
}

const of = (world: World, msg: string) => world.log.filter((line) => line.msg === msg)

describe('of what a key asks without end', () => {
  it.each<[string, Partial<Request>, number?]>([
    // For one connection each, so that they take each other's place and not all the room.
    ['openings', { once: true }, 64],
    ['closes', { action: 'close', port: 0 }],
  ])('256 %s are accepted at once and 8 a second, and the others are refused with the reason', async (_, request, addresses) => {
    const world = await greedy(request, addresses)
    const accepted = of(world, 'accepted').length
    expect(Math.abs(accepted - SHARE - SHARE_RATE * SECONDS)).toBeLessThan(2)
    const refused = of(world, 'refused')
    expect(new Set(refused.map(({ refusal, reason }) => `${refusal}: ${reason}`))).toEqual(
      new Set(["not-granted: the key's share is used up"]),
    )
  })

  it('256 locks are accepted, and of the others no more than 8 a second come to the question whether there is room', async () => {
    const world = await greedy({ action: 'lock', port: 0, seconds: 60 })
    expect(of(world, 'accepted').length).toBe(MAX_KEY_LOCKS)
    const reasons = new Set(of(world, 'refused').map(({ reason }) => reason))
    expect(reasons).toEqual(new Set(["the key's share is used up", 'too many locks are in force']))
  })
})

describe('of the refusals of a key without end', () => {
  it('60 have a line at once and one a second', async () => {
    const world = await greedy({ port: 1 })
    expect(Math.abs(of(world, 'refused').length - REFUSALS - REFUSAL_RATE * SECONDS)).toBeLessThan(2)
  })

  it('the others are counted, in one line a minute', async () => {
    const world = await greedy({ port: 1 })
    const said = of(world, 'refused').length
    await world.pass(59_000)
    await world.pass(10_000)
    const counts = of(world, 'too many refusals of this key: some were not logged').map(({ key, count }) => [key, count])
    expect(counts).toEqual([[world.keys[0].id, MANY - said]])
  })
})
