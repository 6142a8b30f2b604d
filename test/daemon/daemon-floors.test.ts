import { expect, it } from 'vitest'
import { World } from '../replay/world'

const HOUR = 3_600_000

/** What a daemon says at its start of a floor that was set when the clock was ahead by so much: of its ledger's base, or of a key's own. */
async function told(by: number, floor: 'base' | 'own') {
  const world = await World.begin()
  world.wall += by
  if (floor === 'own') {
    await world.pass(1_000)
    await world.knock()
  } else {
    world.kill()
    world.disk.delete()
    await world.start()
  }
  world.kill()
  world.wall -= by
  const since = world.log.length
  await world.start()
  return world.log.slice(since).flatMap(({ level, msg }) => (String(msg).includes('ahead of the clock') ? [level] : []))
}

it.each(['base', 'own'] as const)('a floor that is ahead by more than an hour at the start is an error (%s)', async (floor) => {
  expect(await told(HOUR + 120_000, floor)).toEqual([50])
})

it.each(['base', 'own'] as const)('a floor that is ahead by less at the start is a warning (%s)', async (floor) => {
  expect(await told(HOUR / 2, floor)).toEqual([40])
})
