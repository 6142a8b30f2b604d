import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { bytesToHex } from '@noble/hashes/utils.js'
import { describe, expect, it } from 'vitest'
import { parseKeyFile } from '../../src/keys/key-file'
import { windowAt } from '../../src/protocol/key'
import { compose } from '../../src/protocol/knock'
import type { Request } from '../../src/protocol/request'
import { keyText, put, scratch, secretOf } from '../system/scratch'
import { RunningDaemon, run } from './programs'

const SOURCE = '198.51.100.2'
const GRANT = ['services = ["22/tcp", "53/udp"]', 'max = "1h"', 'allow_until_closed = true', 'lock = true'].join('\n')

/** A server of its own: config, keyring, and where its ledger will be. */
function server({ config = '', ids = ['alice'], grant = GRANT, never = '' } = {}) {
  const folder = scratch()
  const keys = join(folder, 'keys')
  mkdirSync(keys, { mode: 0o700 })
  const addKey = (id: string) =>
    put(keys, `${id}.key`, keyText({ id, secret: secretOf(id.length), more: 'host = "gate.invalid"\n', grant }))
  for (const id of ids) addKey(id)
  const text = `server = "gate.example"
keys = "keys"
${never}
[taps]
source = "stdin"
[firewall]
backend = "dry-run"
[ledger]
path = "ledger"
${config}`
  const file = put(folder, 'knockturn.toml', text, 0o644)
  const start = (...args: string[]) => new RunningDaemon(['--config', file, ...args])
  const run = () => start('--new-ledger').ready()
  return { folder, keys, file, text, addKey, start, run, ledger: join(folder, 'ledger') }
}

const REQUEST: Request = { action: 'open', protocol: 'any', once: false, salt: 1, port: 22, seconds: 600, address: '0.0.0.0' }

function keyOf(id: string) {
  const { value } = parseKeyFile(id, keyText({ id, secret: secretOf(id.length) }))
  if (!value) throw new Error('the test’s own key is faulty')
  return value.key
}

/** The packets of a knock as the kernel logs them. */
function packets(ports: readonly number[], source = SOURCE): string {
  const ip = source.includes(':')
    ? `SRC=${source} DST=2001:db8::1 LEN=80 TC=0 HOPLIMIT=64 FLOWLBL=1`
    : `SRC=${source} DST=198.51.100.1 LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=7 DF`
  return ports
    .map((port) => `KNOCK: IN=v0 OUT= ${ip} PROTO=TCP SPT=40000 DPT=${port} WINDOW=64240 RES=0x00 SYN URGP=0 \n`)
    .join('')
}
let salt = 0
/** A knock of this moment, or of a window before or after it. */
function knock(part: Partial<Request> = {}, { id = 'alice', source = SOURCE, shift = 0 } = {}): string {
  const key = keyOf(id)
  const request = { ...REQUEST, salt: ++salt, ...part }
  return packets(compose(key, windowAt(Date.now() / 1000, key.period) + shift, request), source)
}

const did = (what: string) => (line: Record<string, unknown>) => line.do === what
const refused = (refusal: string) => (line: Record<string, unknown>) => line.refusal === refusal
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/

it('a line of the log shows no character that is not seen', async () => {
  const { keys, run: serve } = server()
  put(keys, 'a\u202e\u200b', '')
  const daemon = await serve()
  const [line] = daemon.log.all.filter((text) => text.includes('ignored: not named <id>.key'))
  expect(line).toMatch(/^[ -~]+$/)
  expect(line).toContain('a\\u202e\\u200b')
})

