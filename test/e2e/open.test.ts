import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { compose, knock, knocked, verdict } from '../lab/knocks'
import { until } from '../lab/waiters'
import { useGate } from './use-gate'

const SSH = 22
const NOBODY_SERVES = 443
const DNS = 5353

const services = ['--services', `${SSH}/tcp,${NOBODY_SERVES}/tcp,${DNS}/udp`]

const { server, client, stranger, friend, gate } = useGate(['client', 'stranger', 'friend'], ({ hosts }) => ({
  serve: [SSH, DNS],
  keyOptions: [...services, '--max', '1h'],
  neverLock: [hosts.friend.ipv4],
}))
const keys: Record<string, string> = {}

beforeAll(async () => {
  keys.traveller = gate.key
  keys.free = await gate.newKey('free', ...services, '--no-bind-source')
  keys.patient = await gate.newKey('patient', ...services, '--allow-until-closed')
  keys.exact = await gate.newKey('exact', ...services, '--require-address')
  keys.elsewhere = await gate.newKey('elsewhere', ...services, '--addresses', '203.0.113.0/24')
  keys.locker = await gate.newKey('locker', ...services, '--lock')
  await gate.daemon.line(logged('reloaded', { keys: 6 }))
})

/** Each test has a client that was not there before. */
beforeEach(() => client.moveOn())

const sees = async (host: Host, port = SSH, address = server.ipv4) => (await host.connect(address, port)).saw
const open = (...options: string[]) => knocked(client, gate.daemon, keys.traveller, '-p', String(SSH), ...options)
const doorsOf = async (host: Host) => (await server.leases(host)).map(({ door }) => door)
/** Opens all that the grant lists, and waits until the last of it is open. */
async function openAll() {
  const { service } = await knocked(client, gate.daemon, gate.key, '-p', '0')
  expect(service.split(',').sort()).toEqual([`${SSH}/tcp`, `${NOBODY_SERVES}/tcp`, `${DNS}/udp`].sort())
}

describe.each(['ipv4', 'ipv6'] as const)('over %s', (family) => {
  const flag = family === 'ipv4' ? '-4' : '-6'
  const doors = async () => [await sees(client, SSH, server[family]), await sees(stranger, SSH, server[family])]
  it.each([
    ['TCP', []],
    ['UDP', ['--udp']],
  ])('a knock by %s opens the port to who knocked and to nobody else', async (_, options) => {
    expect(await doors()).toEqual(['silence', 'silence'])
    expect(await open('-r', server[family], flag, ...options)).toMatchObject({ msg: 'accepted', address: client[family] })
    expect(await doors()).toEqual(['open', 'silence'])
  })

  it('the client as it is without options but port and time opens the port', async () => {
    await client.must(knock(gate, '-r', server[family], '-p', String(SSH), '-t', '1'))
    await client.becomes(server[family], SSH, 'open')
  })

  it('an address that is named opens to that address', async () => {
    await open('-r', server[family], '-i', client[family])
    expect(await doors()).toEqual(['open', 'silence'])
  })
})

describe('what is asked', () => {
  it('a UDP service opens to who knocked and to nobody else', async () => {
    const hears = async () => [(await client.echo(server.ipv4, DNS)).saw, (await stranger.echo(server.ipv4, DNS)).saw]
    expect(await hears()).toEqual(['silence', 'silence'])
    await knocked(client, gate.daemon, keys.traveller, '-p', String(DNS), '--protocol', 'udp')
    expect(await hears()).toEqual(['open', 'silence'])
  })

  it('port 0 opens all that the grant lists', async () => {
    await openAll()
    expect((await doorsOf(client)).sort()).toEqual([`tcp/${SSH}`, `tcp/${NOBODY_SERVES}`, `udp/${DNS}`].sort())
    expect([await sees(client), (await client.echo(server.ipv4, DNS)).saw]).toEqual(['open', 'open'])
  })

  it('an opening is good for the port that it names and for no other', async () => {
    await open()
    expect(await doorsOf(client)).toEqual([`tcp/${SSH}`])
  })

  it('a key that is bound to its source opens for no other address', async () => {
    expect(await open('-i', stranger.ipv4)).toMatchObject({ msg: 'refused', refusal: 'address-mismatch' })
    expect([await sees(client), await sees(stranger)]).toEqual(['silence', 'silence'])
  })

  it('a knock that names another address is not spent by whoever is quicker with a copy of it', async () => {
    const { touches } = await compose(client, keys.traveller, '-p', String(SSH), '-i', client.ipv4)
    const theirs = await verdict(gate.daemon, () => stranger.replay(touches, server.ipv4))
    expect(theirs).toMatchObject({ msg: 'refused', refusal: 'address-mismatch' })
    const ours = await verdict(gate.daemon, () => client.replay(touches, server.ipv4))
    expect(ours).toMatchObject({ msg: 'accepted', address: client.ipv4 })
  })

  it('a key that is not bound opens for the address that it names, and not for its source', async () => {
    await knocked(client, gate.daemon, keys.free, '-p', String(SSH), '-i', stranger.ipv4, '-t', '1m')
    expect([await sees(client), await sees(stranger)]).toEqual(['silence', 'open'])
    await knocked(client, gate.daemon, keys.free, '-i', stranger.ipv4, '--close')
  })

  it('a key may open an IPv6 address by a knock over IPv4', async () => {
    await knocked(client, gate.daemon, keys.free, '-4', '-p', String(SSH), '-i', client.ipv6)
    expect([await sees(client), await sees(client, SSH, server.ipv6)]).toEqual(['silence', 'open'])
  })

  it.each([
    ['a port', 'traveller', ['-p', '23']],
    ['a protocol', 'traveller', ['-p', String(SSH), '--protocol', 'udp']],
    ['a lifetime', 'traveller', ['-p', String(SSH), '-t', '1h1s']],
    ['an opening until it is closed', 'traveller', ['-p', String(SSH), '-t', '0']],
    ['an address', 'elsewhere', ['-p', String(SSH)]],
    ['an opening without naming an address', 'exact', ['-p', String(SSH)]],
    ['a lock', 'traveller', ['--lock']],
  ])('%s that is not granted is refused', async (_, key, options) => {
    expect(await knocked(client, gate.daemon, keys[key], ...options, '--force')).toMatchObject({
      msg: 'refused',
      refusal: 'not-granted',
    })
    expect([await sees(client), await server.leases(client)]).toEqual(['silence', []])
  })
})

