import { describe, expect, it } from 'vitest'
import { type Attempt, claimOf, type Ground, isBelowBase, judge, untilOf } from '../../../src/daemon/fleet/claim'
import type { Condition } from '../../../src/daemon/fleet/etcd/etcd'
import {
  BASE,
  floorRow,
  formatBase,
  formatSpent,
  formatWindow,
  gatewayRow,
  revokedRow,
  sourceCode,
  spentRow,
} from '../../../src/daemon/fleet/rows'
import { KEY, knock, type Saying } from '../../gate/disk'
import { OTHER, requestOf, WINDOW } from '../../gate/listener/ear'
import { foundation, OLD_BASE } from './plain-link'
import { Twin } from './twin'

const GROUND: Ground = { base: OLD_BASE, value: formatBase(OLD_BASE), gateway: 'gw1', beaten: 2 }
const FLOOR = floorRow(KEY, 30)

function attemptOf(saying: Saying = {}, id = 'mine', raises = true): Attempt {
  const said = knock(saying)
  const spent = { attempt: id, gateway: 'gw1', source: sourceCode(said.key, said), until: null }
  return { knock: said, fingerprint: KEY, spent, raises }
}

/** An etcd in which the key has a floor already. */
async function etcd(floor = WINDOW - 10): Promise<Twin> {
  const twin = new Twin()
  await twin.transact(foundation())
  await twin.transact({ if: [], do: [{ put: FLOOR, value: formatWindow(floor) }], else: [] })
  return twin
}
const put = (twin: Twin, row: string, value: string) => twin.transact({ if: [], do: [{ put: row, value }], else: [] })
const remove = (twin: Twin, row: string) => twin.transact({ if: [], do: [{ remove: row }], else: [] })
const ask = async (twin: Twin, attempt = attemptOf(), skew = 1, ground = GROUND) =>
  judge(await twin.transact(claimOf(attempt, ground, skew)), attempt, ground)
const rowsOf = (twin: Twin, kind: string) => twin.store.rows.filter(({ row }) => row.startsWith(`ledger/${kind}/`))

describe('a claim', () => {
  it('puts the row of the knock, with attempt, gateway, code of the source and end', async () => {
    const twin = await etcd()
    const attempt = attemptOf()
    expect(await ask(twin, attempt)).toEqual({ is: 'claimed' })
    expect(rowsOf(twin, 'spent')).toMatchObject([{ row: spentRow(attempt.knock, KEY), value: formatSpent(attempt.spent) }])
  })

  it('writes no address', async () => {
    const twin = await etcd()
    await ask(twin)
    expect(JSON.stringify(twin.store.rows)).not.toContain(attemptOf().knock.source)
  })

  it.each([
    [0, WINDOW],
    [1, WINDOW - 2],
    [3, WINDOW - 6],
  ])('with a skew of %i raises the floor to %i', async (skew, floor) => {
    const twin = await etcd()
    await ask(twin, attemptOf(), skew)
    expect(rowsOf(twin, 'floor')).toMatchObject([{ value: formatWindow(floor) }])
  })

  it('lowers no floor', async () => {
    const twin = await etcd(WINDOW)
    expect(await ask(twin)).toEqual({ is: 'claimed' })
    expect(rowsOf(twin, 'floor')).toMatchObject([{ value: formatWindow(WINDOW) }])
  })

  it('raises no floor below the base', async () => {
    const base = {
      base: { ...OLD_BASE, seconds: WINDOW * 30, ahead: 0 },
      value: formatBase({ ...OLD_BASE, seconds: WINDOW * 30, ahead: 0 }),
    }
    const twin = await etcd()
    await put(twin, BASE, base.value)
    await ask(twin, attemptOf(), 1, { ...GROUND, ...base })
    expect(rowsOf(twin, 'floor')).toMatchObject([{ value: formatWindow(WINDOW) }])
  })

  it('forgets the rows below the floor that it raises, and no others', async () => {
    const twin = await etcd()
    for (const window of [WINDOW - 3, WINDOW - 2, WINDOW]) await ask(twin, attemptOf({ window }), 2)
    await ask(twin, attemptOf({ window: WINDOW + 1, v: 'b' }), 2)
    expect(rowsOf(twin, 'spent').map(({ row }) => row)).toEqual([
      ...[WINDOW - 3, WINDOW - 2, WINDOW].map((window) => spentRow(knock({ window }), KEY)),
      spentRow(knock({ window: WINDOW + 1, v: 'b' }), KEY),
    ])
    await ask(twin, attemptOf({ window: WINDOW + 2 }), 2)
    expect(rowsOf(twin, 'spent')).toHaveLength(4)
  })

  it('that raises nothing leaves floor and rows as they are', async () => {
    const twin = await etcd()
    await ask(twin, attemptOf({ window: WINDOW - 9 }))
    await ask(twin, attemptOf({}, 'mine', false))
    expect([rowsOf(twin, 'spent').length, rowsOf(twin, 'floor')[0]?.value]).toEqual([2, formatWindow(WINDOW - 10)])
  })

  it('asks for all of it: a fault in any of its conditions is found by another test', () => {
    const { if: conditions } = claimOf(attemptOf(), GROUND, 1)
    expect(conditions.map(({ row, is }: Condition) => `${row} ${is}`)).toEqual([
      `${spentRow(knock(), KEY)} absent`,
      `${revokedRow(KEY)} absent`,
      `${BASE} equal`,
      `${gatewayRow('gw1')} since`,
      `${FLOOR} there`,
      `${FLOOR} below`,
    ])
  })
})

