import pino from 'pino'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { Daemon } from '../../src/daemon/daemon'
import type { Entry } from '../../src/gate/firewall'
import { Leases } from '../../src/gate/leases'
import { freshBase, Ledger, type LedgerRecord } from '../../src/gate/ledger'
import { Listener } from '../../src/gate/listener/listener'
import type { ServerKey } from '../../src/gate/server-key'
import { parseCidr } from '../../src/protocol/address'
import { keyOf, knockOf, MIDDLE, OTHER, requestOf, SOURCE, WINDOW } from '../gate/listener/ear'

const HOUR = 3_600
const LIFE = 600

// The daemon looks at what is due by a timer: it is ours, and so is the monotonic clock.
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
})
afterEach(() => {
  vi.useRealTimers()
})

function serverKey(n: number): ServerKey {
  const grant = {
    services: [{ port: 22, protocol: 'tcp' as const }],
    max: 24 * HOUR,
    addresses: [parseCidr('0.0.0.0/0')].filter((block) => block !== null),
    bindSource: true,
    requireAddress: false,
    allowUntilClosed: true,
    lock: false,
  }
  return { id: `key${n}`, key: keyOf(n), fingerprint: `${n}`.repeat(32), expires: null, revoked: null, grant }
}
const [alice, bob] = [serverKey(1), serverKey(2)]

/** A daemon whose wall clock can be set; its firewall is a list, its disk never fails. */
async function daemon(records: LedgerRecord[] = []) {
  let set = 0
  const start = performance.now()
  const now = () => ({ wall: MIDDLE * 1000 + performance.now() - start + set, steady: performance.now() })
  const log: Record<string, unknown>[] = []
  const doors: Entry[] = []
  const running = new Daemon({
    listener: new Listener(1, () => 0.5),
    ledger: new Ledger(records, { append: async () => {} }, 1),
    leases: new Leases(),
    firewall: [
      {
        name: 'list',
        maxRemoved: 16,
        clock: 'wall',
        holds: () => true,
        endsByItself: () => true,
        read: async () => ({ entries: doors, isWhole: true }),
        change: async ({ add, remove }) => {
          doors.push(...add)
          for (const { entry } of remove) doors.splice(doors.indexOf(entry), 1)
        },
        rewrite: async () => {},
      },
    ],
    log: pino({ base: null }, { write: (line) => log.push(JSON.parse(line)) }),
    now,
  })
  await running.setKeys([alice, bob], [])
  await running.restore()
  const pass = (seconds: number) => vi.advanceTimersByTimeAsync(seconds * 1000)
  await pass(1)
  let salt = 0
  return {
    doors,
    pass,
    warnings: () => log.filter(({ level, refusal }) => level === 40 && !refusal).map(({ msg }) => msg),
    /** Sets the wall clock; a moment later the daemon has noticed. */
    async set(seconds: number) {
      set += seconds * 1000
      await pass(1)
    },
    /** Sets it, and nothing has had time to notice. */
    setNow(seconds: number) {
      set += seconds * 1000
    },
    /** A knock of the moment that the wall clock tells, as the ports of it. */
    knock: (key = alice) => knockOf(key.key, 1, Math.floor(now().wall / 30_000), { ...requestOf(++salt), seconds: LIFE }),
    /** What the daemon says of it. */
    async hears(ports: number[], source = SOURCE) {
      const before = log.length
      for (const port of ports) running.hear({ source, destination: '198.51.100.1', port })
      await pass(1)
      const { msg, refusal, reason } = log.slice(before).find((line) => line.msg === 'accepted' || line.refusal) ?? {}
      return { said: refusal ?? msg, reason }
    },
    /** What it says of a knock whose window is over, when its source has been silent for long enough. */
    async hearsLate(ports: number[], source = SOURCE, destination = '198.51.100.1') {
      const before = log.length
      for (const port of ports) running.hear({ source, destination, port })
      await pass(12)
      return log.slice(before).map(({ refusal, clock, reason }) => ({ refusal, clock, reason }))
    },
    retransmits: () => running.retransmits,
  }
}