describe('a knock', () => {
  it('that knockclient prints opens what it asks', async () => {
    const { keys, run: serve } = server()
    const daemon = await serve()
    const args = ['-k', join(keys, 'alice.key'), '-p', '22', '-t', '10', '--dry-run', '--json']
    daemon.feed(packets(JSON.parse((await run('knockclient', args)).stdout).ports))
    const line = await daemon.out.find(did('open'))
    const lease = expect.stringMatching(/^[0-9a-f]{8}$/)
    const until = expect.stringMatching(ISO)
    expect(line).toEqual({ do: 'open', lease, key: 'alice', address: SOURCE, protocol: 'tcp', port: 22, until, once: false })
    expect(Object.keys(line)).toEqual(['do', 'lease', 'key', 'address', 'protocol', 'port', 'until', 'once'])
  })

  it('opens until its lifetime is over', async () => {
    const daemon = await server().run()
    const before = Math.floor(Date.now() / 1000)
    daemon.feed(knock({ seconds: 600 }))
    const { until } = await daemon.out.find(did('open'))
    const seconds = Date.parse(String(until)) / 1000
    expect(seconds).toBeGreaterThanOrEqual(before + 600)
    expect(seconds).toBeLessThanOrEqual(Date.now() / 1000 + 601)
  })

  it('for no time opens until closed', async () => {
    const daemon = await server().run()
    daemon.feed(knock({ seconds: 0 }))
    expect(await daemon.out.find(did('open'))).toMatchObject({ until: null })
  })

  it('for once says so', async () => {
    const daemon = await server().run()
    daemon.feed(knock({ once: true }))
    expect(await daemon.out.find(did('open'))).toMatchObject({ once: true })
  })

  it('for port 0 opens every service of the grant', async () => {
    const daemon = await server().run()
    daemon.feed(knock({ port: 0 }))
    expect(await daemon.finish()).toBe(0)
    const doors = daemon.out.json.map(({ protocol, port, lease }) => `${port}/${protocol} ${String(lease).slice(8)}`)
    expect(doors).toEqual(['22/tcp .0', '53/udp .1'])
  })

  it.each([
    ['2001:0db8:0000:0000:0000:0000:0000:0007', '2001:db8::7'],
    ['2001:db8::7', '2001:db8::7'],
  ])('from %s opens for %s', async (source, address) => {
    const daemon = await server().run()
    daemon.feed(knock({}, { source }))
    expect(await daemon.out.find(did('open'))).toMatchObject({ address })
  })

  it.each([-1, 0, 1])('of window %i opens', async (shift) => {
    const daemon = await server().run()
    daemon.feed(knock({}, { shift }))
    expect(await daemon.out.find(did('open'))).toMatchObject({ key: 'alice' })
  })

  it('is logged with all that an audit needs', async () => {
    const daemon = await server().run()
    daemon.feed(knock())
    const line = await daemon.log.find(({ msg }) => msg === 'accepted')
    expect(line).toMatchObject({
      key: 'alice',
      fingerprint: bytesToHex(keyOf('alice').fingerprint),
      source: SOURCE,
      address: SOURCE,
      service: '22/tcp',
      until: expect.stringMatching(ISO),
    })
  })

  it('of each of two keys opens, mixed with the other', async () => {
    const daemon = await server({ ids: ['alice', 'bob'] }).run()
    const [a, b] = [knock({}, { id: 'alice' }).split('\n'), knock({}, { id: 'bob', source: '203.0.113.9' }).split('\n')]
    daemon.feed(a.map((line, i) => `${line}\n${b[i]}\n`).join(''))
    await daemon.finish()
    expect(daemon.out.json.map(({ key, address }) => `${key} ${address}`).sort()).toEqual([`alice ${SOURCE}`, 'bob 203.0.113.9'])
  })

  it('opens among noise and garbage', async () => {
    const daemon = await server().run()
    const noise = Array.from({ length: 20 }, (_, i) => 49_152 + 811 * i)
    daemon.feed(`\0\xff\nhello\n${packets(noise)}KNOCK: IN=\n${'x'.repeat(100_000)}\n${knock()}`)
    expect(await daemon.out.find(did('open'))).toMatchObject({ key: 'alice' })
  })
})

