import { describe, expect, it } from 'vitest'
import { parseEntry } from '../../../src/daemon/fleet/rows'
import { type Fellow, Fellows, FLEET, isOpen, KEY, leasesOf, ordered, ROW, rowIn, untils } from './fellows'

/* What is shared while etcd is away, answers are lost, or gateways end and start: whole daemons over an etcd in memory. */

/** Breaks the watch of a gateway, and has it look at all rows. */
async function looksAgain(one: Fellow): Promise<void> {
  one.twin.cut()
  one.twin.isSilent = false
  await one.follow()
}

/** What one opens is written, with the answer held up, and closed by the other; the first hears of neither. */
async function writtenAndClosed(one: Fellow, other: Fellow, fleet: Fellows): Promise<void> {
  one.twin.isSilent = true
  one.twin.plan(null, 'held')
  await fleet.knock(one, { seconds: 600 })
  one.twin.held[0].perform()
  await fleet.settled()
  await ordered(other)
  await fleet.settled()
}

describe('a look at all rows', () => {
  it('closes what has none, also after a restart', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one, { seconds: 600 })
    await other.end()
    await ordered(one)
    await fleet.settled()
    const before = other.world.isOpen()
    await other.restart()
    await fleet.settled()
    expect([before, isOpen(one, other)]).toEqual([true, [false, false]])
  })

  it('keeps what waits to be written, and has it written', async () => {
    const [one, other, fleet] = await Fellows.two()
    one.twin.plan('full')
    await fleet.knock(one)
    await one.follow()
    expect(isOpen(one, other)).toEqual([true, false])
    await fleet.pass(2_000)
    expect(isOpen(one, other)).toEqual([true, true])
  })

  it('closes what was written, for all that is known, and is not there', async () => {
    const [one, other, fleet] = await Fellows.two()
    // A lease of etcd, and then the row: it is written, closed elsewhere, and nobody here hears of either.
    one.twin.isSilent = true
    one.twin.plan(null, 'lost after')
    await fleet.knock(one, { seconds: 600 })
    await ordered(other)
    await fleet.settled()
    await looksAgain(one)
    await fleet.pass(2_000)
    expect([isOpen(one, other), fleet.rows()]).toEqual([[false, false], []])
  })

  it('waits for an answer that is under way, which says that it was written and is gone again', async () => {
    const [one, other, fleet] = await Fellows.two()
    await writtenAndClosed(one, other, fleet)
    await looksAgain(one)
    // Nobody else is there who would take the row away again.
    await other.end()
    const before = isOpen(one)
    one.twin.release()
    await fleet.pass(2_000)
    expect([before, isOpen(one), fleet.rows()]).toEqual([[true], [false], []])
  })

  it('waits for an answer that is under way, and closes where none comes', async () => {
    const [one, other, fleet] = await Fellows.two()
    await writtenAndClosed(one, other, fleet)
    await other.end()
    await looksAgain(one)
    const before = isOpen(one)
    one.twin.held[0].giveUp()
    await fleet.pass(2_000)
    expect([before, isOpen(one), fleet.rows()]).toEqual([[true], [false], []])
  })

  it('closes what was written at a second try, and is gone again', async () => {
    const [one, other, fleet] = await Fellows.two()
    one.twin.isSilent = true
    one.twin.plan(null, 'twice')
    await fleet.knock(one, { seconds: 600 })
    await ordered(other)
    await fleet.settled()
    await other.end()
    await looksAgain(one)
    await fleet.pass(2_000)
    expect([isOpen(one), fleet.rows()]).toEqual([[false], []])
  })

  it('closes what was closed meanwhile and opened anew for a shorter time, and opens that', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one, { seconds: 600 })
    other.cutOff()
    await ordered(one)
    await fleet.knock(one, { seconds: 20 })
    await other.back()
    await fleet.settled()
    expect(untils(other)).toEqual(untils(one))
    await fleet.pass(21_500)
    expect(isOpen(one, other)).toEqual([false, false])
  })

  it('remembers what was closed meanwhile, also where it was never open here', async () => {
    const [one, other, fleet] = await Fellows.two()
    other.refusal = 'the clocks differ'
    await fleet.knock(one, { seconds: 600 })
    const { value = '' } = rowIn(fleet) ?? {}
    other.cutOff()
    await ordered(one)
    await fleet.settled()
    await one.end()
    await other.back()
    other.refusal = null
    await fleet.write(ROW, value)
    await fleet.pass(2_000)
    expect([isOpen(other), fleet.rows()]).toEqual([[false], []])
  })

  it('of an etcd that is brand-new closes all that was shared', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one)
    fleet.store.restore()
    for (const fellow of [one, other]) await fellow.follow()
    await fleet.settled()
    expect(isOpen(one, other)).toEqual([false, false])
  })

  it('does not close what nobody else can have', async () => {
    const [one, , fleet] = await Fellows.two()
    await fleet.knock(one, { once: true })
    await fleet.knock(one, {}, '127.0.0.1')
    await one.follow()
    await fleet.settled()
    expect(leasesOf(one).length).toBe(2)
  })
})

