import { expect, it } from 'vitest'
import { serverKey, USER, World } from '../replay/world'

/* What the log says of a door, by what has become of it in the firewall. */

const begin = () => World.begin({ keys: [serverKey(1), serverKey(2)] })

const OTHER = '203.0.113.9'

/** What was said of a knock of the first key. */
const said = ({ log, keys }: World, action: string) =>
  log
    .filter((line) => line.key === keys[0].id && line.action === action)
    .map(({ level, msg, reason }) => ({ level, msg, reason }))

it('a door is said to be open when the firewall has followed, and not before', async () => {
  const world = await begin()
  const release = world.hold()
  await world.tapped(world.compose())
  const before = said(world, 'open')
  release()
  await world.settled()
  expect([before, said(world, 'open')]).toEqual([[], [{ level: 30, msg: 'accepted' }]])
})

it('a door is said to be shut when the firewall has followed, and not before', async () => {
  const world = await begin()
  await world.taps(world.compose())
  const release = world.hold()
  await world.tapped(world.compose({ action: 'close', port: 0 }))
  const before = said(world, 'close')
  release()
  await world.settled()
  expect([before, said(world, 'close')]).toEqual([[], [{ level: 30, msg: 'accepted' }]])
})

it('a knock to close that closes nothing is said with the leases that its key has for other addresses', async () => {
  const world = await begin()
  const close = async (source: string, port = 0) => {
    await world.taps(world.compose({ action: 'close', port }), { source })
    return world.log.at(-1)
  }
  await world.taps(world.compose())
  await world.taps(world.compose({}, world.keys[1].key))
  expect(await close(OTHER)).toMatchObject({ msg: 'accepted', leases: [], elsewhere: 1 })
  expect(await close(USER)).not.toHaveProperty('elsewhere')
  expect(await close(OTHER)).toMatchObject({ leases: [], elsewhere: 0 })
})

it('a door that is closed while another one is opened is said to have been closed before it was open', async () => {
  const world = await begin()
  const release = world.hold()
  await world.tapped(world.compose({}, world.keys[1].key), { source: OTHER })
  await world.tapped(world.compose())
  await world.tapped(world.compose({ action: 'close', port: 0 }))
  release()
  await world.settled()
  expect(said(world, 'open')).toEqual([{ level: 30, msg: 'closed before it was open' }])
})

it('a door that the firewall does not open is an error with what it said', async () => {
  const world = await begin()
  world.fault = () => {
    throw new Error('the lock is held')
  }
  await world.taps(world.compose())
  expect(said(world, 'open')).toEqual([{ level: 50, msg: 'cannot change the firewall rules', reason: 'the lock is held' }])
})

it('a door that the firewall does not shut is an error with what it said', async () => {
  const world = await begin()
  await world.taps(world.compose())
  world.fault = () => {
    throw new Error('the lock is held')
  }
  await world.taps(world.compose({ action: 'close', port: 0 }))
  expect([world.isOpen(USER), said(world, 'close')]).toEqual([
    true,
    [{ level: 50, msg: 'cannot change the firewall rules', reason: 'the lock is held' }],
  ])
})

it('of a key that is revoked in the middle of its knock nothing opens, and the knock is refused', async () => {
  const world = await begin()
  world.disk.slow = true
  await world.tapped(world.compose())
  await world.setKeys([{ ...world.keys[0], revoked: 0 }, world.keys[1]])
  world.disk.slow = false
  world.disk.sync()
  await world.settled()
  expect([world.isOpen(), world.said()]).toEqual([false, { revoked: 1 }])
})