describe('a grant that has changed since the copy was made', () => {
  it('is told by the client as it was, and opens as it is with --force', async () => {
    const key = await gate.newKey('widened', '--services', `${DNS}/udp`, '--max', '1m')
    await gate.daemon.line(logged('reloaded', { keys: 7 }))
    const file = join(gate.keys, 'widened.key')
    const since = gate.daemon.lines.length
    writeFileSync(file, readFileSync(file, 'utf8').replace(`"${DNS}/udp"`, `"${DNS}/udp", "${SSH}/tcp"`))
    await gate.daemon.line(logged('reloaded', { keys: 7 }), since)
    const ask = ['-p', String(SSH), '-t', '1m']
    expect(await client.run(knock({ key }, ...ask))).toMatchObject({
      code: 2,
      stdout: '',
      stderr: `knockclient: error: the key widened may not open ${SSH}: it opens ${DNS}/udp\nhint: if the grant has changed since, export the key again, or send anyway with --force\n`,
    })
    expect(await knocked(client, gate.daemon, key, ...ask, '--force')).toMatchObject({ msg: 'accepted', service: `${SSH}/tcp` })
    expect(await sees(client)).toBe('open')
  })

  it('is opened by the only service and the time that its copy tells, where nobody says another', async () => {
    const key = await gate.newKey('single', '--services', `${SSH}/tcp`, '--max', '1m')
    await gate.daemon.line(logged('reloaded', { keys: 8 }))
    expect(await knocked(client, gate.daemon, key)).toMatchObject({ msg: 'accepted', service: `${SSH}/tcp` })
    expect(await sees(client)).toBe('open')
  })
})

describe('the end of a lease', () => {
  it.each([
    ['--close', ['--close']],
    ['-t 255', ['-p', String(SSH), '-t', '255']],
  ])('%s shuts the door, and a connection that is there lives on', async (_, options) => {
    await open()
    const connection = await client.hold(server.ipv4, SSH)
    expect(await knocked(client, gate.daemon, keys.traveller, ...options)).toMatchObject({ msg: 'accepted', action: 'close' })
    expect([await sees(client), await connection.isAlive()]).toEqual(['silence', true])
    await connection.end()
  })

  it('closing one port leaves the other open', async () => {
    await openAll()
    await knocked(client, gate.daemon, keys.traveller, '-p', String(NOBODY_SERVES), '--close')
    expect((await doorsOf(client)).sort()).toEqual([`tcp/${SSH}`, `udp/${DNS}`])
  })

  it('closing leaves the leases of other keys and of other addresses', async () => {
    await open()
    await knocked(client, gate.daemon, keys.free, '-p', String(SSH))
    await knocked(stranger, gate.daemon, keys.traveller, '-p', String(SSH))
    await knocked(client, gate.daemon, keys.traveller, '--close')
    expect((await server.leases(client)).map(({ key }) => key)).toEqual(['free'])
    expect(await sees(stranger)).toBe('open')
    await knocked(stranger, gate.daemon, keys.traveller, '--close')
  })

  it('closing from another of the user’s addresses closes nothing, which the log says, and the client what stays', async () => {
    await open()
    const later = '198.51.100.90'
    await client.addAddress(`${later}/24`)
    await client.must(['ip', 'route', 'replace', server.ipv4, 'dev', 'eth0', 'src', later])
    try {
      const since = gate.daemon.lines.length
      const { stderr } = await client.run(knock({ key: keys.traveller }, '--close', '-v', '--passes', '1'))
      expect(stderr).toMatch(/ms {2}the server never answers; what you opened from another address stays open until/)
      const line = await gate.daemon.line(logged('accepted', { action: 'close', source: later }), since)
      expect(JSON.parse(line)).toMatchObject({ leases: [], elsewhere: expect.any(Number) })
    } finally {
      await client.must(['ip', 'route', 'delete', server.ipv4])
    }
    expect(await sees(client)).toBe('open')
  })

  it('a lease until it is closed has no end of its own, and is closed', async () => {
    expect(await knocked(client, gate.daemon, keys.patient, '-p', String(SSH), '-t', '0')).toMatchObject({ until: null })
    expect((await server.leases(client)).map(({ until }) => until)).toEqual([null])
    expect(await sees(client)).toBe('open')
    await knocked(client, gate.daemon, keys.patient, '-t', '255')
    expect(await sees(client)).toBe('silence')
  })

  it('a lease ends by itself, its rule is taken away, and a connection that is there lives on', async () => {
    const since = gate.daemon.lines.length
    await open('-t', '5s')
    const connection = await client.hold(server.ipv4, SSH)
    await gate.daemon.line(logged('expired', { key: 'traveller' }), since)
    await until(async () => (await server.leases(client)).length === 0, 'its rule is taken away')
    expect([await sees(client), await connection.isAlive()]).toEqual(['silence', true])
    await connection.end()
  })

  it('with the daemon killed, the kernel ends a lease', async () => {
    await open('-t', '5s')
    await gate.daemon.end('SIGKILL')
    try {
      const connection = await client.hold(server.ipv4, SSH)
      await client.becomes(server.ipv4, SSH, 'silence')
      expect(await connection.isAlive()).toBe(true)
      await connection.end()
    } finally {
      gate.daemon = await gate.startDaemon()
    }
  })
})

