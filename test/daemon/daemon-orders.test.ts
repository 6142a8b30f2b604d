import { describe, expect, it } from 'vitest'
import { serverKey, USER, World } from '../replay/world'

/* What a daemon does by an administrator's order, and what it remembers of knocks. */

const OTHER = '203.0.113.9'

const begin = () => World.begin({ keys: [serverKey(1, { lock: true }), serverKey(2)] })
const ports = ({ rules }: World) => [...rules].flatMap((rule) => ('port' in rule ? [`${rule.key} ${rule.address}`] : []))

/** Two keys, each with a door of its own. */
async function open(): Promise<World> {
  const world = await begin()
  await world.taps(world.compose())
  await world.taps(world.compose({}, world.keys[1].key), { source: OTHER })
  return world
}

describe('an order to close', () => {
  it('closes what is named, and nothing else', async () => {
    const world = await open()
    const { ended, failed } = await world.daemon.closeNamed({ key: 'user1' })
    expect([ended.map(({ key }) => key), failed, ports(world)]).toEqual([['user1'], undefined, [`user2 ${OTHER}`]])
  })

  it('that names nothing closes nothing', async () => {
    const world = await open()
    expect([await world.daemon.closeNamed({}), ports(world).length]).toEqual([{ ended: [] }, 2])
  })

  it('is answered when the firewall has followed, and not before', async () => {
    const world = await open()
    const release = world.hold()
    let isAnswered = false
    const answered = world.daemon.closeNamed({ address: USER }).then(() => {
      isAnswered = true
    })
    await new Promise((resolve) => setTimeout(resolve, 20))
    const before = isAnswered
    release()
    await answered
    expect([before, ports(world)]).toEqual([false, [`user2 ${OTHER}`]])
  })

  it('says what the firewall did not do', async () => {
    const world = await open()
    world.fault = () => {
      throw new Error('the lock is held')
    }
    expect(await world.daemon.closeNamed({ key: 'user1' })).toEqual({ ended: [], failed: 'the lock is held' })
  })

  it('is in the log, with what it has named and how many leases it has ended', async () => {
    const world = await open()
    await world.daemon.closeNamed({ address: USER })
    expect(world.log.filter(({ order }) => order)).toMatchObject([
      { level: 30, msg: 'carried out an order', order: 'close', address: USER, ended: 1 },
    ])
  })

  it('of which a lease was opened by a knock does not keep that key from knocking again', async () => {
    const world = await open()
    await world.daemon.closeNamed({ key: 'user1' })
    await world.taps(world.compose())
    expect(ports(world)).toContain(`user1 ${USER}`)
  })
})

describe('an order to unlock', () => {
  it('has an address heard again', async () => {
    const world = await begin()
    await world.taps(world.compose({ action: 'lock', port: 0, seconds: 600 }))
    await world.taps(world.compose())
    const before = ports(world)
    const { ended } = await world.daemon.unlock(USER)
    await world.taps(world.compose())
    expect([before, ended.map(({ address }) => address), ports(world)]).toEqual([[], [USER], [`user1 ${USER}`]])
  })

  it('of an address that is not locked does nothing', async () => {
    const world = await begin()
    expect(await world.daemon.unlock(USER)).toEqual({ ended: [] })
  })

  it('leaves other addresses locked', async () => {
    const world = await begin()
    await world.taps(world.compose({ action: 'lock', port: 0, seconds: 600 }))
    await world.daemon.unlock(OTHER)
    await world.taps(world.compose())
    expect(ports(world)).toEqual([])
  })
})

describe('of knocks it is remembered', () => {
  it('which key was used last, from where, and when', async () => {
    const world = await begin()
    await world.taps(world.compose())
    const { fingerprint } = world.keys[0]
    expect(world.chronicle.lastUse(fingerprint)).toMatchObject({ source: USER, action: 'open', windowsOff: 0 })
    expect(world.chronicle.lastKnock).toMatchObject({ key: 'user1', source: USER, outcome: 'accepted' })
  })

  it('by how many windows the sender’s clock is off', async () => {
    const world = await begin()
    const late = world.compose()
    await world.pass(world.keys[0].key.period * 1000)
    await world.taps(late)
    expect(world.chronicle.lastUse(world.keys[0].fingerprint)?.windowsOff).toBe(-1)
  })

  it('that one was played again, which is no use of its key', async () => {
    const world = await begin()
    const knock = world.compose()
    await world.taps(knock)
    const use = world.chronicle.lastUse(world.keys[0].fingerprint)
    await world.pass(5_000)
    await world.taps(knock, { source: OTHER })
    expect(world.chronicle.lastUse(world.keys[0].fingerprint)).toBe(use)
    expect(world.chronicle.day(world.wall)).toMatchObject({ accepted: 1, refused: { replayed: 1 } })
  })

  it('when a lease was opened', async () => {
    const world = await begin()
    await world.taps(world.compose())
    expect(world.openings.map(({ lease }) => world.chronicle.openedAt(lease))).toEqual([expect.any(Number)])
  })

  it('nothing of one that the firewall did not open', async () => {
    const world = await begin()
    world.fault = () => {
      throw new Error('the lock is held')
    }
    await world.taps(world.compose())
    expect([world.chronicle.lastKnock, world.chronicle.day(world.wall).accepted]).toEqual([null, 0])
  })
})