describe('what stands in the way of a claim', () => {
  it('is its own row, where its answer was lost', async () => {
    const twin = await etcd()
    await ask(twin)
    expect(await ask(twin)).toEqual({ is: 'own' })
  })

  it('is a row of the same source: said again', async () => {
    const twin = await etcd()
    await ask(twin, attemptOf({}, 'another’s'))
    expect(await ask(twin)).toEqual({ is: 'retransmitted' })
  })

  it('is a row of another source: a replay', async () => {
    const twin = await etcd()
    await ask(twin, attemptOf({}, 'another’s'))
    expect(await ask(twin, attemptOf({ source: OTHER }))).toEqual({ is: 'replayed' })
  })

  it.each(['', '{}', 'null', '{"attempt":"mine"}'])('is a row that nobody understands, such as "%s", as well', async (value) => {
    const twin = await etcd()
    await put(twin, spentRow(knock(), KEY), value)
    expect(await ask(twin)).toEqual({ is: 'replayed' })
  })

  it('is the revocation of its key, also where the row is its own', async () => {
    const twin = await etcd()
    await ask(twin)
    await put(twin, revokedRow(KEY), '')
    expect([await ask(twin), await ask(twin, attemptOf({ v: 'b' }))]).toEqual([{ is: 'revoked' }, { is: 'revoked' }])
  })

  it('is no revocation of another key', async () => {
    const twin = await etcd()
    await put(twin, revokedRow('decade'), '')
    expect(await ask(twin)).toEqual({ is: 'claimed' })
  })

  it('is the floor, which is said', async () => {
    expect(await ask(await etcd(WINDOW + 1))).toEqual({ is: 'stale', floor: WINDOW + 1 })
  })

  it('is no floor of its own window', async () => {
    expect(await ask(await etcd(WINDOW))).toEqual({ is: 'claimed' })
  })

  it('is that there is no floor', async () => {
    const twin = await etcd()
    await remove(twin, FLOOR)
    expect([await ask(twin), rowsOf(twin, 'spent')]).toEqual([{ is: 'floorless' }, []])
  })

  it('is another base, also where the row is its own', async () => {
    const twin = await etcd()
    await ask(twin)
    await put(twin, BASE, formatBase({ ...OLD_BASE, epoch: 2 }))
    expect([await ask(twin), await ask(twin, attemptOf({ v: 'b' }))]).toEqual([{ is: 'rebased' }, { is: 'rebased' }])
  })

  it.each([
    ['older', 3, { is: 'forgotten' }],
    ['as old', 2, { is: 'claimed' }],
    ['newer', 1, { is: 'claimed' }],
  ])('is an own row %s than this gateway has written, as in an etcd that was restored: %#', async (_, beaten, verdict) => {
    expect(await ask(await etcd(), attemptOf(), 1, { ...GROUND, beaten })).toEqual(verdict)
  })

  it('is that there is no own row any more, also where that of the knock is its own', async () => {
    const twin = await etcd()
    await ask(twin)
    await remove(twin, gatewayRow('gw1'))
    expect([await ask(twin), await ask(twin, attemptOf({ v: 'b' }))]).toEqual([{ is: 'forgotten' }, { is: 'forgotten' }])
  })

  it('is that there is no base', async () => {
    const twin = await etcd()
    await remove(twin, BASE)
    expect(await ask(twin)).toEqual({ is: 'rebased' })
  })

  it.each(['ffffffffffffffff', '~', 'g'])('is a floor that is none: "%s"', async (value) => {
    const twin = await etcd()
    await put(twin, FLOOR, value)
    expect(await ask(twin)).toEqual({ is: 'strange' })
  })

  it('is no floor that it is not below: then nobody knows', () => {
    const header = { cluster: '', revision: 1, term: 1 }
    const row = (value: string) => ({ rows: [{ row: '', value, created: 2, modified: 2, lease: null }] })
    const done = [{ rows: [] }, { rows: [] }, row(formatWindow(WINDOW)), row(GROUND.value), row('lives'), { rows: [] }]
    expect(judge({ header, held: false, done }, attemptOf(), GROUND)).toEqual({ is: 'strange' })
  })

  it('is nothing that was read: then nobody knows', () => {
    const header = { cluster: '', revision: 1, term: 1 }
    expect(judge({ header, held: false, done: [] }, attemptOf(), GROUND)).toEqual({ is: 'forgotten' })
  })
})

describe('the floor of a key that has none', () => {
  const floorless = async (base = OLD_BASE) => {
    const twin = new Twin()
    await twin.transact(foundation(base))
    return twin
  }

  it.each([
    ['the base’s', true, formatWindow(WINDOW - 998)],
    ['none, for what raises none', false, formatWindow(0)],
  ])('is %s, and the claim is to be asked again', async (_, raises, value) => {
    const twin = await floorless()
    const attempt = attemptOf({}, 'mine', raises)
    expect([await ask(twin, attempt), rowsOf(twin, 'floor'), await ask(twin, attempt)]).toMatchObject([
      { is: 'floorless' },
      [{ value }],
      { is: 'claimed' },
    ])
  })

  it('is not put under another base', async () => {
    const twin = await floorless({ ...OLD_BASE, epoch: 2 })
    expect([await ask(twin), rowsOf(twin, 'floor')]).toEqual([{ is: 'rebased' }, []])
  })
})

describe('below the base', () => {
  it.each([
    [-999, true],
    [-998, false],
  ])('lies window %i from now: %s', (step, below) => {
    expect(isBelowBase(knock({ window: WINDOW + step }), GROUND)).toBe(below)
  })
})

describe('a knock would be open', () => {
  it.each([
    ['open', 60, 1_000_060],
    ['open', 0, null],
    ['close', 60, 0],
    ['lock', 60, 0],
  ] as const)('asking to %s for %i s until %s', (action, seconds, until) => {
    expect(untilOf({ request: { ...requestOf(1), action, seconds } }, 999_999_001)).toBe(until)
  })
})