describe('an etcd that was restored', () => {
  it('opens nothing that was closed since its snapshot', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one, { seconds: 600 })
    const snapshot = fleet.store.snapshot()
    await ordered(one)
    await fleet.settled()
    fleet.store.restore(snapshot)
    // One that was there remembers; one that has started since goes by the base, which is a later one now.
    await one.end()
    other.refusal = 'etcd was restored'
    await other.restart()
    await fleet.pass(2_000)
    other.refusal = null
    other.base = { ...(other.base as object), epoch: 2 } as typeof other.base
    await other.follow()
    await fleet.pass(5_000)
    expect(isOpen(one, other)).toEqual([false, false])
  })

  it('closes nothing that it still has, and is told of it by the later base', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one, { seconds: 600 })
    fleet.store.restore(fleet.store.snapshot())
    for (const fellow of [one, other]) {
      fellow.base = { ...(fellow.base as object), epoch: 2 } as typeof fellow.base
      await fellow.follow()
    }
    await fleet.pass(2_000)
    const { value = '' } = rowIn(fleet) ?? {}
    expect(isOpen(one, other)).toEqual([true, true])
    expect(parseEntry(ROW, value, FLEET, KEY)).toMatchObject({ epoch: 2, gateway: 'gw1' })
  })
})

describe('what can’t be written', () => {
  it.each(['lost before', 'lost after', 'twice', 'timeout', 'full', 'unreachable'] as const)(
    'at first (%s) is written later, once, and is open at all',
    async (fault) => {
      const [one, other, fleet] = await Fellows.two()
      one.twin.plan(null, fault)
      await fleet.knock(one)
      await fleet.pass(3_000)
      expect([isOpen(one, other), fleet.rows()]).toEqual([[true, true], [ROW]])
      expect(leasesOf(other)).toEqual(leasesOf(one))
    },
  )

  it.each(['lost before', 'lost after', 'twice', 'timeout', 'full', 'unreachable'] as const)(
    'of a close at first (%s) is closed later',
    async (fault) => {
      const [one, other, fleet] = await Fellows.two()
      await fleet.knock(one, { seconds: 600 })
      other.twin.plan(fault)
      await ordered(other)
      await fleet.pass(3_000)
      expect([isOpen(one, other), fleet.rows()]).toEqual([[false, false], []])
    },
  )

  it('and is closed before that is over leaves nothing behind', async () => {
    const [one, other, fleet] = await Fellows.two()
    one.twin.plan(null, 'held')
    await fleet.knock(one, { seconds: 600 })
    await ordered(one)
    await fleet.settled()
    one.twin.release()
    await fleet.pass(3_000)
    expect([isOpen(one, other), fleet.rows()]).toEqual([[false, false], []])
  })

  it('because somebody else was first writes over nobody', async () => {
    const [one, other, fleet] = await Fellows.two()
    one.twin.plan(null, 'held')
    await fleet.knock(one, { seconds: 60 })
    await fleet.knock(other, { seconds: 600 })
    one.twin.release()
    await fleet.pass(2_000)
    expect([untils(one), other.said('closed for the fleet')]).toEqual([untils(other), []])
    expect((untils(one)[0][0] ?? 0) - one.world.wall / 1000).toBeGreaterThan(590)
  })

  it('before it is made longer is written as it is then, and etcd keeps it as long', async () => {
    const [one, other, fleet] = await Fellows.two()
    one.twin.plan('held')
    await fleet.knock(one, { seconds: 10 })
    await fleet.knock(one, { seconds: 60 })
    one.twin.release()
    await fleet.pass(20_000)
    expect([isOpen(one, other), fleet.rows(), one.said('internal error, please report')]).toEqual([[true, true], [ROW], []])
  })

  it('of a lease that is made longer at its very end stays open, though etcd lets go of its row', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one, { seconds: 10 })
    await fleet.pass(9_500)
    one.twin.plan(null, 'held')
    await fleet.knock(one, { seconds: 60 })
    await fleet.pass(3_000)
    const before = [isOpen(one), fleet.rows()]
    one.twin.release()
    await fleet.pass(3_000)
    expect([before, isOpen(one, other)]).toEqual([
      [[true], []],
      [true, true],
    ])
  })

  it('before it is closed is not written', async () => {
    const [one, other, fleet] = await Fellows.two()
    one.twin.plan('held')
    await fleet.knock(one)
    await ordered(one)
    one.twin.release()
    await fleet.pass(1_000)
    expect([isOpen(one, other), one.said('internal error, please report')]).toEqual([[false, false], []])
    expect(one.twin.asked).toEqual([])
  })

  it('for all that is known, and is closed here, is taken away, also before the watch tells of it', async () => {
    const [one, , fleet] = await Fellows.two()
    one.twin.isSilent = true
    one.twin.plan(null, 'lost after')
    await fleet.knock(one)
    await ordered(one)
    await fleet.settled()
    expect(fleet.rows()).toEqual([])
  })

  it('is said once, and not each time that it fails', async () => {
    const [one, , fleet] = await Fellows.two()
    one.cutOff()
    await fleet.knock(one, { seconds: 600 })
    await fleet.pass(30_000)
    expect(one.said('cannot share with the fleet: trying again').length).toBe(1)
  })
})

