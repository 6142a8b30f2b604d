import { expect, it } from 'vitest'
import { serverKey, USER, World } from '../replay/world'

/** A lock by one datagram, and what is refused of the datagrams that come after it. */
async function locked() {
  const world = await World.begin({ keys: [serverKey(1, { lock: true })] })
  const lock = world.composeDatagram({ action: 'lock', port: 0, seconds: 600 })
  await world.datagram(lock)
  const refusals = () => world.log.filter(({ refusal }) => refusal).map(({ refusal, source }) => [refusal, source])
  return { world, lock, refusals }
}

it('a lock by a datagram is not said to have refused its own second pass', async () => {
  const { world, lock, refusals } = await locked()
  await world.datagram(lock)
  expect(refusals()).toEqual([])
})

it('a lock by a datagram is said to have refused another datagram', async () => {
  const { world, refusals } = await locked()
  await world.datagram(world.composeDatagram())
  expect(refusals()).toEqual([['locked', USER]])
})