describe('a lease', () => {
  it('is extended under its own name', async () => {
    const daemon = await server().run()
    daemon.feed(knock({ seconds: 60 }))
    const first = await daemon.out.find(did('open'))
    daemon.feed(knock({ seconds: 120 }))
    const second = await daemon.out.find(did('open'), 1)
    expect(second).toEqual({ ...first, until: expect.stringMatching(ISO) })
    expect(Date.parse(String(second.until))).toBeGreaterThan(Date.parse(String(first.until)))
  })

  it('is never shortened', async () => {
    const daemon = await server().run()
    daemon.feed(knock({ seconds: 120 }))
    await daemon.out.find(did('open'))
    daemon.feed(knock({ seconds: 60 }))
    await daemon.finish()
    expect(daemon.out.all).toHaveLength(1)
  })

  it('is closed', async () => {
    const daemon = await server().run()
    daemon.feed(knock())
    const opened = await daemon.out.find(did('open'))
    daemon.feed(knock({ action: 'close' }))
    expect(await daemon.out.find(did('close'))).toEqual({ ...opened, do: 'close' })
  })

  it('ends by itself', async () => {
    const daemon = await server().run()
    daemon.feed(knock({ seconds: 1 }))
    const opened = await daemon.out.find(did('open'))
    expect(await daemon.out.find(did('expire'))).toEqual({ ...opened, do: 'expire' })
  })

  it('ends when its key is revoked', async () => {
    const { keys, run: serve } = server()
    const daemon = await serve()
    daemon.feed(knock({ seconds: 0 }))
    const { lease } = await daemon.out.find(did('open'))
    expect(await run('knockturn', ['key', 'revoke', 'alice', '--keys', keys])).toMatchObject({ code: 0 })
    const ended = await daemon.out.find((line) => line.do === 'close' || line.do === 'expire')
    expect(ended).toMatchObject({ lease, key: 'alice' })
  })

  it('ends when its key is removed', async () => {
    const { keys, addKey, run: serve } = server({ ids: ['alice', 'bob'] })
    addKey('bob')
    const daemon = await serve()
    daemon.feed(knock({ seconds: 0 }))
    const { lease } = await daemon.out.find(did('open'))
    rmSync(join(keys, 'alice.key'))
    expect(await daemon.out.find((line) => line.do === 'close' || line.do === 'expire')).toMatchObject({ lease })
  })

  it('outlives SIGHUP', async () => {
    const daemon = await server().run()
    daemon.feed(knock({ seconds: 60 }))
    const { lease } = await daemon.out.find(did('open'))
    daemon.signal('SIGHUP')
    await daemon.log.find(({ msg }) => msg === 'reloaded')
    daemon.feed(knock({ seconds: 120 }))
    expect(await daemon.out.find(() => true, 1)).toMatchObject({ do: 'open', lease })
  })

  it('is left to the kernel at SIGTERM', async () => {
    const daemon = await server().run()
    daemon.feed(knock())
    await daemon.out.find(did('open'))
    daemon.signal('SIGTERM')
    expect(await daemon.end()).toBe(0)
    expect(daemon.out.all).toHaveLength(1)
  })
})

