import { readdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { BACKENDS } from '../../src/daemon/backends/all'
import { logged } from '../lab/gate'
import { knocked } from '../lab/knocks'
import { type Cell, cellName, drawMatrix } from '../lab/matrix'
import { until } from '../lab/waiters'
import { COLUMNS, DRIVERS, gateOf, leave, MANY, SSH, type Stage, stageOf, WEB } from './conformance'
import { useGate } from './use-gate'

/*
 * What every backend does, with real packets. A row is what is to hold; it has two forms: one for backends that have leases in force, and one for
 * the dry run, which holds what is done instead.
 */

/** Connections that are tried at the same moment, and how often. */
const VOLLEY = 8
const ROUNDS = 20
/** Seconds of a lease whose end is waited for: on a busy machine there is time to look at it before. */
const SHORT = 4
const HOUR = 3_600
/** A port to which another is led, as one that is published. */
const BEHIND = 8_022

/** A cell's test. A text that it returns is why there is nothing to hold. */
type Test = (stage: Stage) => Promise<unknown>

interface Row {
  readonly name: string
  /** With leases in force. */
  readonly real: Test
  readonly dry: Test
}

const iso = (seconds: number | null) => (seconds === null ? null : `${new Date(seconds * 1_000).toISOString().slice(0, -5)}Z`)
/** Whether lines of a log are of these messages. */
const messages = (lines: readonly string[]) =>
  lines.flatMap((line) => (line.startsWith('{"level"') ? String(JSON.parse(line).msg) : []))

const ROWS: readonly Row[] = [
  {
    name: 'open',
    async real({ gate, client, bothSee, stands }) {
      expect(await bothSee()).toEqual(['silence', 'silence'])
      const said = await knocked(client, gate.daemon, gate.key, '-p', String(SSH), '-t', '1m')
      expect(said).toMatchObject({ msg: 'accepted', address: client.ipv4, service: `${SSH}/tcp` })
      expect([await bothSee(), await bothSee(WEB)]).toEqual([
        ['open', 'silence'],
        ['silence', 'silence'],
      ])
      const [lease, ...others] = await stands()
      expect(others).toEqual([])
      expect({ ...lease, until: iso(lease?.until ?? null) }).toEqual({
        ...{ kind: 'lease', id: said.leases[0], key: 'traveller', address: client.ipv4, door: `tcp/${SSH}`, once: false },
        until: said.until,
      })
    },
    async dry({ gate, client, bothSee, does, allStand }) {
      const since = gate.daemon.lines.length
      const said = await knocked(client, gate.daemon, gate.key, '-p', String(SSH), '-t', '1m')
      expect(await does('open', since)).toEqual({
        ...{ do: 'open', lease: said.leases[0], key: 'traveller', address: client.ipv4, protocol: 'tcp', port: SSH },
        ...{ until: said.until, once: false },
      })
      expect([await bothSee(), await allStand()]).toEqual([['silence', 'silence'], []])
    },
  },
  {
    name: 'guard',
    async real({ gate, server, stranger, ask, sees, bothSee }) {
      if (!gate.isGuarded) return 'without a guard, the administrator’s own rules shut the ports'
      await server.service(BEHIND)
      await stranger.service(BEHIND)
      // The port that a stranger sees leads to another. It is the first that a lease is for.
      const lead = ['-p', 'tcp', '--dport', `${WEB}`, '-j', 'REDIRECT', '--to-ports', `${BEHIND}`]
      await server.must(['iptables', '-t', 'nat', '-A', 'PREROUTING', ...lead])
      expect([await bothSee(WEB), await bothSee(BEHIND)]).toEqual([
        ['silence', 'silence'],
        ['silence', 'silence'],
      ])
      await ask({ port: WEB })
      expect([await bothSee(WEB), await sees(BEHIND), await sees(SSH)]).toEqual([['open', 'silence'], 'silence', 'silence'])
      // The machine itself is spared, and what it begins.
      expect((await server.connect('127.0.0.1', SSH)).saw).toBe('open')
      expect((await server.connect(stranger.ipv4, BEHIND)).saw).toBe('open')
      await server.must(['iptables', '-t', 'nat', '-D', 'PREROUTING', ...lead])
      await gate.daemon.end('SIGKILL')
      expect(await bothSee()).toEqual(['silence', 'silence'])
      gate.daemon = await gate.startDaemon()
    },
    dry: async () => 'a dry run guards nothing',
  },
  {
    name: 'extend',
    async real({ gate, ask, sees, stands, restart }) {
      await ask({ port: WEB, once: true })
      expect(await sees(WEB)).toBe('open')
      const first = await ask({ port: SSH, seconds: SHORT })
      let isExtended = false
      const between = (async () => {
        const saw = new Set<string>()
        while (!isExtended) saw.add(await sees())
        return [...saw]
      })()
      const second = await ask({ port: SSH, seconds: 600 })
      isExtended = true
      expect([second.leases, await between]).toEqual([first.leases, ['open']])
      // A shorter one changes nothing.
      await ask({ port: SSH, seconds: SHORT })
      const [lease, ...others] = (await stands()).filter(({ door }) => door === `tcp/${SSH}`)
      expect([iso(lease?.until ?? null), others]).toEqual([second.until, []])
      // It is the kernel's end that has moved.
      await gate.daemon.end('SIGKILL')
      await until(() => Date.now() > Date.parse(first.until) + 1_000, 'the first end is over')
      expect([await sees(), await sees(WEB)]).toEqual(['open', 'silence'])
      await restart()
    },
    async dry({ gate, ask, does, done }) {
      const since = gate.daemon.lines.length
      const first = await ask({ port: SSH, seconds: 60 })
      await does('open', since)
      const extended = gate.daemon.lines.length
      const second = await ask({ port: SSH, seconds: 600 })
      expect(await does('open', extended)).toMatchObject({ lease: first.leases[0], until: second.until })
      await ask({ port: SSH, seconds: 60 })
      expect(done(extended)).toEqual(['open'])
    },
  },
  {
    name: 'close',
    async real({ client, server, ask, sees, stands }) {
      const { leases } = await ask({})
      const connection = await client.hold(server.ipv4, SSH)
      await ask({ action: 'close', port: SSH, protocol: 'tcp' })
      expect([await sees(), await sees(WEB), await connection.isAlive()]).toEqual(['silence', 'open', true])
      expect((await stands()).map(({ id }) => id)).toEqual(leases.filter((id) => id.endsWith('.1')))
      await ask({ action: 'close' })
      expect([await sees(WEB), await stands()]).toEqual(['silence', []])
      await connection.end()
    },
    async dry({ gate, ask, does }) {
      const { leases } = await ask({ port: SSH })
      const since = gate.daemon.lines.length
      await ask({ action: 'close' })
      expect(await does('close', since)).toMatchObject({ lease: leases[0], port: SSH })
    },
  },
  {
    name: 'lock',
    async real({ gate, client, stranger, ask, sees, stands, restart }) {
      await ask({ port: SSH })
      await ask({ port: SSH, seconds: 60 }, { host: stranger })
      const said = await knocked(client, gate.daemon, gate.key, '--lock', '-t', '1m')
      expect(said).toMatchObject({ msg: 'accepted', action: 'lock' })
      const [lock, ...others] = await stands()
      expect(others).toEqual([])
      expect({ ...lock, until: iso(lock?.until ?? null) }).toMatchObject({ kind: 'lock', key: 'traveller', until: said.until })
      expect([await sees(), await sees(SSH, { host: stranger })]).toEqual(['silence', 'open'])
      await restart('SIGKILL')
      expect(await ask({ port: SSH })).toMatchObject({ msg: 'refused', refusal: 'locked' })
      expect(await sees()).toBe('silence')
      await ask({ action: 'close' }, { host: stranger })
    },
    async dry({ gate, client, ask, does }) {
      const { leases } = await ask({ port: SSH })
      const since = gate.daemon.lines.length
      const { until: end } = await knocked(client, gate.daemon, gate.key, '--lock', '-t', '1m')
      expect(await does('lock', since)).toMatchObject({ address: client.ipv4, protocol: 'any', port: 0, until: end })
      expect(await does('close', since)).toMatchObject({ lease: leases[0] })
      expect(await ask({ port: SSH })).toMatchObject({ msg: 'refused', refusal: 'locked' })
    },
  },
  {
    name: 'once',
    async real({ volley, stands }) {
      const letIn = []
      for (let round = 0; round < ROUNDS; round++) letIn.push(await volley(VOLLEY))
      expect(letIn).toEqual(letIn.map(() => 1))
      expect(await stands()).toMatchObject([{ once: true, door: `tcp/${SSH}` }])
    },
    async dry({ gate, volley, does }) {
      const since = gate.daemon.lines.length
      expect(await volley(VOLLEY)).toBe(0)
      expect(await does('open', since)).toMatchObject({ once: true })
    },
  },
  {
    name: 'the daemon is dead: the kernel ends a lease',
    async real({ gate, client, server, ask, sees, restart, stands }) {
      await ask({ port: SSH, seconds: SHORT })
      await ask({ port: WEB, seconds: 600 })
      await gate.daemon.end('SIGKILL')
      const connection = await client.hold(server.ipv4, SSH)
      await client.becomes(server.ipv4, SSH, 'silence')
      expect([await sees(WEB), await connection.isAlive()]).toEqual(['open', true])
      await connection.end()
      await restart()
      expect((await stands()).map(({ door }) => door)).toEqual([`tcp/${WEB}`])
    },
    async dry({ gate, ask, sees, restart }) {
      await ask({ port: SSH, seconds: SHORT })
      await gate.daemon.end('SIGKILL')
      expect(await sees()).toBe('silence')
      await restart()
      return 'nothing is in force that could end'
    },
  },
  {
    name: 'restart',
    async real({ gate, ask, sees, restart, stands }) {
      const { leases } = await ask({ port: SSH })
      await ask({ port: WEB, once: true })
      expect(await sees(WEB)).toBe('open')
      const before = await stands()
      await gate.daemon.end('SIGTERM')
      expect([await sees(), await sees(WEB), await stands()]).toEqual(['open', 'silence', before])
      await restart()
      expect([await sees(), await sees(WEB), await stands()]).toEqual(['open', 'silence', before])
      expect((await ask({ port: SSH, seconds: HOUR })).leases).toEqual(leases)
      await ask({ action: 'close' })
      expect([await sees(), await stands()]).toEqual(['silence', []])
    },
    async dry({ gate, ask, does, restart }) {
      const first = await ask({ port: SSH })
      await restart()
      const since = gate.daemon.lines.length
      const second = await ask({ port: SSH })
      // It knows of nothing that stands anywhere.
      expect(second.leases).not.toEqual(first.leases)
      expect(await does('open', since)).toMatchObject({ lease: second.leases[0] })
    },
  },
  {
    name: 'flush',
    async real({ driver, server, ask, sees, bothSee, stands }) {
      const { leases } = await ask({ port: WEB })
      await ask({ port: SSH, once: true })
      expect(await sees()).toBe('open')
      await driver.flush(server)
      await until(async () => (await stands()).length > 0, 'the lease is back')
      expect([await bothSee(), await bothSee(WEB)]).toEqual([
        ['silence', 'silence'],
        ['open', 'silence'],
      ])
      // The one connection of the other may have been used.
      expect((await stands()).map(({ id }) => id)).toEqual(leases)
      expect(await ask({ port: SSH, once: true })).toMatchObject({ msg: 'accepted' })
      expect([await sees(), await sees()]).toEqual(['open', 'silence'])
    },
    async dry({ gate, driver, server, ask, done }) {
      await ask({ port: SSH })
      const since = gate.daemon.lines.length
      await driver.flush(server)
      try {
        // It has put nothing there, and looks after nothing: knocks are not heard until somebody puts the log rules back.
        expect(done(since)).toEqual([])
      } finally {
        await gate.knockturn('firewall', 'install', '--config', gate.config)
      }
      await ask({ action: 'close' })
      expect(done(since)).toEqual(['close'])
    },
  },
  {
    name: 'a command fails half-way',
    async real({ driver, troublesome, restart, ask, sees, stands }) {
      const { words, cause } = troublesome()
      cause({ refuses: driver.words(WEB) })
      await restart('SIGTERM', words)
      expect(await failing(ask, {})).toMatchObject({ level: 50, service: `${SSH}/tcp,${WEB}/tcp` })
      expect([await sees(), await sees(WEB), await stands()]).toEqual(['silence', 'silence', []])
      // What was changed is in force, whatever became of who changed it.
      cause('is killed')
      expect(await ask({ port: SSH })).toMatchObject({ msg: 'accepted' })
      expect([await sees(), (await stands()).length]).toEqual(['open', 1])
      cause(null)
      expect(await ask({})).toMatchObject({ msg: 'accepted' })
      expect([await sees(), await sees(WEB), (await stands()).length]).toEqual(['open', 'open', 2])
      await restart()
    },
    dry: runsNothing,
  },
  {
    name: 'a command hangs',
    async real({ troublesome, restart, ask, sees, stands, stranger }) {
      const { words, cause } = troublesome()
      cause(null)
      await restart('SIGTERM', words)
      await ask({ port: SSH }, { host: stranger })
      cause('hangs')
      expect(await failing(ask, { port: SSH })).toMatchObject({ reason: expect.stringContaining('ended by SIGTERM') })
      expect([await sees(), await sees(SSH, { host: stranger }), await stands()]).toEqual(['silence', 'open', []])
      cause(null)
      expect(await ask({ port: SSH })).toMatchObject({ msg: 'accepted' })
      expect(await sees()).toBe('open')
      await ask({ action: 'close' }, { host: stranger })
      await restart()
    },
    dry: runsNothing,
  },
  {
    name: 'IPv6',
    async real({ client, stranger, ask, sees, stands, volley }) {
      const family = 'ipv6' as const
      expect(await sees(SSH, { family })).toBe('silence')
      expect(await volley(VOLLEY, { family })).toBe(1)
      await ask({ port: SSH }, { family })
      expect([await sees(SSH, { family }), await sees(SSH, { family, host: stranger }), await sees()]).toEqual([
        'open',
        'silence',
        'silence',
      ])
      expect((await stands()).map(({ address, once }) => `${address} ${once}`).sort()).toEqual([
        `${client.ipv6} false`,
        `${client.ipv6} true`,
      ])
      await ask({ action: 'close' }, { family })
      expect([await sees(SSH, { family }), await stands()]).toEqual(['silence', []])
    },
    async dry({ gate, client, ask, does }) {
      const since = gate.daemon.lines.length
      await ask({ port: SSH }, { family: 'ipv6' })
      expect(await does('open', since)).toMatchObject({ address: client.ipv6 })
    },
  },
  {
    name: 'both families at once',
    async real({ ask, sees, stands }) {
      const families = ['ipv4', 'ipv6'] as const
      const seen = () => Promise.all(families.map((family) => sees(SSH, { family })))
      const said = await Promise.all(families.map((family) => ask({ port: SSH }, { family })))
      expect(said.map(({ msg }) => msg)).toEqual(['accepted', 'accepted'])
      expect([await seen(), (await stands()).length]).toEqual([['open', 'open'], 2])
      await ask({ action: 'close' })
      expect(await seen()).toEqual(['silence', 'open'])
      await ask({ action: 'close' }, { family: 'ipv6' })
      expect([await seen(), await stands()]).toEqual([['silence', 'silence'], []])
    },
    async dry({ gate, client, ask, does, done }) {
      const since = gate.daemon.lines.length
      await Promise.all((['ipv4', 'ipv6'] as const).map((family) => ask({ port: SSH }, { family })))
      await does('open', since)
      expect(done(since)).toEqual(['open', 'open'])
      const lines = gate.daemon.lines.slice(since)
      for (const address of [client.ipv4, client.ipv6])
        expect(lines.filter((line) => line.startsWith('{"do"') && line.includes(`"${address}"`))).toHaveLength(1)
    },
  },
  {
    name: 'blocks',
    async real({ client, stranger, addKeys, reachOutside, ask, sees, allStand }) {
      await reachOutside()
      const [key = ''] = await addKeys(
        1,
        [/^open_prefix = .*$/m, 'open_prefix = 28'],
        [/^open_prefix6 = .*$/m, 'open_prefix6 = 64'],
      )
      for (const [family, of, block] of BLOCKS) {
        const [one, other, outside] = [of(1), of(9), of(99)]
        for (const address of [one, other]) await client.addAddress(`${address}/${family === 'ipv4' ? 32 : 128}`)
        await stranger.addAddress(`${outside}/${family === 'ipv4' ? 32 : 128}`)
        const seen = async () => [
          await sees(SSH, { family, from: other }),
          await sees(SSH, { family, from: one }),
          await sees(SSH, { family, host: stranger, from: outside }),
        ]
        expect(await ask({ port: SSH, once: true }, { family, key, from: one })).toMatchObject({
          msg: 'accepted',
          address: block,
        })
        // One connection of the whole block.
        expect(await seen()).toEqual(['open', 'silence', 'silence'])
        expect(await ask({ port: SSH }, { family, key, from: one })).toMatchObject({ msg: 'accepted', address: block })
        expect(await seen()).toEqual(['open', 'open', 'silence'])
        const ours = async () => (await allStand()).filter(({ address }) => address === block).length
        expect(await ours()).toBe(2)
        await ask({ action: 'close' }, { family, key, from: other })
        expect([await seen(), await ours()]).toEqual([['silence', 'silence', 'silence'], 0])
      }
    },
    async dry({ gate, client, addKeys, reachOutside, ask, does }) {
      await reachOutside()
      const [key = ''] = await addKeys(
        1,
        [/^open_prefix = .*$/m, 'open_prefix = 28'],
        [/^open_prefix6 = .*$/m, 'open_prefix6 = 64'],
      )
      for (const [family, of, block] of BLOCKS) {
        await client.addAddress(`${of(1)}/${family === 'ipv4' ? 32 : 128}`)
        const since = gate.daemon.lines.length
        await ask({ port: SSH }, { family, key, from: of(1) })
        expect(await does('open', since)).toMatchObject({ address: block })
      }
    },
  },
  {
    name: '4,096 leases',
    async real(stage) {
      const { driver, stranger, ask, sees, allStand, gate } = stage
      const { keys, addresses } = await fill(stage)
      const leases = async () => (await allStand()).length
      expect(await leases()).toBe(MOST)
      // Nobody listens there: who is let in is refused.
      const last = MANY.first + MANY.count - 1
      for (const from of [addresses[0], addresses.at(-1)])
        expect([await sees(MANY.first, { from }), await sees(last, { from })]).toEqual(['refused', 'refused'])
      expect(await sees(MANY.first, { host: stranger })).toBe('silence')
      // nftables holds more.
      const isFull = driver.backend !== 'nftables'
      expect(await ask({ port: SSH })).toMatchObject(isFull ? FULL : { msg: 'accepted' })
      await ask({ action: 'close' }, { key: keys[0], from: addresses[0] })
      expect(await ask({ port: WEB })).toMatchObject({ msg: 'accepted' })
      expect([await sees(), await sees(WEB), await sees(MANY.first, { from: addresses[0] })]).toEqual([
        isFull ? 'silence' : 'open',
        'open',
        'silence',
      ])
      // All of them end at once.
      for (const key of keys) rmSync(join(gate.keys, `${key}.key`))
      await until(async () => (await leases()) === (isFull ? 1 : 2), 'all the others have ended')
      expect([await sees(WEB), await sees(MANY.first, { from: addresses.at(-1) })]).toEqual(['open', 'silence'])
    },
    async dry(stage) {
      const { gate, ask, done } = stage
      // By a daemon of its own, whose lines are all of it.
      const { keys } = await fill(stage)
      expect(done(0)).toHaveLength(MOST)
      expect(await ask({ port: SSH })).toMatchObject(FULL)
      for (const key of keys) rmSync(join(gate.keys, `${key}.key`))
      await until(() => done(0).filter((act) => act === 'close').length === MOST, 'all of them have ended')
    },
  },
  {
    name: 'the clock is set back',
    async real(stage) {
      const { gate, ask, sees, stands } = stage
      const since = await atAClock(stage, -HOUR, SHORT)
      await gate.daemon.line(logged('expired', { service: `${SSH}/tcp` }), since)
      expect((await stands()).map(({ door }) => door)).toEqual([`tcp/${WEB}`])
      expect([await sees(), await sees(WEB)]).toEqual(['silence', 'open'])
      await ask({ action: 'close' }, { ahead: -HOUR })
      await stage.restart()
    },
    async dry(stage) {
      const since = await atAClock(stage, -HOUR, SHORT)
      expect(await stage.does('expire', since)).toMatchObject({ port: SSH })
      expect(stage.done(since)).toEqual(['expire'])
      await stage.restart()
    },
  },
  {
    name: 'the clock is set forward',
    async real(stage) {
      const { gate, sees, stands, restart } = stage
      const since = await atAClock(stage, HOUR, 600)
      await gate.daemon.line(logged('expired', { service: `${SSH}/tcp` }), since)
      expect((await stands()).map(({ door }) => door)).toEqual([`tcp/${WEB}`])
      expect([await sees(), await sees(WEB)]).toEqual(['silence', 'open'])
      await restart()
    },
    async dry(stage) {
      const since = await atAClock(stage, HOUR, 600)
      expect(await stage.does('expire', since)).toMatchObject({ port: SSH })
      expect(stage.done(since)).toEqual(['expire'])
      await stage.restart()
    },
  },
  {
    name: 'suspend',
    async real(stage) {
      const { gate, sees, stands, ask, restart, addKeys } = stage
      const since = await atAClock(stage, HOUR, 600, true)
      await gate.daemon.line(logged('expired', { service: `${SSH}/tcp` }), since)
      expect((await stands()).map(({ door }) => door)).toEqual([`tcp/${WEB}`])
      expect([await sees(), await sees(WEB)]).toEqual(['silence', 'open'])
      // Its own key: from now on no other one's knock is too old.
      const [key] = await addKeys(1)
      expect(await ask({ port: SSH }, { key, ahead: HOUR })).toMatchObject({ msg: 'accepted' })
      expect(await sees()).toBe('open')
      await restart()
    },
    async dry(stage) {
      const since = await atAClock(stage, HOUR, 600, true)
      expect(await stage.does('expire', since)).toMatchObject({ port: SSH })
      expect(stage.done(since)).toEqual(['expire'])
      await stage.restart()
    },
  },
  { name: 'the audit line of each', real: audit, dry: audit },
]

/** Blocks of a key, and addresses in them and beside. */
const BLOCKS = [
  ['ipv4', (last: number) => `203.0.113.${last}`, '203.0.113.0/28'],
  ['ipv6', (last: number) => (last < 16 ? `2001:db8:c::${last}` : `2001:db8:c:1::${last}`), '2001:db8:c::/64'],
] as const

/** Leases that iptables holds, by keys with as many as one key may have, each from four addresses. */
const MOST = 4_096
const KEYS = 16
const ADDRESSES = MOST / KEYS / MANY.count
const FULL = { msg: 'refused', refusal: 'not-granted', reason: 'too many leases are in force' }

/** Has so many leases in force, and nothing else. */
async function fill({ renew, reachOutside, addKeys, client, ask, gate }: Stage) {
  // Keys of an attempt before.
  for (const name of readdirSync(gate.keys)) if (name.startsWith('key')) rmSync(join(gate.keys, name))
  await renew()
  await reachOutside()
  const services = Array.from({ length: MANY.count }, (_, i) => `"${MANY.first + i}/tcp"`)
  const keys = await addKeys(KEYS, [/^services = .*$/m, `services = [ ${services} ]`])
  const addresses = Array.from({ length: KEYS * ADDRESSES }, (_, i) => `203.0.113.${128 + i}`)
  for (const address of addresses) await client.addAddress(`${address}/32`)
  for (const [i, key] of keys.entries()) {
    const own = addresses.slice(i * ADDRESSES, (i + 1) * ADDRESSES)
    const said = await Promise.all(own.map((from) => ask({}, { key, from })))
    expect(said.map(({ msg }) => msg)).toEqual(own.map(() => 'accepted'))
  }
  return { keys, addresses }
}

/**
 * Sets the daemon's clock while a lease for so many seconds and one for two hours are in force; gives where its lines from then on begin.
 * @param isAsleep whether it stands still meanwhile
 */
async function atAClock({ gate, ask, clock, restart }: Stage, jump: number, seconds: number, isAsleep = false): Promise<number> {
  const { words, set } = clock()
  await restart('SIGTERM', words)
  // A wait of the ledger's from an attempt before is over.
  await ask({ port: SSH, seconds })
  await ask({ port: WEB, seconds: 2 * HOUR })
  const since = gate.daemon.lines.length
  if (isAsleep) gate.daemon.child.kill('SIGSTOP')
  set(jump)
  if (isAsleep) gate.daemon.child.kill('SIGCONT')
  const said = `the clock jumped ${jump < 0 ? 'back' : 'forward'} by ${HOUR} s`
  await gate.daemon.line((line) => line.startsWith('{"level"') && String(JSON.parse(line).msg).startsWith(said), since)
  return since
}

/** Knocks, and gives what the log says of a firewall that fails. */
async function failing(ask: Stage['ask'], more: Parameters<Stage['ask']>[0]): Promise<Record<string, unknown>> {
  return ask(more, {}, 'cannot change the firewall rules')
}

/** The dry run does what it does whatever becomes of the firewall's programs. */
async function runsNothing({ gate, troublesome, restart, ask, does }: Stage): Promise<void> {
  const { words, cause } = troublesome()
  for (const trouble of ['hangs', { refuses: '' }] as const) {
    cause(trouble)
    await restart('SIGTERM', words)
    const since = gate.daemon.lines.length
    expect(await ask({ port: SSH })).toMatchObject({ msg: 'accepted' })
    expect(await does('open', since)).toMatchObject({ port: SSH })
  }
  await restart()
}

/** The lines of the log by which an administrator knows who was let in, when, and until when: the same of every backend. */
async function audit({ gate, client, ask }: Stage): Promise<void> {
  const line = async (msg: string, since: number) => {
    const { level, time, ...record } = JSON.parse(await gate.daemon.line(logged(msg), since))
    expect([level, new Date(time).getFullYear()]).toEqual([30, new Date().getFullYear()])
    return record
  }
  const whose = { key: 'traveller', address: client.ipv4 }
  const about = { ...whose, fingerprint: expect.stringMatching(/^[0-9a-f]{32}$/), source: client.ipv4 }
  const lease = expect.stringMatching(/^[0-9a-f]{8}$/)
  const end = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/)

  let since = gate.daemon.lines.length
  const opened = { ...about, action: 'open', service: `${SSH}/tcp`, until: end, leases: [lease], once: false, msg: 'accepted' }
  await ask({ port: SSH, seconds: SHORT })
  const first = await line('accepted', since)
  expect(first).toEqual(opened)
  const ended = { ...whose, lease: first.leases[0], service: `${SSH}/tcp` }
  expect(await line('expired', since)).toEqual({ ...ended, msg: 'expired' })

  since = gate.daemon.lines.length
  await ask({ port: WEB, once: true })
  const second = await line('accepted', since)
  expect(second).toEqual({ ...opened, service: `${WEB}/tcp`, once: true })
  since = gate.daemon.lines.length
  await ask({ action: 'close' })
  expect(await line('accepted', since)).toEqual({
    ...{ ...about, action: 'close', service: 'all', until: null, leases: second.leases, msg: 'accepted' },
  })
  expect(await line('closed', since)).toEqual({ ...whose, lease: second.leases[0], service: `${WEB}/tcp`, msg: 'closed' })

  since = gate.daemon.lines.length
  await ask({ action: 'lock', seconds: 60 })
  expect(await line('accepted', since)).toEqual({
    ...{ ...about, action: 'lock', service: 'all', until: end, leases: [], msg: 'accepted' },
  })
  expect(messages(gate.daemon.lines.slice(since))).toEqual(['accepted'])
}

const cells = new Map<string, Cell>()

describe.each(DRIVERS)('$name', (driver) => {
  const hosts = useGate(['client', 'stranger'], (lab) => gateOf(driver, lab))
  afterAll(leave)
  const stage = stageOf(driver, hosts)
  beforeEach(() => hosts.client.moveOn())

  it.each(ROWS.map((row) => [cellName(row.name, driver.name), row] as const))('%s', async (name, row) => {
    cells.set(name, 'failed')
    const nothing = await (BACKENDS[driver.backend].isReal ? row.real : row.dry)(stage)
    cells.set(name, typeof nothing === 'string' ? { nothing } : 'held')
  })
})

afterAll(() => {
  const { text, empty } = drawMatrix(
    ROWS.map(({ name }) => name),
    COLUMNS,
    cells,
  )
  process.stdout.write(`\n${text}\n\n`)
  // A new backend, a new row, and a test that was left out have theirs here.
  expect(empty, 'cells without a test that has run to its end').toEqual([])
})
