import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { clockFrom, setClock } from '../lab/clock'
import { logged } from '../lab/gate'
import { compose, knock, knocked, verdict } from '../lab/knocks'
import type { Child } from '../lab/processes'
import { useGate } from './use-gate'

/* A machine that boots with a wrong clock, which is set while the daemon runs: nothing opens before, and then it opens by itself. */

const SSH = 22
const HOUR = 3_600
/** Looks of a daemon that waits for its clock. */
const LOOKS = 3_000

const { server, client, stranger, gate } = useGate(['client', 'stranger'], { serve: [SSH] })
let daemon: Child
let clock: string
let run: string

beforeAll(async () => {
  await gate.daemon.end()
  clock = join(gate.folder, 'clock')
  run = join(gate.folder, 'run')
  mkdirSync(run)
  await server.must(['chown', `${gate.user.uid}:${gate.user.gid}`, run])
})
beforeEach(async () => {
  await client.moveOn()
  await stranger.moveOn()
})
afterEach(() => daemon?.end())

/** Starts it by a clock that is so many seconds off, as a boot does. */
function boot(seconds: number) {
  setClock(clock, seconds)
  daemon = server.start([...gate.commandBehind('env', `RUNTIME_DIRECTORY=${run}`, ...clockFrom(clock))])
  return daemon
}
const to1970 = () => Math.floor(86_400 - Date.now() / 1000)
const open = () => knocked(client, daemon, gate.key, '-p', `${SSH}`, '-t', '1m')
const sees = async () => [(await client.connect(server.ipv4, SSH)).saw, (await stranger.connect(server.ipv4, SSH)).saw]
const SHUT = ['silence', 'silence']
/** What it says that is no more than information. */
const complaints = () =>
  daemon.lines
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line))
    // Of what the lab leaves open: no business of the clock's.
    .filter(({ level, msg }) => level > 30 && !msg.includes('open to everyone'))

describe('a daemon that starts in 1970', () => {
  it('says so in one line, waits, and opens by itself when the clock is set', async () => {
    daemon = await gate.startDaemon()
    const { touches } = await compose(client, gate.key, '-p', `${SSH}`, '-t', '1m')
    await verdict(daemon, () => client.replay(touches, server.ipv4))
    await daemon.end()
    const ledger = readFileSync(gate.ledger, 'utf8')
    await client.moveOn()

    boot(to1970())
    await daemon.line((line) => line.includes('the clock is wrong, 1970-01-0'))
    await client.must(knock(gate, '-p', `${SSH}`, '--passes', '1'))
    await sleep(2 * LOOKS)
    expect([daemon.lines.length, await sees()]).toEqual([1, SHUT])
    // Nobody may take it for one that hears: see fail_open_to.
    expect([readFileSync(gate.ledger, 'utf8'), existsSync(join(run, 'alive'))]).toEqual([ledger, false])

    setClock(clock, 0)
    await daemon.line(logged('ready'))
    expect(await verdict(daemon, () => stranger.replay(touches, server.ipv4))).toMatchObject({ refusal: 'replayed' })
    expect([(await open()).msg, await sees()]).toEqual(['accepted', ['open', 'silence']])
    expect(existsSync(join(run, 'alive'))).toBe(true)
  })

  it('begins no ledger before the clock is set, so that what was sent before opens nothing', async () => {
    rmSync(gate.ledger)
    const { touches } = await compose(client, gate.key, '-p', `${SSH}`, '-t', '1m')
    boot(to1970())
    await daemon.line((line) => line.includes('the clock is wrong'))
    await sleep(LOOKS)
    expect(existsSync(gate.ledger)).toBe(false)
    setClock(clock, 0)
    await daemon.line(logged('ready'))
    expect(await verdict(daemon, () => client.replay(touches, server.ipv4))).toMatchObject({ refusal: 'stale' })
    expect(await sees()).toEqual(SHUT)
    await daemon.end()
    rmSync(gate.ledger)
    daemon = await gate.startDaemon('--new-ledger')
  })

  it('can be ended meanwhile', async () => {
    boot(to1970())
    await daemon.line((line) => line.includes('the clock is wrong'))
    daemon.child.kill('SIGTERM')
    expect(await daemon.exited).toMatchObject({ signal: 'SIGTERM' })
  })
})

describe('a daemon that starts an hour before what its ledger has', () => {
  it('says so in one line, opens nothing, and opens by itself when the clock is set', async () => {
    const second = await gate.newKey('second', '--services', '22/tcp')
    daemon = await gate.startDaemon()
    const { touches } = await compose(client, gate.key, '-p', `${SSH}`, '-t', '1m')
    expect(await verdict(daemon, () => client.replay(touches, server.ipv4))).toMatchObject({ msg: 'accepted' })
    await knocked(client, daemon, second, '-p', `${SSH}`, '-t', '1m')
    await daemon.end()
    await client.moveOn()

    boot(-HOUR)
    await daemon.line(logged('ready'))
    const [line, ...more] = complaints()
    expect([line, more]).toMatchObject([
      { keys: expect.arrayContaining(['second', 'traveller']), msg: expect.stringContaining('set the clock if it is behind') },
      [],
    ])
    // What was sent then, and what is sent now.
    await stranger.replay(touches, server.ipv4)
    await client.must(knock(gate, '-p', `${SSH}`, '--passes', '1'))
    await sleep(LOOKS)
    expect([daemon.lines.some(logged('accepted')), await sees()]).toEqual([false, SHUT])

    setClock(clock, 0)
    // At its next look it has the windows of this time: what comes before that is not heard, and would be sent again.
    await daemon.line((one) => one.includes('the clock jumped'))
    await client.moveOn()
    await stranger.replay(touches, server.ipv4)
    expect([(await open()).msg, await sees()]).toEqual(['accepted', ['open', 'silence']])
  })
})