describe('a key’s file that the daemon cannot take', () => {
  const ended = (line: Record<string, unknown>) => line.do === 'close' || line.do === 'expire'
  const HELD = 'invalid key file: last good version kept for 10 s, then key rejected'
  const REFUSED = 'invalid key file: key rejected'
  const UNREAD = 'cannot read the keyring: last good version kept'
  const logs = (msg: string) => (line: Record<string, unknown>) => line.msg === msg

  /** A daemon with a door open to alice’s key, beside bob’s. */
  async function opened() {
    const made = server({ ids: ['alice', 'bob'] })
    const daemon = await made.run()
    daemon.feed(knock({ seconds: 0 }))
    const { lease } = await daemon.out.find(did('open'))
    return { ...made, daemon, lease }
  }

  it('ends its leases at once where it says revoked', async () => {
    const { keys, daemon, lease } = await opened()
    put(keys, 'alice.key', Buffer.from(`\ufeffrevoked = now\n${keyText()}`, 'utf16le'))
    expect(await daemon.out.find(ended)).toMatchObject({ lease, key: 'alice' })
    daemon.feed(knock())
    expect(await daemon.log.find(refused('revoked'))).toMatchObject({ key: 'alice' })
  })

  it('ends them at once where a revocation has made it too long', async () => {
    const { keys, daemon, lease } = await opened()
    const text = keyText({ secret: secretOf('alice'.length), grant: GRANT })
    put(keys, 'alice.key', text.padEnd(65_536, '\n'))
    expect(await run('knockturn', ['key', 'revoke', 'alice', '--keys', keys])).toMatchObject({ code: 0 })
    expect(await daemon.out.find(ended)).toMatchObject({ lease, key: 'alice' })
  })

  it('ends them, with nothing else to tell, when it has been faulty for 10 s', async () => {
    const { keys, daemon, lease } = await opened()
    put(keys, 'alice.key', 'id = ')
    expect(await daemon.log.find(logs(HELD))).toMatchObject({ level: 50, reason: expect.stringContaining('alice.key:1: ') })
    const told = daemon.log.all.length
    expect(daemon.out.json.filter(ended)).toEqual([])
    expect(await daemon.out.find(ended)).toMatchObject({ lease, key: 'alice' })
    await daemon.log.find(logs(REFUSED), told)
    expect(daemon.log.json.slice(told).filter(logs(HELD))).toEqual([])
  })

  it('is said once, whatever else changes in the keyring, and anew when it is asked for', async () => {
    const { keys, daemon } = await opened()
    put(keys, 'bob.key', 'id = ')
    await daemon.log.find(logs(HELD))
    put(keys, 'alice.key', keyText({ secret: secretOf('alice'.length), grant: GRANT, more: 'host = "other.invalid"\n' }))
    await daemon.log.find(logs('reloaded'), daemon.log.all.length)
    expect(daemon.log.json.filter(logs(HELD))).toHaveLength(1)
    daemon.signal('SIGHUP')
    await daemon.log.find(logs(HELD), daemon.log.all.length)
  })

  it('leaves all as it was where it cannot be read, and is an error', async () => {
    const { keys, daemon } = await opened()
    // In one step: a file that is gone for a moment is gone.
    symlinkSync('/proc/self/mem', join(keys, 'alice.key.new'))
    renameSync(join(keys, 'alice.key.new'), join(keys, 'alice.key'))
    expect(await daemon.log.find(logs(UNREAD))).toMatchObject({ level: 50, reason: expect.stringContaining('EIO'), count: 1 })
    const since = daemon.out.all.length
    daemon.feed(knock({ seconds: 0 }, { source: '203.0.113.9' }))
    expect(await daemon.out.find(() => true, since)).toMatchObject({ do: 'open', key: 'alice' })
  })

  it('leaves all as it was where the keyring is gone, is an error, and is heeded when it is back', async () => {
    const { keys, daemon, lease } = await opened()
    renameSync(keys, `${keys}.away`)
    expect(await daemon.log.find(logs(UNREAD))).toMatchObject({ level: 50, reason: expect.stringContaining('ENOENT') })
    daemon.feed(knock({ seconds: 60 }, { id: 'bob' }))
    await daemon.out.find(({ key }) => key === 'bob')
    expect(daemon.out.json.filter(ended)).toEqual([])
    put(`${keys}.away`, 'alice.key', 'revoked = now')
    renameSync(`${keys}.away`, keys)
    expect(await daemon.out.find(ended)).toMatchObject({ lease, key: 'alice' })
    expect(daemon.log.json.filter(logs(UNREAD))).toHaveLength(1)
  })

  it('does not keep a revocation from being heeded where it is the config’s', async () => {
    const { file, keys, daemon, lease } = await opened()
    rmSync(file)
    await run('knockturn', ['key', 'revoke', 'alice', '--keys', keys])
    expect(await daemon.out.find(ended)).toMatchObject({ lease, key: 'alice' })
  })
})

describe('a lock', () => {
  it('closes what is open, is put in force and ends', async () => {
    const daemon = await server().run()
    daemon.feed(knock())
    await daemon.out.find(did('open'))
    daemon.feed(knock({ action: 'lock', seconds: 1 }))
    await daemon.out.find(did('expire'))
    expect(daemon.out.json.map((line) => line.do)).toEqual(['open', 'close', 'lock', 'expire'])
    const lock = { key: 'alice', address: SOURCE, protocol: 'any', port: 0, once: false }
    expect(daemon.out.json[2]).toMatchObject(lock)
    expect(daemon.out.json[3]).toEqual({ ...daemon.out.json[2], do: 'expire' })
  })

  it('has its address’s knocks ignored, and says so once', async () => {
    const daemon = await server().run()
    daemon.feed(knock({ action: 'lock', seconds: 600 }))
    await daemon.out.find(did('lock'))
    daemon.feed(knock() + knock())
    await daemon.finish()
    expect(daemon.out.all).toHaveLength(1)
    expect(daemon.log.json.filter(refused('locked'))).toMatchObject([{ source: SOURCE }])
  })

  it('is not said to have refused the rest of its own knock, or its second pass', async () => {
    const daemon = await server().run()
    const again = knock({ action: 'lock', seconds: 600 })
    daemon.feed(again)
    await daemon.out.find(did('lock'))
    daemon.feed(again)
    await daemon.finish()
    expect(daemon.log.json.filter(refused('locked'))).toEqual([])
  })

  it('leaves other addresses alone', async () => {
    const daemon = await server().run()
    daemon.feed(knock({ action: 'lock', seconds: 600 }))
    await daemon.out.find(did('lock'))
    daemon.feed(knock({}, { source: '203.0.113.9' }))
    expect(await daemon.out.find(did('open'))).toMatchObject({ address: '203.0.113.9' })
  })

  it('is refused for an address in never_lock', async () => {
    const daemon = await server({ never: `never_lock = ["${SOURCE}"]` }).run()
    daemon.feed(knock({ action: 'lock', seconds: 1 }))
    expect(await daemon.log.find(refused('not-granted'))).toMatchObject({ key: 'alice', action: 'lock' })
  })
})

