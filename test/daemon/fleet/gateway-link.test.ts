import { describe, expect, it } from 'vitest'
import { BASE, baseFloor, formatBase, gatewayRow, leaseRow } from '../../../src/daemon/fleet/rows'
import { acceptedWindows } from '../../../src/gate/clock'
import { FLEET, Gateways, SERVER, settled } from './gateways'

const two = async () => {
  const fleet = new Gateways()
  const [a, b] = [fleet.add('gw1'), fleet.add('gw2')]
  await fleet.pass(3)
  return { fleet, a, b }
}

describe('a gateway that has begun', () => {
  it('opens nothing before its own beat has come back by the watch', async () => {
    const fleet = new Gateways()
    const a = fleet.add('gw1')
    expect(a.refused).toBe('unheard')
    a.twin.isSilent = true
    await fleet.pass(2)
    expect(a.refused).toBe('unheard')
    a.twin.speak()
    await settled()
    expect(a.refused).toBeNull()
  })

  it('listens to the others first, and no longer than two beats and a half where one does not speak', async () => {
    const fleet = new Gateways()
    const [a, b] = [fleet.add('gw1'), fleet.add('gw2')]
    await fleet.pass(2)
    await a.kill()
    await b.kill()
    fleet.at += 60_000
    const again = fleet.add('gw1', { memory: a.memory })
    await fleet.pass()
    expect(again.refused).toBe('begins')
    await fleet.pass(3)
    expect(again.refused).toBeNull()
  })

  it('hands on nothing that is shared before that, and all of it then', async () => {
    const fleet = new Gateways()
    const [a, b] = [fleet.add('gw1'), fleet.add('gw2')]
    await fleet.pass(2)
    await b.kill()
    const again = fleet.add('gw3')
    await fleet.pass()
    expect(again.fed).toEqual([])
    await fleet.pass(3)
    const [first] = again.fed as readonly (readonly { row: string }[])[]
    expect(first.map(({ row }) => row)).toEqual(expect.arrayContaining([BASE, gatewayRow('gw1'), gatewayRow('gw2')]))
    expect(a.refused).toBeNull()
  })

  it('goes on from the beat of the run before it', async () => {
    const { fleet, a } = await two()
    const before = a.link.standing.beats.taken
    const again = fleet.add('gw1', { memory: await a.kill() })
    await fleet.pass()
    expect(again.link.standing.beats.taken).toBe(before + 1)
  })
})

describe('what is heard of etcd', () => {
  it('is too old after ten seconds without a beat that comes back', async () => {
    const { fleet, a } = await two()
    a.twin.trouble = 'no-quorum'
    await fleet.pass(4)
    expect(a.refused).toBeNull()
    await fleet.pass(2)
    expect(a.refusal).toMatch(/^the watch is 1\d s old: etcd: no-quorum$/)
    a.twin.trouble = null
    await fleet.pass(2)
    expect(a.refusal).toBeNull()
  })

  it('is too old where beats are taken, and the watch is silent', async () => {
    const { fleet, a } = await two()
    a.twin.isSilent = true
    await fleet.pass(7)
    expect(a.link.standing.trouble).toBeNull()
    expect(a.refused).toBe('unheard')
  })

  it('is as old as the sending of the beat, not as its coming back', async () => {
    const { fleet, a } = await two()
    a.twin.isSilent = true
    await fleet.pass()
    fleet.at += 8_000
    a.twin.speak()
    await settled()
    expect(a.refused).toBeNull()
    fleet.at += 2_001
    expect(a.refused).toBe('unheard')
  })

  it('is heard again behind an answer that never came', async () => {
    const { fleet, a } = await two()
    a.twin.plan('lost after', 'lost before')
    await fleet.pass(4)
    expect(a.refusal).toBeNull()
    expect(a.link.standing.trouble).toBeNull()
    expect(fleet.base?.epoch).toBe(1)
  })

  it('is heard again where a beat was done twice', async () => {
    const { fleet, a } = await two()
    a.twin.plan('twice')
    await fleet.pass(2)
    expect(a.refusal).toBeNull()
    expect(a.refused).toBeNull()
  })
})

