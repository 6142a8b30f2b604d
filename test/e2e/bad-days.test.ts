import { readFileSync, rmSync, statSync, truncateSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { clockOf } from '../lab/clock'
import { type Gate, logged, provision } from '../lab/gate'
import type { Host } from '../lab/host'
import { compose, knocked, verdict } from '../lab/knocks'
import { type Lab, makeLab } from '../lab/lab'
import type { Child } from '../lab/processes'
import type { Touch } from '../lab/taps'
import { until } from '../lab/waiters'

const SSH = 22
const KNOCKTURN = fileURLToPath(new URL('../../bin/knockturn', import.meta.url))

let lab: Lab
let server: Host
let client: Host
let stranger: Host
let gate: Gate
let daemon: Child

async function start(options: Parameters<typeof provision>[1]) {
  lab = await makeLab(['client', 'stranger'])
  ;({ server, client, stranger } = lab.hosts as { server: Host; client: Host; stranger: Host })
  await server.service(SSH)
  gate = await provision(lab, options)
  daemon = gate.daemon
}
afterEach(() => lab?.end())

const doors = async () => [(await client.connect(server.ipv4, SSH)).saw, (await stranger.connect(server.ipv4, SSH)).saw]
const SHUT = ['silence', 'silence']
const open = (key = gate.key) => knocked(client, daemon, key, '-p', String(SSH), '-t', '1m')
/** Knocks from one address after another (each is heard so many times a second) until the daemon says this. */
async function openUntil(msg: string, timeoutMs: number): Promise<Record<string, unknown>> {
  let last: Record<string, unknown> = {}
  const isSo = async () => {
    await client.moveOn()
    // A knock that the turn of a window has overtaken is told of only when its sender has been quiet for a while: then the next.
    last = await open().catch(() => ({}))
    return last.msg === msg
  }
  await until(isSo, `a knock that is ${msg}`, timeoutMs)
  return last
}
/** What the daemon has said of its ledger, by the words that tell. */
const said = (words: string) => daemon.lines.filter((line) => line.includes(words)).length

describe('a disk that cannot take the ledger', () => {
  beforeEach(() => start({ disk: '64k' }))

  // The other options stay as they are: in a user's own namespace mount would ask for users that there are not.
  const remount = (options: string) =>
    server.must(['mount', '--options-mode', 'ignore', '-o', `remount,${options}`, dirname(gate.ledger)])
  const filler = () => join(dirname(gate.ledger), 'filler')
  /** Fills it to the last byte. */
  const fill = () => server.run(['dd', 'if=/dev/zero', `of=${filler()}`, 'bs=1k'])
  const restart = async (meanwhile: () => Promise<unknown>) => {
    await daemon.end()
    await meanwhile()
    daemon = await gate.startDaemon()
  }

  /** One knock is refused and said to be; the disk is mended: that knock stays dead, for everybody, and the next one opens. */
  async function expectRecovery(key: string, mend: () => unknown) {
    const { touches } = await compose(client, key, '-p', String(SSH), '-t', '1m')
    const refused = await verdict(daemon, () => client.replay(touches, server.ipv4))
    expect(refused).toMatchObject({ level: 50, refusal: 'ledger-unavailable', source: client.ipv4 })
    expect(await doors()).toEqual(SHUT)
    expect(said('cannot write the ledger, nothing opens until this works again')).toBe(1)

    await mend()
    await expectDead(touches)
    expect([(await open(key)).msg, ...(await doors())]).toEqual(['accepted', 'open', 'silence'])
    expect(said('the ledger is writable again')).toBe(1)
  }

  async function expectDead(touches: Touch[]) {
    await client.replay(touches, server.ipv4)
    expect(await verdict(daemon, () => stranger.replay(touches, server.ipv4))).toMatchObject({ refusal: 'replayed' })
    expect(await doors()).toEqual(SHUT)
  }

  it('since it is full while the daemon runs', async () => {
    const key = await gate.newKey('second')
    await daemon.line(logged('reloaded', { keys: 2 }))
    await fill()
    // A full disk still takes what fits into the last page of a file: some forty knocks.
    expect(await openUntil('refused', 240_000)).toMatchObject({
      refusal: 'ledger-unavailable',
      reason: expect.stringContaining('ENOSPC'),
    })
    await client.moveOn()
    await expectRecovery(key, () => remount('size=1m'))
  })

  it('since it was full when the daemon started', async () => {
    await restart(fill)
    await expectRecovery(gate.key, () => rmSync(filler()))
  })

  it('since it was read-only when the daemon started', async () => {
    await restart(() => remount('ro'))
    await expectRecovery(gate.key, () => remount('rw'))
  })

  it('is complained about once a minute for each key, however often it knocks', async () => {
    await restart(() => remount('ro'))
    await open()
    const since = daemon.lines.length
    const knocks = await Promise.all([1, 2, 3].map(() => compose(client, gate.key, '-p', String(SSH))))
    for (const { touches } of knocks) await client.replay(touches, server.ipv4)
    await remount('rw')
    await open()
    expect(daemon.lines.slice(since).filter(logged('refused'))).toEqual([])
  })

  it('keeps dead what it could not take, after a restart too', async () => {
    await restart(() => remount('ro'))
    const { touches } = await compose(client, gate.key, '-p', String(SSH), '-t', '1m')
    await verdict(daemon, () => client.replay(touches, server.ipv4))
    await remount('rw')
    await restart(async () => {})
    expect(await verdict(daemon, () => client.replay(touches, server.ipv4))).toMatchObject({ refusal: 'replayed' })
    expect(await doors()).toEqual(SHUT)
  })
})

describe('a ledger that was begun by a clock a year ahead', () => {
  // As below: the wait of a minute is short.
  const PERIOD = 20
  const WAIT = 60_000
  beforeEach(() => start({ skew: 0, keyOptions: ['--services', '22/tcp', '--period', String(PERIOD)] }))

  it('opens nothing, by a new key either, until it is rebased; and then nothing that was said before', async () => {
    await daemon.end()
    rmSync(gate.ledger)
    const hasty = server.start(gate.commandBehind(...clockOf('+365d')))
    await hasty.line(logged('ready'))
    await hasty.end()

    daemon = await gate.startDaemon()
    const remedy = 'set the clock right, stop the daemon and run "knockturn ledger rebase"'
    const isRemedy = (line: string) => line.startsWith('{') && String(JSON.parse(line).msg).endsWith(remedy)
    expect(daemon.lines.filter(isRemedy).map((line) => JSON.parse(line).level)).toEqual([50])
    expect(await open()).toMatchObject({ refusal: 'stale', reason: expect.stringContaining(remedy) })
    const key = await gate.newKey('new', '--period', String(PERIOD))
    await daemon.line(logged('reloaded', { keys: 2 }))
    expect(await open(key)).toMatchObject({ refusal: 'stale', reason: expect.stringContaining(remedy) })
    expect((await server.run([KNOCKTURN, 'ledger', 'rebase', '--config', gate.config])).code).toBe(1)

    const { touches } = await compose(client, gate.key, '-p', String(SSH), '-t', '1m')
    await daemon.end()
    await gate.knockturn('ledger', 'rebase', '--config', gate.config)
    const { uid, mode } = statSync(gate.ledger)
    expect([uid, mode & 0o777]).toEqual([gate.user.uid, 0o600])
    daemon = await gate.startDaemon()
    expect(daemon.lines.filter(isRemedy)).toEqual([])
    // As it was said before, from whoever has heard it.
    expect(await verdict(daemon, () => stranger.replay(touches, server.ipv4))).toMatchObject({ refusal: 'stale' })
    await client.replay(touches, server.ipv4)
    expect(await doors()).toEqual(SHUT)
    await openUntil('accepted', WAIT)
    expect(await doors()).toEqual(['open', 'silence'])
  })
})

describe('a ledger that was cut off while the daemon was away', () => {
  // Windows of 20 s and no skew, so that the wait of a minute is one of 20 s at most; a busy machine needs some of it to start.
  const PERIOD = 20
  const WAIT = 60_000
  beforeEach(() => start({ skew: 0, keyOptions: ['--services', '22/tcp', '--period', String(PERIOD)] }))

  /** Waits for a moment with so many seconds left in its window. */
  const withTimeLeft = (seconds: number) =>
    until(() => (Date.now() / 1000) % PERIOD < PERIOD - seconds, 'time in this window', PERIOD * 1000)

  it('opens nothing at first, and later opens again; its bytes are kept', async () => {
    await withTimeLeft(PERIOD / 4)
    expect((await open()).msg).toBe('accepted')
    await knocked(client, daemon, gate.key, '--close')
    await daemon.end()
    const bytes = readFileSync(gate.ledger).subarray(0, -1)
    truncateSync(gate.ledger, bytes.length)
    const { uid } = statSync(gate.ledger)
    await withTimeLeft(PERIOD / 2)
    daemon = await gate.startDaemon()

    expect(said('the ledger is damaged: no knock opens anything for about a minute')).toBe(1)
    const aside = `${gate.ledger}.damaged`
    expect([readFileSync(aside), statSync(aside).mode & 0o777, statSync(aside).uid]).toEqual([bytes, 0o600, uid])
    expect(await open()).toMatchObject({ refusal: 'stale' })
    expect(await doors()).toEqual(SHUT)
    await openUntil('accepted', WAIT)
    expect(await doors()).toEqual(['open', 'silence'])
  })
})