describe('a refusal', () => {
  /** Feeds a knock that opens nothing, ends the input, and gives the refusals that were logged. */
  async function refusals(daemon: RunningDaemon, text: string) {
    daemon.feed(text)
    expect(await daemon.finish()).toBe(0)
    return daemon.log.json.filter((line) => 'refusal' in line)
  }

  it.each<[string, Partial<Request>]>([
    ['another port', { port: 23 }],
    ['another protocol', { port: 22, protocol: 'udp' }],
    ['a longer life', { seconds: 3601 }],
  ])('is not-granted for %s', async (_, part) => {
    const daemon = await server().run()
    expect(await refusals(daemon, knock(part))).toMatchObject([
      { refusal: 'not-granted', key: 'alice', fingerprint: bytesToHex(keyOf('alice').fingerprint), source: SOURCE, until: null },
    ])
    expect(daemon.out.all).toEqual([])
  })

  it.each<[string, string, Partial<Request>]>([
    ['no end', 'services = ["22/tcp"]', { seconds: 0 }],
    ['a lock', 'services = ["22/tcp"]', { action: 'lock', seconds: 60 }],
    ['the address that is seen', 'services = ["22/tcp"]\nrequire_address = true', {}],
    ['an address out of its blocks', 'services = ["22/tcp"]\naddresses = ["10.0.0.0/8"]', {}],
    ['an address out of its blocks, named', 'services = ["22/tcp"]\naddresses = ["10.0.0.0/8"]', { address: SOURCE }],
  ])('is not-granted for %s', async (_, grant, part) => {
    const daemon = await server({ grant }).run()
    expect(await refusals(daemon, knock(part))).toMatchObject([{ refusal: 'not-granted' }])
    expect(daemon.out.all).toEqual([])
  })

  it('is address-mismatch for another’s address', async () => {
    const daemon = await server().run()
    expect(await refusals(daemon, knock({ address: '203.0.113.9' }))).toMatchObject([
      { refusal: 'address-mismatch', address: '203.0.113.9', source: SOURCE, service: '22/any' },
    ])
  })

  it('is replayed for a knock that another source says again', async () => {
    const daemon = await server().run()
    const ports = knock()
    daemon.feed(ports)
    await daemon.out.find(did('open'))
    expect(await refusals(daemon, ports.replaceAll(SOURCE, '203.0.113.9'))).toMatchObject([
      { refusal: 'replayed', source: '203.0.113.9' },
    ])
    expect(daemon.out.all).toHaveLength(1)
  })

  it('is none for a knock that its own source says again', async () => {
    const daemon = await server().run()
    const ports = knock()
    daemon.feed(ports)
    await daemon.out.find(did('open'))
    expect(await refusals(daemon, ports)).toEqual([])
    expect(daemon.out.all).toHaveLength(1)
  })

  it('is replayed after a restart, from whatever source', async () => {
    const { start, run: serve } = server()
    const first = await serve()
    const ports = knock()
    first.feed(ports)
    await first.out.find(did('open'))
    first.signal('SIGKILL')
    await first.end()
    const second = await start().ready()
    expect(await refusals(second, ports)).toMatchObject([{ refusal: 'replayed' }])
    expect(second.out.all).toEqual([])
  })

  it('is stale where nothing is known of the past', async () => {
    const daemon = await server().start().ready()
    expect(await refusals(daemon, knock())).toMatchObject([{ refusal: 'stale' }])
    expect(daemon.out.all).toEqual([])
  })

  it.each([
    ['stale', -3, / s behind$/],
    ['future', 3, / s ahead$/],
  ])('is %s for window %i, and names the clock', async (refusal, shift, clock) => {
    const daemon = await server().run()
    const [line, ...more] = await refusals(daemon, knock({}, { shift }))
    expect(more).toEqual([])
    expect(line).toMatchObject({ refusal, key: 'alice', clock: expect.stringMatching(clock) })
    const seconds = Number(/(\d+) s/.exec(String(line.clock))?.[1])
    expect(seconds).toBeGreaterThan(60)
    expect(seconds).toBeLessThan(120)
  })

  it('is revoked for a revoked key', async () => {
    const { keys, run: serve } = server({ ids: ['alice', 'bob'] })
    await run('knockturn', ['key', 'revoke', 'alice', '--keys', keys])
    expect(await refusals(await serve(), knock())).toMatchObject([{ refusal: 'revoked', key: 'alice' }])
  })

  it('is revoked for a key that has expired', async () => {
    const { keys, run: serve } = server()
    const more = 'expires = 2026-01-01T00:00:00Z\n'
    put(keys, 'alice.key', keyText({ secret: secretOf('alice'.length), more, grant: GRANT }))
    expect(await refusals(await serve(), knock())).toMatchObject([{ refusal: 'revoked', key: 'alice' }])
  })
})