describe('who ends', () => {
  it('ends nothing elsewhere', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one, { seconds: 600 })
    await one.end()
    await one.world.settled()
    one.world.kill()
    await fleet.settled()
    expect([isOpen(other), fleet.rows()]).toEqual([[true], [ROW]])
  })

  it('tells nothing more', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one, { seconds: 600 })
    await one.end()
    await ordered(one)
    await fleet.pass(2_000)
    expect([isOpen(one, other), fleet.rows()]).toEqual([[false, true], [ROW]])
  })
})

describe('who opens nothing right now', () => {
  it('takes no lease over, and does when that is over', async () => {
    const [one, other, fleet] = await Fellows.two()
    other.refusal = 'the watch is 12 s old'
    await fleet.knock(one, { seconds: 60 })
    await fleet.pass(10_000)
    const before = isOpen(one, other)
    other.refusal = null
    await fleet.pass(9_000)
    expect([before, isOpen(one, other)]).toEqual([
      [true, false],
      [true, true],
    ])
    await fleet.pass(42_500)
    expect(isOpen(one, other)).toEqual([false, false])
  })

  it('closes all the same', async () => {
    const [one, other, fleet] = await Fellows.two()
    await fleet.knock(one)
    other.refusal = 'the clocks differ'
    await ordered(one)
    await fleet.settled()
    expect(isOpen(other)).toEqual([false])
  })
})