const iso = (seconds: number) => `${new Date(seconds * 1000).toISOString().slice(0, -5)}Z`
/** Where the floor is after a knock in the first window. */
const FLOOR = iso((WINDOW - 2) * 30)

describe('a daemon at rest', () => {
  it('hears the first knock after a leap of the clock, before its next look', async () => {
    const { hears, knock, pass, setNow } = await daemon()
    await pass(20)
    await pass(0.3)
    setNow(HOUR)
    expect((await hears(knock())).said).toBe('accepted')
  })
})

describe('a clock that is set back by two hours', () => {
  it('is told, with the time before which keys that have knocked open nothing', async () => {
    const { hears, knock, set, warnings } = await daemon()
    await hears(knock())
    await set(-2 * HOUR)
    expect(warnings()).toEqual([`the clock jumped back by 7200 s: keys whose floor is ahead of it open nothing before ${FLOOR}`])
  })

  it('is told with the remedy where the ledger was begun before, which helps keys that have not knocked', async () => {
    const { hears, knock, set, warnings } = await daemon([freshBase((MIDDLE - 90) * 1000, 1)])
    await set(-2 * HOUR)
    const why = `the ledger's base is ahead of the clock: nothing opens before ${iso(WINDOW * 30 - 30)}, not even with a new key: set the clock right, stop the daemon and run "knockturn ledger rebase"`
    expect(warnings()).toEqual([`the clock jumped back by 7200 s: ${why}`])
    expect(await hears(knock())).toEqual({ said: 'stale', reason: why })
  })

  it('is told without that where no key has knocked', async () => {
    const { set, warnings } = await daemon()
    await set(-2 * HOUR)
    expect(warnings()).toEqual(['the clock jumped back by 7200 s'])
  })

  it('gives no lease more time', async () => {
    const { doors, hears, knock, pass, set } = await daemon()
    await hears(knock())
    await set(-2 * HOUR)
    await pass(LIFE - 10)
    expect(doors).toHaveLength(1)
    await pass(10)
    expect(doors).toEqual([])
  })

  it('has a key that has knocked wait, and says until when', async () => {
    const { hears, knock, set } = await daemon()
    await hears(knock())
    await set(-2 * HOUR)
    expect(await hears(knock())).toEqual({
      said: 'stale',
      reason: `the floor of this key is ahead of the clock: it opens nothing before ${FLOOR}: set the clock if it is behind; a new key opens at once`,
    })
  })

  it('leaves another key as it is', async () => {
    const { hears, knock, set } = await daemon()
    await hears(knock())
    await set(-2 * HOUR)
    expect(await hears(knock(bob))).toMatchObject({ said: 'accepted' })
  })

  it('opens again what has waited when it is set right', async () => {
    const { hears, knock, set } = await daemon()
    await hears(knock())
    await set(-2 * HOUR)
    await set(2 * HOUR)
    expect(await hears(knock())).toMatchObject({ said: 'accepted' })
  })

  it('lets no knock be played again that opened at its time', async () => {
    const { hears, knock, pass, set } = await daemon()
    const ports = knock()
    await hears(ports)
    await pass(2 * HOUR)
    await set(-2 * HOUR)
    expect(await hears(ports, OTHER)).toMatchObject({ said: 'replayed' })
  })
})