describe('another gateway of the same name', () => {
  it('does not begin while this one beats', async () => {
    const { fleet, a } = await two()
    const other = fleet.add('gw1')
    for (let i = 0; i < 6; i++) {
      await fleet.pass()
      expect(other.refused).toBe('name')
    }
    expect(a.refused).toBeNull()
  })

  it('has it open nothing, where it was begun with a copy of its memory', async () => {
    const { fleet, a } = await two()
    const copy = fleet.add('gw1', { memory: a.memory })
    await fleet.pass(3)
    expect([a.refused, copy.refused]).toEqual(['name', null])
  })

  it('gives the name free when it has been quiet for long', async () => {
    const { fleet, a } = await two()
    const copy = fleet.add('gw1', { memory: a.memory })
    await fleet.pass(3)
    await copy.kill()
    await fleet.pass(5)
    expect(a.refused).toBe('name')
    await fleet.pass(6)
    expect(a.refused).toBeNull()
  })
})

describe('an etcd that was restored', () => {
  it('is told by its revision', async () => {
    const { fleet, a, b } = await two()
    const snapshot = fleet.store.snapshot()
    await fleet.pass(3)
    a.synchronised = b.synchronised = null
    fleet.store.restore(snapshot)
    await fleet.pass(3)
    expect([a.refused, b.refused]).toEqual(['restored', 'restored'])
    expect(a.refusal).toMatch(/its revision went back from \d+ to \d+/)
  })

  it('is told by its revision at a claim that comes before any beat', async () => {
    const { fleet, a } = await two()
    const snapshot = fleet.store.snapshot()
    await fleet.pass(3)
    const mark = a.link.mark()
    fleet.store.restore(snapshot)
    expect(a.link.believes(mark, fleet.store.header)).toBe(false)
    expect(a.refused).toBe('restored')
    expect(a.memory.restored).toBe(true)
  })

  it('is told by its raft term', async () => {
    const { fleet, a } = await two()
    fleet.store.elect()
    await fleet.pass(2)
    const snapshot = fleet.store.snapshot()
    fleet.store.restore({ ...snapshot, revision: snapshot.revision + 1_000 })
    a.synchronised = null
    await a.tick()
    expect(a.refusal).toMatch(/its raft term went back from 3 to 2/)
  })

  it('is told by this gateway’s own beat, where all else has grown beyond', async () => {
    const { fleet, a } = await two()
    const snapshot = fleet.store.snapshot()
    await fleet.pass(9)
    const memory = await a.kill()
    fleet.store.restore({ ...snapshot, revision: snapshot.revision + 1_000 })
    fleet.store.elect()
    const again = fleet.add('gw1', { memory, synchronised: null })
    await again.tick()
    expect(again.refusal).toMatch(/this gateway's beat went back from \d+ to \d+/)
  })

  it('is told where it is brand-new', async () => {
    const { fleet, a, b } = await two()
    a.synchronised = b.synchronised = null
    fleet.store.restore()
    await fleet.pass(2)
    expect([a.refused, b.refused]).toEqual(['restored', 'restored'])
  })

  it('is told after a restart, too, though it has grown beyond what was known meanwhile', async () => {
    const { fleet, a, b } = await two()
    const snapshot = fleet.store.snapshot()
    await fleet.pass(3)
    a.synchronised = b.synchronised = null
    fleet.store.restore(snapshot)
    await fleet.pass(30)
    const again = fleet.add('gw1', { memory: await a.kill(), synchronised: null })
    await fleet.pass(3)
    expect(again.refused).toBe('restored')
  })

  it('is known after a restart to have been restored, where nothing in it tells that any more', async () => {
    const fleet = new Gateways()
    const a = fleet.add('gw1', { synchronised: null })
    await fleet.pass(3)
    const snapshot = fleet.store.snapshot()
    await fleet.pass(3)
    fleet.store.restore(snapshot)
    await fleet.pass(4)
    expect(a.refused).toBe('restored')
    const memory = await a.kill()
    for (let i = 0; i < 50; i++) fleet.store.transact({ if: [], do: [{ put: 'other', value: `${i}` }], else: [] })
    const again = fleet.add('gw1', { memory, synchronised: null })
    await fleet.pass(4)
    expect(again.refused).toBe('restored')
  })

  it('is heeded by a gateway that begins, as another one says so', async () => {
    const { fleet, a, b } = await two()
    const snapshot = fleet.store.snapshot()
    await fleet.pass(3)
    await b.kill()
    a.synchronised = null
    fleet.store.restore(snapshot)
    const late = fleet.add('gw3', { synchronised: null })
    for (let i = 0; i < 5; i++) {
      await fleet.pass()
      expect(late.refused).not.toBeNull()
    }
    expect(late.refusal).toMatch(/gw1 says so/)
  })

  it('has its base raised by a gateway whose clock is synchronised and agrees with another one, and all go by that', async () => {
    const { fleet, a, b } = await two()
    const snapshot = fleet.store.snapshot()
    await fleet.pass(3)
    b.synchronised = null
    fleet.store.restore(snapshot)
    await fleet.pass(4)
    const wall = fleet.wall / 1_000
    expect(fleet.base).toMatchObject({ fleet: FLEET, server: SERVER, epoch: 2, ahead: 2 })
    expect(Math.abs((fleet.base?.seconds ?? 0) - wall)).toBeLessThan(10)
    expect([a.told, b.told]).toEqual([['raised 2', 'adopted 2'], ['adopted 2']])
    await fleet.pass(2)
    expect([a.refused, b.refused]).toEqual([null, null])
    expect(a.memory).toMatchObject({ epoch: 2, restored: false })
    expect(a.link.base?.base.epoch).toBe(2)
  })

  it('has its base raised beyond all that a gateway has taken for timely whose clock is ahead', async () => {
    const fleet = new Gateways()
    for (const name of ['gw1', 'gw2']) fleet.add(name)
    const fast = fleet.add('gw3', { off: 25_000, synchronised: null })
    await fleet.pass(5)
    const snapshot = fleet.store.snapshot()
    await fleet.pass(1)
    expect([fast.refused, Math.floor(fast.now.wall / 30_000)]).toEqual([null, Math.floor(fleet.wall / 30_000) + 1])
    const { last } = acceptedWindows(fast.now.wall, 30, 1)
    fleet.store.restore(snapshot)
    await fleet.pass(5)
    const { base } = fleet
    expect(base?.epoch).toBeGreaterThan(1)
    expect(base && baseFloor(base, 30)).toBeGreaterThan(last)
  })

  it('has its base put anew where it has none', async () => {
    const { fleet, a, b } = await two()
    fleet.store.restore()
    await fleet.pass(5)
    expect(fleet.base).toMatchObject({ fleet: FLEET, epoch: 2 })
    expect([a.refused, b.refused]).toEqual([null, null])
  })

  it.each([
    ['nobody’s clock is synchronised', null, null, 0],
    ['the synchronised clock agrees with no other one', true, null, 16_000],
    ['the synchronised clock is two seconds and a half off the only other one', true, null, 2_500],
  ])('keeps its base where %s', async (_, first, second, off) => {
    const { fleet, a, b } = await two()
    Object.assign(a, { synchronised: first, off })
    b.synchronised = second
    const snapshot = fleet.store.snapshot()
    await fleet.pass(3)
    fleet.store.restore(snapshot)
    await fleet.pass(10)
    expect(fleet.base?.epoch).toBe(1)
    expect([a.refused, b.refused]).toEqual(['restored', 'restored'])
  })

  it('keeps its base where the synchronised clocks that agree are off the median by a window', async () => {
    const fleet = new Gateways()
    for (const name of ['gw1', 'gw2']) fleet.add(name, { off: 40_000 })
    for (const name of ['gw3', 'gw4', 'gw5']) fleet.add(name, { synchronised: null })
    await fleet.pass(4)
    const snapshot = fleet.store.snapshot()
    await fleet.pass(3)
    fleet.store.restore(snapshot)
    await fleet.pass(10)
    expect([fleet.base?.epoch, fleet.all[2]?.refused]).toEqual([1, 'restored'])
  })

  it('keeps its base where no other gateway speaks', async () => {
    const fleet = new Gateways()
    const a = fleet.add('gw1')
    await fleet.pass(2)
    fleet.store.restore()
    await fleet.pass(10)
    expect([fleet.base, a.refused]).toEqual([null, 'restored'])
  })

  it('hands on nothing before it is repaired: among it are leases that were closed since', async () => {
    const { fleet, a, b } = await two()
    const lease = leaseRow({ fingerprint: 'ff', protocol: 'tcp', port: 22, address: '198.51.100.1' })
    fleet.store.transact({ if: [], do: [{ put: lease, value: 'open' }], else: [] })
    await fleet.pass()
    const snapshot = fleet.store.snapshot()
    fleet.store.transact({ if: [], do: [{ remove: lease }], else: [] })
    await fleet.pass(2)
    a.fed.length = 0
    b.synchronised = a.synchronised = null
    fleet.store.restore(snapshot)
    await fleet.pass(5)
    expect(a.fed).toEqual([])
    a.synchronised = true
    await fleet.pass(3)
    const [first] = a.fed as readonly (readonly { row: string; value: string }[])[]
    expect(first.find(({ row }) => row === BASE)?.value).toContain('"epoch":2')
  })

  it('is not seen in an answer that was under way when it was repaired', async () => {
    const { fleet, a } = await two()
    const snapshot = fleet.store.snapshot()
    await fleet.pass(3)
    const mark = a.link.mark()
    fleet.store.restore(snapshot)
    await fleet.pass(5)
    expect(a.refused).toBeNull()
    expect(a.link.believes(mark, { ...fleet.store.header, revision: mark - 1 })).toBe(false)
    expect(a.refused).toBeNull()
  })

  it('is no etcd that has elected another leader', async () => {
    const { fleet, a, b } = await two()
    for (let i = 0; i < 30; i++) {
      fleet.store.elect()
      await fleet.pass()
      expect([a.refused, b.refused]).toEqual([null, null])
    }
  })
})

describe('the base', () => {
  const put = (fleet: Gateways, base: object) =>
    fleet.store.transact({ if: [], do: [{ put: BASE, value: formatBase({ ...fleet.base, ...base } as never) }], else: [] })

  it('is gone by where it is a later one', async () => {
    const { fleet, a } = await two()
    put(fleet, { epoch: 5, seconds: fleet.wall / 1_000 })
    await fleet.pass()
    expect(a.link.base?.base.epoch).toBe(5)
    expect(a.memory.epoch).toBe(5)
    expect(a.refused).toBeNull()
  })

  it('has all rows listed again as soon as it is another one', async () => {
    const { fleet, a } = await two()
    expect(a.isWatching).toBe(true)
    put(fleet, { epoch: 5, seconds: fleet.wall / 1_000 })
    await settled()
    expect(a.isWatching).toBe(false)
  })

  it.each([
    ['an earlier one', { epoch: 0 }],
    ['another one of the same epoch', { seconds: 12 }],
  ])('is never gone by where it is %s', async (_, base) => {
    const { fleet, a, b } = await two()
    a.synchronised = b.synchronised = null
    put(fleet, base)
    await fleet.pass(2)
    expect(a.link.base).toBeNull()
    expect(a.refusal).toMatch(/its base is older than the known one/)
  })

  it.each([
    ['another fleet', { fleet: 'fedcba9876543210' }, /another fleet/],
    ['another server', { server: 'other.example' }, /of the server "other.example"/],
  ])('of %s has a gateway open nothing, hand on nothing, and write nothing there', async (_, base, why) => {
    const { fleet, a } = await two()
    put(fleet, base)
    await fleet.pass(2)
    const before = fleet.store.header.revision
    a.fed.length = 0
    await fleet.pass(3)
    fleet.store.transact({ if: [], do: [{ put: 'shared/revoked/ff', value: 'x' }], else: [] })
    await settled()
    expect(a.fed).toEqual([])
    expect(a.refusal).toMatch(why)
    expect(fleet.store.header.revision).toBe(before + 1)
    expect(a.memory.restored).toBe(false)
  })

  it('that nobody can read has a gateway open nothing', async () => {
    const { fleet, a } = await two()
    fleet.store.transact({ if: [], do: [{ put: BASE, value: '{}' }], else: [] })
    await fleet.pass(2)
    expect(a.refusal).toMatch(/cannot be read/)
  })
})

describe('gateways whose setups differ', () => {
  it('open nothing where their skew does', async () => {
    const fleet = new Gateways()
    const [a, b] = [fleet.add('gw1'), fleet.add('gw2', { skew: 2 })]
    await fleet.pass(3)
    expect(a.refusal).toMatch(/skew is 2 at gw2 and 1 here/)
    expect(b.refused).toBe('skew')
  })

  it('open nothing where one was taken out of the fleet while it runs', async () => {
    const { fleet, a } = await two()
    fleet.store.transact({ if: [], do: [{ remove: gatewayRow('gw1') }], else: [] })
    await fleet.pass(2)
    expect(a.refusal).toMatch(/taken out of the fleet/)
    expect(fleet.store.rows.map(({ row }) => row)).not.toContain(gatewayRow('gw1'))
  })
})

describe('clocks', () => {
  it('that are off the median by a window have their gateway alone open nothing', async () => {
    const fleet = new Gateways()
    const [a, b, c] = [fleet.add('gw1'), fleet.add('gw2'), fleet.add('gw3', { off: 45_000 })]
    await fleet.pass(4)
    expect([a.refused, b.refused, c.refused]).toEqual([null, null, 'clock'])
    expect(c.refusal).toMatch(/45\.0 s ahead of the median of 3 gateways/)
    expect(Math.round(a.link.ahead(a.now) / 1_000)).toBe(45)
  })

  it('are heard at the next beat where one is set', async () => {
    const fleet = new Gateways()
    const [a, , c] = [fleet.add('gw1'), fleet.add('gw2'), fleet.add('gw3')]
    await fleet.pass(10)
    c.off = -70_000
    expect(c.refused).toBe('clock')
    await fleet.pass()
    expect(a.link.standing.clocks(a.now).says).toMatch(/gw3 \(70\.0 s behind\)/)
    c.off = 0
    await fleet.pass()
    expect([c.refused, a.link.standing.clocks(a.now).says]).toEqual([null, null])
  })

  it('of two that differ stop the one that is not synchronised', async () => {
    const fleet = new Gateways()
    const [a, b] = [fleet.add('gw1'), fleet.add('gw2', { off: -31_000, synchronised: false })]
    await fleet.pass(4)
    expect([a.refused, b.refused]).toEqual([null, 'clock'])
    expect(a.link.standing.clocks(a.now).says).toMatch(/31\.0 s ahead of that of gw2/)
  })

  it('count no more when their gateway has been quiet for a quarter of a minute', async () => {
    const fleet = new Gateways()
    const [a, b] = [fleet.add('gw1'), fleet.add('gw2', { off: 90_000 })]
    await fleet.pass(4)
    expect(a.link.ahead(a.now)).toBeGreaterThan(80_000)
    await b.kill()
    await fleet.pass(8)
    expect(a.link.ahead(a.now)).toBe(0)
  })
})

describe('the keys of a gateway', () => {
  it('are named in a row of their own, which is written when they change', async () => {
    const { fleet, a } = await two()
    const named = () => fleet.store.rows.find(({ row }) => row === 'shared/keys/gw1')
    expect(named()?.value).toBe('{"fingerprints":["aa","bb"]}')
    const { modified } = named() ?? {}
    await fleet.pass(3)
    expect(named()?.modified).toBe(modified)
    a.keys = ['cc']
    await fleet.pass()
    expect(named()?.value).toBe('{"fingerprints":["cc"]}')
  })
})