describe('knocking again', () => {
  const ends = async () => (await server.leases(client)).map(({ until }) => Number(until))

  it('extends the lease, which stays one rule', async () => {
    const first = await open('-t', '1m')
    const before = await ends()
    const second = await open('-t', '10m')
    const after = await ends()
    expect([after.length, second.leases]).toEqual([1, first.leases])
    expect(after[0]).toBeGreaterThan(before[0])
    expect(await sees(client)).toBe('open')
  })

  it('for a shorter time leaves the lease as it is', async () => {
    await open('-t', '10m')
    const before = await ends()
    await open('-t', '1m')
    expect(await ends()).toEqual(before)
  })
})

describe('a lock', () => {
  const lock = (host: Host, ...options: string[]) => knocked(host, gate.daemon, keys.locker, '--lock', ...options)
  const knockOf = (host: Host) => knocked(host, gate.daemon, keys.locker, '-p', String(SSH), '-t', '1m')

  it('ends what the key has open for the address, and further knocks from there are refused, until it ends itself', async () => {
    await knockOf(client)
    expect(await sees(client)).toBe('open')
    expect(await lock(client, '-t', '10s')).toMatchObject({ msg: 'accepted', action: 'lock' })
    expect(await sees(client)).toBe('silence')
    expect(await knockOf(client)).toMatchObject({ msg: 'refused', refusal: 'locked', source: client.ipv4 })
    expect(await sees(client)).toBe('silence')
    // It knocks less and less often.
    await client.must(knock({ key: keys.locker }, '-p', String(SSH), '--wait', '40'), { timeoutMs: 60_000 })
  })

  it('leaves other addresses their leases and their knocks', async () => {
    await knockOf(stranger)
    await lock(client, '-t', '1m')
    expect(await sees(stranger)).toBe('open')
    expect(await knocked(stranger, gate.daemon, keys.locker, '--close')).toMatchObject({ msg: 'accepted', action: 'close' })
  })

  it('of an address that must never be locked is refused, and it knocks on', async () => {
    expect(await lock(friend, '-t', '1m')).toMatchObject({ msg: 'refused', refusal: 'not-granted' })
    expect(await knockOf(friend)).toMatchObject({ msg: 'accepted', action: 'open' })
  })
})

describe('knockclient', () => {
  it('--wait ends with 0 when the service answers', async () => {
    const { code } = await client.run(knock(gate, '-p', String(SSH), '--wait'))
    expect([code, await sees(client)]).toEqual([0, 'open'])
  })

  it('--wait ends with 1, before its time, where nobody serves the port', async () => {
    const { code, stderr } = await client.run(knock(gate, '-p', String(NOBODY_SERVES), '--wait'))
    expect([code, stderr]).toEqual([1, expect.stringContaining('refuses connections')])
  })

  it('knocks without any privilege', async () => {
    const powerless = ['setpriv', '--ambient-caps', '-all', '--inh-caps', '-all', '--bounding-set', '-all', '--no-new-privs']
    const status = await client.must([...powerless, 'cat', '/proc/self/status'])
    expect(status).toMatch(/^CapEff:\t0+$/m)
    await client.must([...powerless, ...knock(gate, '-p', String(SSH))])
    await client.becomes(server.ipv4, SSH, 'open')
  })
})