describe('the log', () => {
  it('has nothing of strangers', async () => {
    const daemon = await server().run()
    const ports = Array.from({ length: 2_000 }, (_, i) => 49_152 + ((i * 7_919) % 16_384))
    daemon.feed(packets(ports, '203.0.113.9') + packets(ports.slice(0, 60), '2001:db8::bad'))
    await daemon.finish()
    expect(daemon.log.json.map(({ msg }) => msg).filter((msg) => !String(msg).includes('tmpfs'))).toEqual(['ready', 'ended'])
  })

  it('has nothing of a knock by an unknown key', async () => {
    const daemon = await server().run()
    daemon.feed(knock({}, { id: 'mallory' }))
    await daemon.finish()
    expect(daemon.log.json.map(({ msg }) => msg).filter((msg) => !String(msg).includes('tmpfs'))).toEqual(['ready', 'ended'])
  })

  it('is JSON, line by line', async () => {
    const daemon = await server({ ids: ['alice', 'bob'] }).run()
    daemon.feed(knock() + knock({ port: 23 }, { id: 'bob' }))
    await daemon.finish()
    expect(daemon.log.json.every(({ level, time }) => typeof level === 'number' && typeof time === 'string')).toBe(true)
  })

  it('has no secret', async () => {
    const daemon = await server().start('--new-ledger', '--log-level', 'debug').ready()
    daemon.feed(knock() + knock({ port: 23 }))
    await daemon.finish()
    expect(daemon.log.all.join('\n')).not.toContain(secretOf('alice'.length).slice(0, 8))
  })

  it('names files that are no keys, and keys that are refused', async () => {
    const { keys, start } = server()
    put(keys, 'notes', '')
    put(keys, 'loose.key', keyText({ id: 'loose', secret: secretOf(9) }), 0o644)
    const daemon = await start('--new-ledger').ready()
    await daemon.finish()
    expect(daemon.log.json).toContainEqual(expect.objectContaining({ level: 40, file: join(keys, 'notes') }))
    expect(daemon.log.json).toContainEqual(expect.objectContaining({ level: 50, hint: expect.stringContaining('chmod 600') }))
  })
})

