// Attacks on the real daemon with its real firewall: one case of each kind that the attacks in one process have in bulk.

import { hkdfSync } from 'node:crypto'
import { appendFileSync, chownSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { base32nopad } from '@scure/base'
import { generateSync } from 'otplib'
import { logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { compose, knock as knockclient } from '../lab/knocks'
import { until } from '../lab/waiters'
import { seededRandom } from '../random'
import { against, anyDoor, type DoorAttack } from './any-door'
import type { Attack, Outcome, Scale } from './attack'
import { clockOf, knockturn, LEASE, openOurs, POOL } from './doors'
import { cafe } from './hosts-cafe'
import { closing } from './hosts-closing'
import { local } from './hosts-local'
import { network } from './hosts-network'
import { rubbishes } from './hosts-rubbish'
import { around } from './hosts-user'
import { MAX_KEY_FILE, revocations } from './revocations'
import type { Stage } from './stage'
import { SSH } from './stage'

/** Milliseconds after which a lease is over: the kernel counts whole seconds. */
const OVER = (LEASE + 2) * 1_000
/** Milliseconds in which the daemon has dealt with what was sent. */
const HEARD = 400
const RENDEZVOUS = 8
/** Of a knock. */
const TAPS = 52
/** Milliseconds from a knock's first tap within which all that it leads to happens. */
const TAP_TO_RULE = 20

export type Ours = Awaited<ReturnType<typeof openOurs>>
export type Recorded = { address: string; packets: string }

/** An attack on our door, with a key of these options. @param others further hosts */
const onOurs =
  (
    attack: (stage: Stage, door: Ours, scale: Scale) => Promise<Outcome>,
    keyOptions: string[] = [],
    others: string[] = [],
  ): ((scale: Scale) => Promise<Outcome>) =>
  (scale) =>
    against({ open: (stage) => openOurs(stage, keyOptions) }, (stage, door) => attack(stage, door, scale), ...others)

/** Counts honest knocks, and those that open. */
function honestly({ user, another, opens }: Stage, door: Ours) {
  const honest = { tried: 0, opened: 0 }
  return {
    honest,
    /** A user knocks from a new address. @param options of knockclient */
    async knock(...options: string[]) {
      const address = await another(user)
      honest.tried++
      honest.opened += Number(await opens(user, address, () => door.client(address, ...door.lease, '--passes', '1', ...options)))
      return address
    },
  }
}

/** Users knock, and the attacker records it; then their leases end. */
async function record(stage: Stage, knock: () => Promise<string>, times: number) {
  const knocks: Recorded[] = []
  for (let i = 0; i < times; i++) {
    const address = await knock()
    knocks.push({ address, packets: await stage.recorded(address) })
  }
  await sleep(OVER)
  return knocks
}

/** Plays recorded knocks from addresses of the attacker's, then from the users' own; counts the doors that open. */
async function playAll(stage: Stage, knocks: Recorded[]) {
  const { user, attacker } = stage
  const [users, attackers] = [knocks.map(({ address }) => address), await many(stage, attacker, knocks.length)]
  for (const sources of [attackers, users])
    for (const [i, { address, packets }] of knocks.entries()) await stage.play(packets, address, sources[i] ?? '')
  await sleep(HEARD)
  const opened = (await stage.open(attacker, attackers)) + (await stage.open(user, users))
  return { tried: 2 * knocks.length, opened }
}

/** So many new addresses of a host. */
async function many({ another }: Stage, host: Host, count: number) {
  const addresses = []
  for (let i = 0; i < count; i++) addresses.push(await another(host))
  return addresses
}

/**
 * Waits until the log has refused what an address has sent: what has not arrived proves nothing.
 * @param broken told where it has not
 */
const refused = ({ daemon }: Ours, source: string, refusal: string, broken: string[]) =>
  daemon
    .line(logged('refused', { source, refusal }))
    .catch(() => broken.push(`the log does not say that ${source} is ${refusal}`))

/** Ends the daemon in order. @returns how many taps it has seen */
async function endHaving(door: Ours) {
  await door.end('SIGTERM')
  const { seen } = JSON.parse(door.lines().findLast(logged('ended')) ?? '{}')
  return Number(seen ?? 0)
}

/**
 * Plays recorded knocks before and after the daemon is killed and started again, and has it open to an honest one then.
 * @param taps of each
 * @param knock the honest one
 */
async function playTwice(stage: Stage, door: Ours, knocks: Recorded[], taps: number, knock: () => Promise<unknown>) {
  const before = await playAll(stage, knocks)
  await door.end('SIGKILL')
  await door.start()
  const after = await playAll(stage, knocks)
  await knock()
  const seen = await endHaving(door)
  const broken = seen < taps * after.tried ? [`the daemon has seen ${seen} taps of ${taps * after.tried} only`] : []
  return { tried: before.tried + after.tried, opened: before.opened + after.opened, broken }
}

// ---- replay

const otherProtocol: Attack = {
  kind: 'replay',
  name: 'packets of a knock, over the other protocol',
  what: 'A listener says by UDP what was said by TCP, and the other way round.',
  run: onOurs(async (stage, door, { times }) => {
    const { honest, knock } = honestly(stage, door)
    const broken: string[] = []
    let [tried, opened] = [0, 0]
    for (let i = 0; i < times(2, 20); i++) {
      for (const [options, protocol] of [
        [[], 'udp'],
        [['--udp'], 'tcp'],
      ] as const) {
        const address = await knock(...options)
        const touches = (await stage.heard(address)).map(({ port }) => ({ protocol, port }))
        const as = await stage.another(stage.attacker)
        await stage.attacker.replay(touches, stage.server.ipv4, as)
        await refused(door, as, 'replayed', broken)
        tried++
        opened += await stage.open(stage.attacker, [as])
      }
    }
    return { tried, opened, honest, broken }
  }),
}

// ---- the window's edge, by faketime: the daemon's clock moves, the kernel's stays

/** The daemon's clock, in seconds or as a moment. */
const CLOCKS = ['-60', '-86400', '@1970-01-02 00:00:00', '+60', '+86400']
/** Seconds that the clock of a hasty user is ahead: its windows are not accepted yet. */
const AHEAD = 90
/** Seconds that the clock of a lost user is wrong: the server's log names it. */
const LOST = 300
/** Milliseconds within which the log names a knock of the past: its session has to end first. */
const QUIET = 30_000
/** Seconds of a lease for one connection: as long as it takes to start the daemon anew, and more. */
const LONG = 120

const edges: Attack[] = [
  {
    kind: 'edge',
    name: "packets of a knock, when the server's clock has moved",
    what: "A listener plays recorded knocks to a daemon whose clock was set back a minute, a day, to 1970, or forward (by faketime; the kernel's clock stays).",
    run: onOurs(async (stage, door, { times }) => {
      const { honest, knock } = honestly(stage, door)
      const knocks = await record(stage, knock, times(2, 10))
      const broken: string[] = []
      let [tried, opened] = [0, 0]
      await door.end('SIGTERM')
      for (const clock of CLOCKS) {
        const starts = await door.start(clockOf(clock)).then(
          () => true,
          () => false,
        )
        if (starts === clock.startsWith('@')) broken.push(`at ${clock} the daemon ${starts ? 'starts' : 'does not start'}`)
        const played = await playAll(stage, knocks)
        tried += played.tried
        opened += played.opened
        const seen = await endHaving(door)
        if (starts && seen < TAPS * played.tried) broken.push(`at ${clock} the daemon has seen ${seen} taps only`)
      }
      await door.start()
      await knock()
      return { tried, opened, honest, broken, note: "the daemon's clock alone moved" }
    }),
  },
  {
    kind: 'edge',
    name: 'packets of a knock from the future, when its time has come',
    what: "A listener keeps the knock of a user whose clock is ahead, and plays it when the server's clock has come so far (by faketime).",
    run: onOurs(async (stage, door, { times }) => {
      const { honest, knock } = honestly(stage, door)
      const knocks: Recorded[] = []
      const broken: string[] = []
      for (let i = 0; i < times(3, 10); i++) {
        const address = await stage.another(stage.user)
        await door.client(address, ...door.lease, '--passes', '1', '--time-offset', String(AHEAD))
        await door.daemon.line(logged('refused', { refusal: 'future', source: address }))
        knocks.push({ address, packets: await stage.recorded(address) })
      }
      for (const [way, offset] of Object.entries({ ahead: LOST, behind: -LOST })) {
        const lost = await stage.another(stage.user)
        const answers = await stage.answers(lost, async () => {
          await door.client(lost, ...door.lease, '--passes', '1', '--time-offset', String(offset))
          const { clock } = JSON.parse(await door.daemon.line(logged('refused', { source: lost }), 0, QUIET))
          const [, seconds, said] = /clock is (\d+) s (\w+)/.exec(clock) ?? []
          if (!(Math.abs(Number(seconds) - LOST) <= 30) || said !== way)
            broken.push(`a clock ${LOST} s ${way} is said to be: ${clock}`)
        })
        if (answers !== 0) broken.push(`who is ${LOST} s ${way} has got ${answers} packets from the server`)
      }
      await door.end('SIGTERM')
      await door.start(clockOf(`+${AHEAD}`))
      const played = await playAll(stage, knocks)
      const seen = await endHaving(door)
      if (seen < TAPS * played.tried) broken.push(`the daemon has seen ${seen} taps only`)
      await door.start()
      await knock()
      return { ...played, honest, broken }
    }),
  },
  {
    kind: 'edge',
    name: 'packets of a second connection, by a lease for one',
    what: "Somebody behind the user's address connects after him, whose lease is for one connection: at once, while the daemon is dead, and when it has been started again.",
    run: onOurs(async (stage, door, { times }) => {
      const { user } = stage
      const addresses = await many(stage, user, times(3, 20))
      const honest = { tried: addresses.length, opened: 0 }
      for (const address of addresses) {
        await door.client(address, '-p', String(SSH), '-t', `${LONG}s`, '--once', '--passes', '1')
        await door.daemon.line(logged('accepted', { source: address, once: true }))
        honest.opened += Number((await user.connect(stage.server.ipv4, SSH, 1_000, address)).saw === 'open')
      }
      let opened = await stage.open(user, addresses)
      for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
        await door.end(signal)
        opened += await stage.open(user, addresses)
        await door.start()
        opened += await stage.open(user, addresses)
      }
      // The rules are there still: it is the kernel's count that shuts them.
      const rules = (await leaseRules(stage)).length
      const broken = rules === addresses.length ? [] : [`of ${addresses.length} leases ${rules} are left`]
      return { tried: 5 * addresses.length, opened, honest, broken }
    }),
  },
]

// ---- crash

const leaseRules = async ({ server }: Stage) =>
  (await server.must(['iptables', '-S', 'KNOCKTURN-LEASES'])).split('\n').filter((rule) => rule.includes(' -s '))

const DAMAGES: Record<string, (ledger: string) => void> = {
  missing: (ledger) => rmSync(ledger),
  empty: (ledger) => truncateSync(ledger),
  'cut off': (ledger) => truncateSync(ledger, readFileSync(ledger).length - 10),
  'a bit flipped': (ledger) => {
    const bytes = readFileSync(ledger)
    bytes[Math.floor(bytes.length / 2)] ^= 1
    writeFileSync(ledger, bytes)
  },
  'something else': (ledger) => writeFileSync(ledger, 'something else\n'.repeat(100)),
}

/** What becomes of a small disk, and what mends it. */
export type Change = (host: Stage['server'], disk: string) => Promise<unknown>
/** The other options stay: in a user's own namespace mount would ask for users that there are not. */
const remount: (options: string) => Change = (options) => (host, disk) =>
  host.must(['mount', '--options-mode', 'ignore', '-o', `remount,${options}`, disk])
const fill: Change = (host, disk) => host.run(['dd', 'if=/dev/zero', `of=${join(disk, 'filler')}`, 'bs=1k'])
const clear: Change = async (_, disk) => rmSync(join(disk, 'filler'))

/**
 * A listener plays what was accepted before the disk took no more, and what was refused since: then, and when the disk is well
 * again.
 * @param error the system's word for it
 */
const onSpoiled =
  (spoil: Change, mend: Change, error: string) =>
  ({ times }: Scale) =>
    against({ open: (stage: Stage) => openOurs(stage, [], { disk: '64k' }) }, async (stage, door) => {
      const { honest, knock } = honestly(stage, door)
      const knocks = await record(stage, knock, times(2, 10))
      const disk = dirname(door.gate.ledger)
      const broken: string[] = []
      await door.end('SIGTERM')
      await spoil(stage.server, disk)
      await door.start()
      for (let i = 0; i < times(2, 10); i++) {
        const address = await stage.another(stage.user)
        await door.client(address, ...door.lease, '--passes', '1')
        knocks.push({ address, packets: await stage.recorded(address) })
      }
      const refused = JSON.parse(await door.daemon.line(logged('refused', { refusal: 'ledger-unavailable' })))
      if (!String(refused.reason).includes(error)) broken.push(`the log says ${refused.reason}, and not ${error}`)
      const played = [await playAll(stage, knocks)]
      await mend(stage.server, disk)
      played.push(await playAll(stage, knocks))
      await knock()
      // What was refused meanwhile is on the disk by now.
      await door.end('SIGKILL')
      await door.start()
      played.push(await playAll(stage, knocks))
      await knock()
      const [tried, opened] = [
        played.reduce((sum, { tried }) => sum + tried, 0),
        played.reduce((sum, { opened }) => sum + opened, 0),
      ]
      return { tried, opened, honest, broken }
    })

const crashes: Attack[] = [
  {
    kind: 'crash',
    name: 'packets of a knock, on a full disk',
    what: 'A listener plays what was knocked before and while the disk under the ledger was full, and after.',
    run: onSpoiled(fill, clear, 'ENOSPC'),
  },
  {
    kind: 'crash',
    name: 'packets of a knock, on a read-only disk',
    what: 'A listener plays what was knocked before and while the disk under the ledger was read-only, and after.',
    run: onSpoiled(remount('ro'), remount('rw'), 'EROFS'),
  },
  {
    kind: 'crash',
    name: 'kill -9 between tap and rule',
    what: 'The daemon is killed at a random moment after the first tap of a knock; whoever has heard the knock plays it to the next daemon, and wants a second opening.',
    run: onOurs(async (stage, door, { times }) => {
      const { user, attacker, server } = stage
      const { honest, knock } = honestly(stage, door)
      const random = seededRandom(9)
      const at = { 'before it was written': 0, 'between ledger and rule': 0, 'with the rule in force': 0 }
      let [tried, opened] = [0, 0]
      for (let i = 0; i < times(20, 300); i++) {
        const [address, as] = [await stage.another(user), await stage.another(attacker)]
        // The address is named: what was not heard at all is nobody else's to play.
        const { touches } = await compose(user, door.gate.key, ...door.lease, '-i', address)
        const sent = user.replay(touches, server.ipv4, address)
        await sleep(random() * TAP_TO_RULE)
        await door.end('SIGKILL')
        await sent
        const wasOpen = (await leaseRules(stage)).some((rule) => rule.includes(` -s ${address}/32 `))
        await server.must(['iptables', '-F', 'KNOCKTURN-LEASES'])
        await door.start()
        // The listener first; then the user, whom a knock that was never written down still serves.
        await attacker.replay(touches, server.ipv4, as)
        await sleep(HEARD / 4)
        await user.replay(touches, server.ipv4, address)
        await sleep(HEARD)
        const [isIn, isOpen] = (await Promise.all([stage.open(attacker, [as]), stage.open(user, [address])])).map(Boolean)
        at[isOpen ? 'before it was written' : wasOpen ? 'with the rule in force' : 'between ledger and rule']++
        tried++
        opened += Number(isIn || (wasOpen && isOpen))
      }
      await knock()
      const note = Object.entries(at).map(([when, count]) => `${count} ${when}`)
      return { tried, opened, honest, note: `killed ${note.join(', ')}` }
    }),
  },
  {
    kind: 'crash',
    name: 'packets of a knock, after the ledger was damaged',
    what: 'The ledger is deleted, emptied, cut off, changed or replaced while the daemon is down, and a listener plays what it knew.',
    run: onOurs(async (stage, door) => {
      const { honest, knock } = honestly(stage, door)
      const knocks = await record(stage, knock, 1)
      const { ledger } = door.gate
      const broken: string[] = []
      let [tried, opened] = [0, 0]
      await door.end('SIGKILL')
      const sound = readFileSync(ledger)
      for (const [damage, make] of Object.entries(DAMAGES)) {
        const since = door.lines().length
        make(ledger)
        // It has to start and to hear: a daemon that doesn't is shut, and proves nothing.
        await door.start()
        const played = await playAll(stage, knocks)
        tried += played.tried
        opened += played.opened
        const seen = await endHaving(door)
        if (seen < TAPS * played.tried) broken.push(`${damage}: the daemon has seen ${seen} taps only`)
        const what = `the ledger is ${damage === 'missing' ? 'missing' : 'damaged'}: nothing that was sent before`
        const told = door
          .lines()
          .slice(since)
          .filter((line) => line.includes(what))
        if (told.length !== 1) broken.push(`${damage}: the log says "${what}" ${told.length} times`)
        writeFileSync(ledger, sound)
        chownSync(ledger, door.gate.user.uid, door.gate.user.gid)
      }
      await door.start()
      await knock()
      return { tried, opened, honest, broken }
    }),
  },
]

// ---- forgery

const forgeries: Attack[] = [
  {
    kind: 'forgery',
    name: 'packets of two knocks, spliced',
    what: 'A listener mixes the ports of two knocks of one window, and ports of his own choice behind the rendezvous that he has heard.',
    run: onOurs(
      async (stage, door, { times }) => {
        const { server, attacker, another } = stage
        const { honest, knock } = honestly(stage, door)
        const random = seededRandom(4)
        const listen = async () => (await stage.heard(await knock())).map(({ port }) => port)
        let [one, two] = [await listen(), await listen()]
        const shared = () => one.filter((port) => two.includes(port))
        // The window may have turned between them: then it has not between the next two.
        if (shared().length < RENDEZVOUS) [one, two] = [two, await listen()]
        const rendezvous = shared()
        const pick = () => POOL[Math.floor(random() * POOL.length)] ?? NaN
        let [tried, opened] = [0, 0]
        for (let i = 0; i < times(10, 100); i++) {
          const mixed = one.map((port, at) => (random() < 0.5 ? port : (two[at] ?? port)))
          const ports = [...rendezvous, ...(i % 2 ? mixed.slice(RENDEZVOUS) : one.slice(RENDEZVOUS).map(pick))]
          const as = await another(attacker)
          await attacker.replay(
            ports.map((port) => ({ protocol: 'tcp', port })),
            server.ipv4,
            as,
          )
          tried++
          await sleep(HEARD)
          opened += await stage.open(attacker, [as])
        }
        await knock()
        return {
          tried,
          opened,
          honest,
          broken: rendezvous.length < RENDEZVOUS ? ['two knocks of one window do not share 8 ports'] : [],
        }
      },
      ['--period', '300'],
    ),
  },
  {
    kind: 'forgery',
    name: 'knocks of another server label',
    what: "Somebody has a server's secret, under the label of another server, where the same secret is in use.",
    run: onOurs(async (stage, door, { times }) => {
      const { honest, knock } = honestly(stage, door)
      const theirs = join(door.gate.folder, 'theirs.key')
      writeFileSync(theirs, readFileSync(door.gate.key, 'utf8').replace('gate.example', 'other.example'), { mode: 0o600 })
      let [tried, opened] = [0, 0]
      for (let i = 0; i < times(5, 50); i++) {
        const as = await stage.another(stage.attacker)
        await stage.speakFrom(stage.attacker, as)
        await stage.attacker.must(knockclient({ key: theirs }, '-r', stage.server.ipv4, ...door.lease, '--passes', '1'))
        await sleep(HEARD)
        tried++
        opened += await stage.open(stage.attacker, [as])
      }
      await knock()
      return { tried, opened, honest }
    }),
  },
]

/** Milliseconds after which the rules of a key that is dead at once are gone. */
const DEAD = 5_000
/** Seconds of a lease that does not end by itself. */
const LASTING = 600

const revoked: Attack = {
  kind: 'forgery',
  name: 'packets of a key revoked in a file that is no key',
  what: 'Somebody goes on knocking with a key whose file says that it is revoked, and is in no encoding, form or length of a key file; the daemon has opened to him.',
  run: onOurs(async (stage, door) => {
    const { user, server, another, speakFrom } = stage
    const { gate, daemon } = door
    const { honest, knock } = honestly(stage, door)
    const options = ['--services', `${SSH}/tcp`]
    const ways: ((path: string, id: string) => unknown)[] = Object.values(revocations).map(
      (form) => (path) => writeFileSync(path, form(readFileSync(path, 'utf8'))),
    )
    ways.push(async (path, id) => {
      writeFileSync(path, readFileSync(path, 'utf8').padEnd(MAX_KEY_FILE, '\n'))
      await gate.knockturn('key', 'revoke', id, '--keys', gate.keys)
    })
    const broken: string[] = []
    let opened = 0
    for (const [i, revoke] of ways.entries()) {
      const id = `gone${i}`
      const key = await gate.newKey(id, ...options)
      await daemon.line(logged('reloaded', { keys: i + 2 }))
      const send = async (address: string) => {
        await speakFrom(user, address)
        await user.must(knockclient({ key }, '-r', server.ipv4, '-p', String(SSH), '-t', `${LASTING}s`, '--passes', '1'))
      }
      const [first, second] = [await another(user), await another(user)]
      honest.tried++
      honest.opened += Number(await stage.opens(user, first, () => send(first)))
      await revoke(join(gate.keys, `${id}.key`), id)
      const isGone = async () => !(await leaseRules(stage)).some((rule) => rule.includes(`:${id}:`))
      await until(isGone, 'no rule is left', DEAD).catch(() => opened++)
      await send(second)
      await refused(door, second, 'revoked', broken)
      opened += await stage.open(user, [second])
    }
    await knock()
    return { tried: 2 * ways.length, opened, honest, broken }
  }),
}

// ---- the delayed knock

/** Somebody on the path keeps what an address sends from the server while something is done; what he does with it is his. */
async function heldBack({ server }: Stage, address: string, work: () => Promise<unknown>) {
  const rule = ['PREROUTING', '-s', address, '-j', 'DROP']
  await server.must(['iptables', '-t', 'raw', '-A', ...rule])
  await work()
  await server.must(['iptables', '-t', 'raw', '-D', ...rule])
}

const delays: Attack[] = [
  {
    kind: 'delay',
    name: 'packets of a knock that was held back, with require_address',
    what: 'Somebody on the path stops a knock and delivers it from his own address within its window: what names another address opens nothing and costs the user nothing, what names none is refused.',
    run: onOurs(
      async (stage, door, { times }) => {
        const { user, attacker, another } = stage
        const honest = { tried: 0, opened: 0 }
        const broken: string[] = []
        let [tried, opened] = [0, 0]
        for (let i = 0; i < times(3, 30); i++) {
          for (const isNamed of [true, false]) {
            const [address, as] = [await another(user), await another(attacker)]
            await heldBack(stage, address, () =>
              door.client(address, ...door.lease, '--passes', '1', ...(isNamed ? ['-i', address] : [])),
            )
            const packets = await stage.recorded(address)
            await stage.play(packets, address, as)
            await refused(door, as, isNamed ? 'address-mismatch' : 'not-granted', broken)
            tried++
            opened += await stage.open(attacker, [as])
            if (!isNamed) continue
            // At last it comes through.
            honest.tried++
            honest.opened += Number(await stage.opens(user, address, () => stage.play(packets, address, address)))
          }
        }
        return { tried, opened, honest, broken }
      },
      ['--require-address'],
    ),
  },
  {
    kind: 'delay',
    name: 'packets of a knock that was held back until its window was over',
    what: "Somebody on the path stops a knock that names no address, and delivers it a minute and a half later (by faketime; the kernel's clock stays).",
    run: onOurs(async (stage, door, { times }) => {
      const { user, another } = stage
      const { honest, knock } = honestly(stage, door)
      await knock()
      const knocks: Recorded[] = []
      for (let i = 0; i < times(3, 10); i++) {
        const address = await another(user)
        await heldBack(stage, address, () => door.client(address, ...door.lease, '--passes', '1'))
        knocks.push({ address, packets: await stage.recorded(address) })
      }
      await door.end('SIGTERM')
      await door.start(clockOf(`+${AHEAD}`))
      const played = await playAll(stage, knocks)
      const seen = await endHaving(door)
      return { ...played, honest, broken: seen < TAPS * played.tried ? [`the daemon has seen ${seen} taps only`] : [] }
    }),
  },
]

// ---- cancelling others

/** Forged taps that are sent in the middle of a pass: up to the first number we promise that the knock opens by its second pass. */
const FORGED = [30, 60, 120, 240]
/** Milliseconds between the passes of a knock. */
const PASSES = 1_000

const cancel: Attack = {
  kind: 'cancel',
  name: "packets from the user's own address in the middle of his knock",
  what: "Somebody who can send from the user's address sends ports of his own choice, the same ones, after the first half of each pass of the user's knock.",
  run: onOurs(async (stage, door, { times }) => {
    const { user } = stage
    const random = seededRandom(6)
    const honest = { tried: 0, opened: 0 }
    const seen: string[] = []
    let tried = 0
    for (const count of FORGED) {
      const sources = await many(stage, user, times(3, 20))
      /** One of them knocks; half of each pass comes before the forged taps. */
      const knock = async (source: string) => {
        const { touches } = await compose(user, door.gate.key, ...door.lease)
        const ports = touches.map(({ port }) => port)
        const half = ports.length / 2
        const forged = Array.from({ length: count }, () => POOL[Math.floor(random() * POOL.length)] ?? NaN)
        const packets = [...ports.slice(0, half), ...forged, ...ports.slice(half)].map((port) => ({ source, port }))
        const pass = stage.pack(packets)
        const twice = async () => {
          await stage.play(pass, source, source)
          await sleep(PASSES)
          await stage.play(pass, source, source)
        }
        return stage.opens(user, source, twice, PASSES)
      }
      const opened = (await Promise.all(sources.map(knock))).filter(Boolean).length
      tried += 2 * count * sources.length
      if (count === FORGED[0]) {
        honest.tried += sources.length
        honest.opened += opened
      }
      seen.push(`${opened} of ${sources.length} open with ${count}`)
    }
    return { tried, opened: 0, honest, note: `forged taps in each pass: ${seen.join(', ')}` }
  }),
}

// ---- injection

const PREFIX = 'KNOCK: '
/** A line as the kernel writes it. */
const logLine = (source: string, destination: string, port: number) =>
  `${PREFIX}IN=eth0 OUT= MAC=02:00:00:00:00:01 SRC=${source} DST=${destination} LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=7 DF PROTO=TCP SPT=40000 DPT=${port} WINDOW=64240 RES=0x00 SYN URGP=0 `
const STAMP = 'Nov 22 21:00:00 gate'

/** What a local user makes of a line, by way of syslog or of a terminal. */
const FORGERIES: ((line: string) => string)[] = [
  (line) => `${STAMP} kernel: ${line}\n`,
  (line) => `${STAMP} mallory: ${line}\n`,
  (line) => `${STAMP} mallory: hello\n${STAMP} kernel: ${line}\n`,
  (line) => `${line.slice(0, 60)}${line}\n`,
  (line) => `${line.slice(0, -40)}\n`,
]

const injection: Attack = {
  kind: 'injection',
  name: 'lines forged in the followed file',
  what: 'A local user who can write to syslog writes the lines of a recorded knock and of random ports, with any address as their source.',
  run: onOurs(async (stage, door, { times }) => {
    const { user, attacker, server, another } = stage
    const { gate } = door
    const random = seededRandom(7)
    await door.end('SIGTERM')
    const file = join(gate.folder, 'knocks.log')
    writeFileSync(file, '')
    const taps = `[taps]\nsource = "file"\nfile = ${JSON.stringify(file)}\nprefix = ${JSON.stringify(PREFIX)}\n`
    writeFileSync(gate.config, readFileSync(gate.config, 'utf8').replace(/\[taps\][^[]*/, taps))
    await gate.knockturn('firewall', 'install', '--config', gate.config)
    await door.start()
    const honest = { tried: 0, opened: 0 }
    let [tried, opened] = [0, 0]
    const write = (source: string, ports: number[], forge: (line: string) => string) =>
      appendFileSync(file, ports.map((port) => forge(logLine(source, server.ipv4, port))).join(''))
    for (let i = 0; i < times(2, 20); i++) {
      const address = await another(user)
      const { touches } = await compose(user, gate.key, ...door.lease)
      const ports = touches.map(({ port }) => port)
      write(address, ports, (line) => `${STAMP} kernel: ${line}\n`)
      honest.tried++
      honest.opened += Number(await stage.opens(user, address))
      for (const forge of FORGERIES) {
        for (const lines of [ports, Array.from({ length: 500 }, () => POOL[Math.floor(random() * POOL.length)] ?? NaN)]) {
          const as = await another(attacker)
          write(as, lines, forge)
          await sleep(HEARD)
          tried++
          opened += await stage.open(attacker, [as])
        }
      }
    }
    // Once a minute for each knock.
    const replayed = door.lines().filter(logged('refused', { refusal: 'replayed' })).length
    const broken = replayed < honest.tried ? [`of ${honest.tried} forged knocks ${replayed} are said to be replayed`] : []
    return { tried, opened, honest, broken }
  }),
}

// ---- honest company

const company: Attack[] = [
  {
    kind: 'company',
    name: 'two users behind one NAT address',
    what: 'Two users with keys of their own knock in the same moment from behind one router: nobody attacks, both doors must open, and the log must not be alarmed.',
    run: onOurs(
      async (stage, door, { times }) => {
        const { server, user, lab, attacker } = stage
        const { alice, bob } = lab.hosts
        const doors = [SSH, SSH + 1]
        await server.service(doors[1])
        const keys = [door.gate.key, await door.gate.newKey('bob', '--services', `${doors[1]}/tcp`, '--max', '1h')]
        await door.daemon.line(logged('reloaded', { keys: 2 }))
        // The user's host is the router: its neighbours reach the server only through it.
        await user.must(['sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward'])
        await user.must(['iptables', '-t', 'nat', '-A', 'POSTROUTING', '-s', '10.0.0.0/24', '-j', 'MASQUERADE'])
        await user.addAddress('10.0.0.1/24')
        for (const [i, host] of [alice, bob].entries()) {
          await host.addAddress(`10.0.0.${i + 2}/24`)
          await host.must(['ip', 'route', 'replace', `${server.ipv4}/32`, 'via', '10.0.0.1', 'src', `10.0.0.${i + 2}`])
        }
        const honest = { tried: 0, opened: 0 }
        let tried = 0
        for (let i = 0; i < times(2, 20); i++) {
          const users = [alice, bob].map((host, at) => ({ host, port: doors[at] ?? SSH, key: keys[at] ?? '' }))
          const knocks = users.map(({ host, port, key }) =>
            host.must(knockclient({ key }, '-p', String(port), '-t', `${LEASE}s`)),
          )
          // Looked at meanwhile: the first pass opens, and what it opens may be shut again after the second.
          const doorsOpen = users.map(({ host, port }) =>
            host.becomes(server.ipv4, port, 'open').then(
              () => true,
              () => false,
            ),
          )
          await Promise.all(knocks)
          const opened = await Promise.all(doorsOpen)
          honest.tried += opened.length
          honest.opened += opened.filter(Boolean).length
          tried++
          await sleep(OVER)
        }
        const refused = door.lines().filter(logged('refused'))
        return { tried, opened: await stage.open(attacker, [attacker.ipv4]), honest, broken: refused }
      },
      [],
      ['alice', 'bob'],
    ),
  },
]

// ---- policy

/** What a key that may open 22/tcp for an hour may not ask. */
const TOO_MUCH: Record<string, (stage: Stage) => string[]> = {
  'another port': () => ['-p', '443', '-t', '1m'],
  'another protocol': () => ['-p', '22', '--protocol', 'udp', '-t', '1m'],
  'too long': () => ['-p', '22', '-t', '2h'],
  'until closed': () => ['-p', '22', '-t', '0'],
  "another's address": ({ attacker }) => ['-p', '22', '-t', '1m', '-i', attacker.ipv4],
  "the server's address": ({ server }) => ['-p', '22', '-t', '1m', '-i', server.ipv4],
  loopback: () => ['-p', '22', '-t', '1m', '-i', '127.0.0.1'],
  'an IPv6 address': ({ attacker }) => ['-p', '22', '-t', '1m', '-i', attacker.ipv6],
  'a lock': () => ['--lock', '-t', '1m'],
}

const policy: Attack = {
  kind: 'policy',
  name: 'requests outside the grant',
  what: 'The holder of a key asks for more than its grant has: ports, protocols, lifetimes, addresses, a lock.',
  run: onOurs(async (stage, door) => {
    const { honest, knock } = honestly(stage, door)
    const broken: string[] = []
    let [tried, opened] = [0, 0]
    for (const [what, options] of Object.entries(TOO_MUCH)) {
      const address = await stage.another(stage.user)
      await door.client(address, ...options(stage), '--passes', '1', '--force')
      await door.daemon.line(logged('refused', { source: address })).catch(() => broken.push(`${what}: is not refused`))
      tried++
      opened += (await leaseRules(stage)).length
    }
    await knock()
    return { tried, opened, honest, broken }
  }),
}

// ---- datagram

const DATAGRAMS = 443

const datagram: Attack = {
  kind: 'datagram',
  name: 'packets of a datagram',
  what: "A listener plays recorded datagram knocks from addresses of his own and from their users', before and after the daemon is killed and started again.",
  run: (scale) =>
    against({ open: (stage) => openOurs(stage, [], { more: `[datagram]\nports = [${DATAGRAMS}]\n` }) }, async (stage, door) => {
      const { honest, knock } = honestly(stage, door)
      const byDatagram = () => knock('--datagram', String(DATAGRAMS))
      const knocks = await record(stage, byDatagram, scale.times(3, 30))
      return { honest, ...(await playTwice(stage, door, knocks, 1, byDatagram)) }
    }),
}

/** A passcode's PIN, its first port, and its taps. */
const PIN = '0417'
const PASSCODE_BASE = 48_000
const DIGITS = 12

/** Gives the door's key a passcode. @returns what touches the ports of PIN and the code of now */
async function enrol(door: Ours) {
  const { keys, config, knockturn } = door.gate
  const file = join(keys, 'traveller.key')
  const secret = base32nopad.decode(/^secret = "(\w+)"/m.exec(readFileSync(file, 'latin1'))?.[1] ?? '')
  // docs/protocol.md, "Derivation".
  const totp = new Uint8Array(hkdfSync('sha256', secret, 'knockturn/1', 'totp\0gate.example', 20))
  const since = door.daemon.lines.length
  appendFileSync(file, `\n[passcode]\npin = "${PIN}"\ntime = "${LEASE}s"\nonce = false\n`)
  await door.daemon.line(logged('reloaded'), since)
  await knockturn('firewall', 'install', '--config', config)
  return () => {
    const code = generateSync({ secret: totp, algorithm: 'sha1', digits: 8, period: 30, epoch: Math.floor(Date.now() / 1000) })
    return Array.from(PIN + code, (digit, i) => ({ protocol: 'tcp', port: PASSCODE_BASE + 10 * i + Number(digit) }))
  }
}

const passcode: Attack = {
  kind: 'passcode',
  name: 'packets of a passcode',
  what: "A listener plays a recorded passcode from an address of his own and from its user's, before and after the daemon is killed and started again.",
  run: onOurs(async (stage, door) => {
    const { user, server } = stage
    const { honest, knock } = honestly(stage, door)
    const touches = await enrol(door)
    const address = await stage.another(user)
    honest.tried++
    honest.opened += Number(await stage.opens(user, address, () => user.replay(touches(), server.ipv4, address)))
    const knocks = [{ address, packets: await stage.recorded(address) }]
    await sleep(OVER)
    return { honest, ...(await playTwice(stage, door, knocks, DIGITS, knock)) }
  }),
}

/** An attack that any door can be put to, at ours. */
const atOurs = ({ kind, name, what, alarms, run }: DoorAttack): Attack => ({
  kind,
  name,
  what,
  run: async (scale) => {
    const { broken = [], ...outcome } = await run(knockturn, scale)
    const { replayed = 0 } = outcome.said ?? {}
    const isSo = alarms === undefined || replayed === (alarms ? outcome.tried : 0)
    return { ...outcome, broken: isSo ? broken : [...broken, `of ${outcome.tried} tries ${replayed} are said to be replayed`] }
  },
})

/** Every attack on our real daemon but floods. */
export const hosts: Attack[] = [
  ...anyDoor.map(atOurs),
  otherProtocol,
  ...edges,
  ...crashes,
  ...forgeries,
  revoked,
  ...delays,
  cancel,
  injection,
  ...local,
  ...company,
  ...closing,
  ...rubbishes,
  policy,
  datagram,
  passcode,
  ...cafe,
  ...network,
  ...around,
]