describe('a clock that is set forward by two hours', () => {
  const NEXT = 'if it is wrong now, set it before the next knock: otherwise the key of that knock opens nothing before this time'

  it('is told, with what a knock would do then', async () => {
    const { set, warnings } = await daemon()
    await set(2 * HOUR)
    expect(warnings()).toEqual([`the clock jumped forward by 7200 s: ${NEXT}`])
  })

  it('ends the leases that end by it', async () => {
    const { doors, hears, knock, set } = await daemon()
    await hears(knock())
    await set(2 * HOUR)
    expect(doors).toEqual([])
  })

  it('opens to knocks of then', async () => {
    const { hears, knock, set } = await daemon()
    await set(2 * HOUR)
    expect(await hears(knock())).toMatchObject({ said: 'accepted' })
  })

  it('and set right again has only keys wait that have knocked meanwhile', async () => {
    const { hears, knock, set } = await daemon()
    await set(2 * HOUR)
    await hears(knock())
    await set(-2 * HOUR)
    expect([await hears(knock()), await hears(knock(bob))]).toMatchObject([{ said: 'stale' }, { said: 'accepted' }])
  })
})

describe('a clock', () => {
  it.each([29, -29])('that is set by %i s is not told: the skew forgives it', async (seconds) => {
    const { set, warnings } = await daemon()
    await set(seconds)
    expect(warnings()).toEqual([])
  })

  it('that goes wrong by and by is not told to have jumped', async () => {
    const { set, warnings } = await daemon()
    for (let i = 0; i < 60; i++) await set(1)
    expect(warnings()).toEqual([])
  })

  it('that jumps to and fro is told once a minute for each way', async () => {
    const { pass, set, warnings } = await daemon()
    for (let i = 0; i < 10; i++) await set(i % 2 ? HOUR : -HOUR)
    expect(warnings()).toHaveLength(2)
    await pass(60)
    await set(HOUR)
    expect(warnings()).toHaveLength(3)
  })
})

describe('a knock whose window is over', () => {
  /** One that was accepted 100 s ago. */
  async function accepted() {
    const running = await daemon()
    const ports = running.knock()
    await running.hears(ports)
    await running.pass(100)
    return { ...running, ports }
  }

  it('is replayed from another source, and no clock is blamed', async () => {
    const { hearsLate, ports } = await accepted()
    expect(await hearsLate(ports, OTHER)).toEqual([{ refusal: 'replayed' }])
  })

  it('is counted and not mentioned from its own', async () => {
    const { hearsLate, ports, retransmits } = await accepted()
    // At another address of the server: where it was heard, its ports are passed over and it does not come so far.
    expect([await hearsLate(ports, SOURCE, '198.51.100.9'), retransmits()]).toEqual([[], 1])
  })

  it('is stale, with the reason and without a clock, when it has been forgotten', async () => {
    const { hears, hearsLate, knock, ports } = await accepted()
    await hears(knock())
    const reason = expect.stringMatching(
      /^its window \(1\d\d s ago\) is below the floor: the ledger no longer knows which knocks were spent there$/,
    )
    expect(await hearsLate(ports, OTHER)).toEqual([{ refusal: 'stale', reason }])
  })

  it('is stale, with its sender’s clock, when it has not been heard before', async () => {
    const { hearsLate, knock, pass } = await daemon()
    const ports = knock()
    await pass(100)
    const clock = expect.stringMatching(/^the sender's clock is \d+ s behind$/)
    expect(await hearsLate(ports, OTHER)).toEqual([{ refusal: 'stale', clock }])
  })

  it('is not spent by being said too late', async () => {
    const { hears, hearsLate, knock, pass, set } = await daemon()
    const ports = knock()
    await pass(100)
    await hearsLate(ports, OTHER)
    await set(-112)
    expect(await hears(ports)).toMatchObject({ said: 'accepted' })
  })
})

it('a knock that is played every second is told of once a minute', async () => {
  const { hears } = await daemon()
  const ports = knockOf(alice.key, 1, WINDOW + 1)
  await hears(ports)
  const told: number[] = []
  for (let second = 0; second < 70; second++) {
    // From a source of its own each time: one that goes on saying the same is not heard again.
    const { said } = await hears(ports, `203.0.113.${second}`)
    if (said === 'replayed') told.push(second)
  }
  expect(told).toEqual([0, 60])
})