describe('the daemon', () => {
  it('ends at the end of its input', async () => {
    const daemon = await server().run()
    expect(await daemon.finish()).toBe(0)
  })

  it('has dealt with all of its input by then', async () => {
    const daemon = server().start('--new-ledger')
    daemon.feed(knock())
    expect(await daemon.finish()).toBe(0)
    expect(daemon.out.json).toMatchObject([{ do: 'open' }])
  })

  it.each(['SIGTERM', 'SIGINT'] as const)('ends in order at %s', async (signal) => {
    const daemon = await server().run()
    daemon.signal(signal)
    expect(await daemon.end()).toBe(0)
    expect(daemon.log.json.at(-1)).toMatchObject({ msg: 'ended' })
  })

  it('sees a new key at once', async () => {
    const { addKey, run: serve } = server()
    const daemon = await serve()
    addKey('bob')
    await daemon.log.find(({ msg, keys }) => msg === 'reloaded' && keys === 2)
    daemon.feed(knock({}, { id: 'bob' }))
    expect(await daemon.out.find(did('open'))).toMatchObject({ key: 'bob' })
  })

  it('reads its config again at SIGHUP, and says what needs a restart', async () => {
    const { folder, text, run: serve } = server()
    const daemon = await serve()
    put(folder, 'knockturn.toml', `skew = 2\n${text}`)
    daemon.signal('SIGHUP')
    expect(await daemon.log.find(({ msg }) => String(msg).includes('restart'))).toMatchObject({ level: 40 })
  })

  it('goes on as before when its config has become faulty', async () => {
    const { folder, file, text, run: serve } = server()
    const daemon = await serve()
    put(folder, 'knockturn.toml', `skew = 11\n${text}`)
    daemon.signal('SIGHUP')
    expect(await daemon.log.find(({ level }) => level === 50)).toMatchObject({
      reason: expect.stringContaining(`${file}:1: "skew"`),
    })
    daemon.feed(knock())
    expect(await daemon.out.find(did('open'))).toMatchObject({ key: 'alice' })
  })

  it('refuses to start beside another on the same ledger', async () => {
    const { file, ledger, run: serve } = server()
    const first = await serve()
    const { code, stdout, stderr } = await run('knockdaemon', ['--config', file])
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toBe(
      `knockdaemon: error: ${ledger}: another daemon uses the ledger\nhint: stop that daemon, or give this one a ledger of its own\n`,
    )
    first.feed(knock())
    expect(await first.out.find(did('open'))).toMatchObject({ key: 'alice' })
  })

  it('starts again after it was killed', async () => {
    const { start, run: serve } = server()
    const first = await serve()
    first.signal('SIGKILL')
    await first.end()
    expect(await (await start().ready()).finish()).toBe(0)
  })

  it('refuses to start without a key', async () => {
    const { file, keys } = server({ ids: [] })
    const { code, stdout, stderr } = await run('knockdaemon', ['--config', file])
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    expect(stderr).toMatch(new RegExp(`^knockdaemon: error: ${keys}: [^\n]*key\nhint: [^\n]*key[^\n]*\n$`))
  })

  it('refuses to start with a keyring that others may use', async () => {
    const { file, keys } = server()
    chmodSync(keys, 0o755)
    expect(await run('knockdaemon', ['--config', file])).toEqual({
      code: 1,
      stdout: '',
      stderr: `knockdaemon: error: ${keys}: expected mode 0700, got 0755\nhint: run "chmod 700 ${keys}"\n`,
    })
  })

  it('refuses to start without its config', async () => {
    const file = join(scratch(), 'none.toml')
    const { code, stderr } = await run('knockdaemon', ['--config', file])
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringMatching(
        new RegExp(
          `^knockdaemon: error: ${file}: cannot be read: ENOENT[^\n]*\nhint: name the right one with --config, or write one with [^\n]*\n$`,
        ),
      ),
    })
  })

  it.each([[], ['--check']])('names every fault of its config (%s)', async (...args) => {
    const { folder, file, text } = server()
    put(folder, 'knockturn.toml', `skew = 11\n${text.replace('"stdin"', '"syslog"').replace('"dry-run"', '"pf"')}`)
    const { code, stdout, stderr } = await run('knockdaemon', ['--config', file, ...args.filter(Boolean)])
    expect(code).toBe(1)
    expect(stdout).toMatch(/^(note: [^\n]+\n)*$/)
    const places = stderr.trimEnd().split('\n')
    expect(places.map((line) => line.split(': ').slice(0, 3).join(': '))).toEqual(
      [1, 6, 8].map((line) => `knockdaemon: error: ${file}:${line}`),
    )
  })

  it.each([[['--log-level', 'loud']], [['--loud']], [['now']], [['completion', 'bash']], [['--config']]])(
    'takes %j for a fault of usage',
    async (args) => {
      const { code, stdout, stderr } = await run('knockdaemon', args)
      expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
      expect(stderr).toMatch(/^knockdaemon: error: [^\n]+\nhint: see "knockdaemon --help"\n$/)
    },
  )
})

it('knockdaemon says which levels there are', async () => {
  const { stderr } = await run('knockdaemon', ['--log-level', 'loud'])
  expect(stderr).toMatch(/^knockdaemon: error: --log-level expected one of error, warn, info, debug, got "loud"\n/)
})

describe('input that is no text', () => {
  const MEGABYTE = 1024 * 1024
  /** Every byte but the end of a line. */
  const BYTES = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte).filter((byte) => byte !== 10))
  it.each<[string, string | Buffer]>([
    ['a line of 10 MB', 'x'.repeat(10 * MEGABYTE)],
    ['10 MB of NULs', Buffer.alloc(10 * MEGABYTE)],
    ['10 MB of invalid UTF-8', Buffer.alloc(10 * MEGABYTE, 0xff)],
    ['10 MB of all bytes', Buffer.alloc(10 * MEGABYTE, BYTES)],
    ['a million empty lines', '\n'.repeat(1_000_000)],
    ['a knock whose lines end in NULs', knock().replaceAll('\n', '\0')],
  ])('(%s) opens nothing and is not mentioned, and the knock after it opens', async (_, input) => {
    const daemon = await server().run()
    daemon.feed(input)
    daemon.feed(`\n${knock()}`)
    expect(await daemon.finish()).toBe(0)
    expect(daemon.out.json).toMatchObject([{ do: 'open', address: SOURCE }])
    expect(daemon.log.json.map(({ msg }) => msg).filter((msg) => !String(msg).includes('tmpfs'))).toEqual([
      'ready',
      'accepted',
      'ended',
    ])
  })

  it('(a line of 200 MB) takes no memory to speak of', async () => {
    const daemon = await server().run()
    /** The most memory that it has had when it has opened to a source. */
    const peakAfter = async (input: string, source: string) => {
      daemon.feed(input)
      daemon.feed(`\n${knock({}, { source })}`)
      await daemon.out.find(({ address }) => address === source)
      return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${daemon.pid}/status`, 'utf8'))?.[1]) * 1024
    }
    const before = await peakAfter('x'.repeat(10 * MEGABYTE), '203.0.113.1')
    expect(await peakAfter('x'.repeat(200 * MEGABYTE), '203.0.113.2')).toBeLessThan(before + 100 * MEGABYTE)
  })
})

describe('--check', () => {
  it('finds no fault where there is none, and makes no ledger', async () => {
    const { file, folder, ledger } = server()
    const { code, stdout, stderr } = await run('knockdaemon', ['--config', file, '--check'])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toMatch(/^note: [^\n]+there is no ledger yet[^\n]+\n[^\n]+: no fault\n$/)
    expect([existsSync(ledger), existsSync(join(folder, 'ledger.new'))]).toEqual([false, false])
  })

  it('works beside a running daemon, and leaves its ledger as it is', async () => {
    const { file, ledger, run: serve } = server()
    const daemon = await serve()
    daemon.feed(knock())
    await daemon.out.find(did('open'))
    const before = readFileSync(ledger)
    expect(await run('knockdaemon', ['--config', file, '--check'])).toMatchObject({ code: 0 })
    expect(readFileSync(ledger)).toEqual(before)
  })

  it('reports the faults of keys and ledger at once', async () => {
    const { file, keys, folder } = server()
    put(keys, 'broken.key', 'id = "broken"\nsecret = 7\nserver = "gate.example"\n')
    put(keys, 'loose.key', keyText({ id: 'loose', secret: secretOf(9) }), 0o644)
    put(keys, 'other.key', keyText({ id: 'other', secret: secretOf(8), server: 'other.example' }))
    put(folder, 'ledger', '', 0o644)
    const { code, stdout, stderr } = await run('knockdaemon', ['--config', file, '--check'])
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
    const lines = stderr.trimEnd().split('\n')
    const isHint = (line: string) => line.startsWith('hint: ')
    expect(lines.filter(isHint)).toEqual([
      `hint: run "chmod 600 ${keys}/loose.key"`,
      'hint: make a key for this server, or fix the config',
      `hint: run "chmod 600 ${folder}/ledger"`,
    ])
    expect(lines.filter((line) => !isHint(line)).sort()).toEqual([
      expect.stringContaining(`${keys}/broken.key:2: "secret" expected`),
      expect.stringContaining(`${keys}/loose.key: expected mode 0600, got 0644`),
      expect.stringContaining(`${keys}/other.key: expected server "gate.example"`),
      expect.stringContaining(`${folder}/ledger: expected mode 0600, got 0644`),
    ])
  })

  it('reports a ledger that could not be made', async () => {
    const { file, folder, text } = server()
    put(folder, 'knockturn.toml', text.replace('"ledger"', '"missing/ledger"'))
    const { code, stderr } = await run('knockdaemon', ['--config', file, '--check'])
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringMatching(
        /^knockdaemon: error: [^\n]*missing\/ledger: the ledger cannot be created: [^\n]*\nhint: create its folder: [^\n]*\n$/,
      ),
    })
  })
})
