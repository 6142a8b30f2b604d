import { existsSync, readFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { parseConfig } from '../../src/daemon/config'
import type { FleetConfig } from '../../src/daemon/fleet/config'
import { openEtcd } from '../../src/daemon/fleet/etcd/client'
import { behind, type Etcd } from '../../src/daemon/fleet/etcd/etcd'
import { formatKeys, formatWord, type GatewayWord } from '../../src/daemon/fleet/gateway-row'
import { BASE, formatWindow, gatewayRow, keysRow, parseBase } from '../../src/daemon/fleet/rows'
import { word } from '../admin/fleet/place'
import { run } from '../cli/programs'
import { type EtcdCluster, startEtcd } from '../lab/etcd'
import { put, scratch } from '../system/scratch'

/* The commands of a fleet, as they are typed, with a real etcd. */

const [ONE, TWO] = ['1'.repeat(32), '2'.repeat(32)]
let etcd: EtcdCluster & { end(): Promise<void> }
let own: Etcd
/** What is typed is tried below a prefix of its own each time. */
let tests = 0
let prefix = ''

beforeAll(async () => {
  etcd = await startEtcd()
})
afterAll(() => etcd.end())
beforeEach(async () => {
  prefix = `test${++tests}/`
  own = await openEtcd((await parseConfig('knockturn.toml', lines('own'))).value?.ledger.fleet as FleetConfig)
  return () => own.close()
})

const lines = (gateway: string, more = '', endpoints = etcd.endpoints, head = 'server = "gate.example"\n') =>
  `${head}keys = "keys"\n[ledger]\npath = "ledger"\netcd = ${JSON.stringify(endpoints)}\nprefix = "${prefix}"\ngateway = "${gateway}"\n${more}`

interface Typed {
  readonly folder: string
  /** Types a command of a fleet. */
  fleet(...words: string[]): ReturnType<typeof run>
}

/** A gateway of a name, with what its config has besides. */
async function gateway(text: string): Promise<Typed> {
  const folder = scratch()
  await mkdir(join(folder, 'keys'), { mode: 0o700 })
  put(folder, 'knockturn.toml', text)
  put(folder, 'ledger', 'knockturn-ledger 1 0000000000000036\n')
  const fleet: Typed['fleet'] = (command = '', ...words) =>
    run('knockturn', ['fleet', command, ...words, '--config', join(folder, 'knockturn.toml')])
  return { folder, fleet }
}
const has = async (row: string) => (await own.list(row, behind(row))).rows.length > 0
const baseNow = async () => parseBase((await own.list(BASE, behind(BASE))).rows[0]?.value ?? '')
const write = (row: string, value: string) => own.transact({ if: [], do: [{ put: row, value }], else: [] })

/** Has somebody speak under a name until the test ends, as a daemon does. @returns ends it */
function speaks(name: string, more: Partial<GatewayWord> = {}, keys: readonly string[] = [ONE], off = 0): () => Promise<unknown> {
  let [beat, last]: [number, Promise<unknown>] = [0, write(keysRow(name), formatKeys(keys))]
  const say = () => {
    const said = {
      ...word(),
      keys: { count: keys.length, digest: keys.join().slice(-8) },
      wall: Date.now() + off,
      beat: ++beat,
      ...more,
    }
    last = last.then(() => write(gatewayRow(name), formatWord(said))).catch(() => {})
  }
  say()
  const timer = setInterval(say, 500)
  return () => {
    clearInterval(timer)
    return last
  }
}

describe('fleet init', () => {
  it('makes a fleet once, and a second time leaves it as it is', async () => {
    const first = await gateway(lines('gw1'))
    const made = await first.fleet('init')
    expect(made.stderr).toBe('')
    expect(made.stdout).toMatch(/^made fleet [0-9a-f]{16} as gateway "gw1"; remembered in \S+fleet\.json\n/)
    const base = await baseNow()
    const second = await gateway(lines('gw2'))
    const again = await second.fleet('init')
    expect([again.code, again.stdout]).toEqual([1, ''])
    expect(again.stderr).toBe(
      `knockturn: error: there is a fleet already below "${prefix}", of server "gate.example"\nhint: run "knockturn fleet join" to join it, or set another prefix in [ledger]\n`,
    )
    expect(await baseNow()).toEqual(base)
    expect(existsSync(join(second.folder, 'fleet.json'))).toBe(false)
  })
})

describe('fleet join', () => {
  it('joins, and refuses another label, another skew and a name that speaks', async () => {
    const first = await gateway(lines('gw1'))
    await first.fleet('init')
    const stop = speaks('gw1')
    await expect.poll(() => has(gatewayRow('gw1'))).toBe(true)
    const refused = async (text: string) => {
      const { folder, fleet } = await gateway(text)
      const { code, stderr } = await fleet('join')
      return [code, existsSync(join(folder, 'fleet.json')), stderr.split('\n')[0]]
    }
    expect(await refused(lines('gw2', '', etcd.endpoints, 'server = "other"\n'))).toEqual([
      ...[1, false, 'knockturn: error: the fleet is of server "gate.example", and this gateway of "other"'],
    ])
    expect(await refused(lines('gw2', '', etcd.endpoints, 'server = "gate.example"\nskew = 3\n'))).toEqual([
      ...[1, false, 'knockturn: error: gateway "gw1" has skew = 1, and this one 3'],
    ])
    expect(await refused(lines('gw1'))).toEqual([1, false, 'knockturn: error: a gateway that runs now is called "gw1"'])
    const second = await (await gateway(lines('gw2'))).fleet('join')
    expect([second.code, second.stdout.split('\n')[0]]).toEqual([
      0,
      expect.stringMatching(/^joined fleet [0-9a-f]{16} as gateway "gw2", beside gw1; /),
    ])
    await stop()
  })

  it('says where there is no fleet, and what makes one', async () => {
    const { code, stderr } = await (await gateway(lines('gw1'))).fleet('join')
    expect([code, stderr]).toEqual([
      1,
      `knockturn: error: there is no fleet below "${prefix}"\nhint: run "knockturn fleet init", on one gateway\n`,
    ])
  })
})

describe('fleet leave', () => {
  it('takes out a gateway that is dead, none that speaks, and this one', async () => {
    const first = await gateway(lines('gw1'))
    await first.fleet('init')
    await speaks('gw3')()
    const stop = speaks('gw2')
    await expect.poll(async () => [await has(gatewayRow('gw2')), await has(gatewayRow('gw3'))]).toEqual([true, true])
    const alive = await first.fleet('leave', 'gw2')
    expect([alive.code, alive.stderr.split('\n')[0]]).toEqual([1, 'knockturn: error: a gateway that runs now is called "gw2"'])
    const dead = await first.fleet('leave', 'gw3')
    expect([dead.code, dead.stdout.split('\n')[0]]).toEqual([0, 'gateway "gw3" has left the fleet; there are left: gw2'])
    expect([await has(gatewayRow('gw2')), await has(gatewayRow('gw3')), await has(keysRow('gw3'))]).toEqual([true, false, false])
    expect((await first.fleet('leave')).code).toBe(0)
    expect(existsSync(join(first.folder, 'fleet.json'))).toBe(false)
    await stop()
  })

  it('refuses what is no name as a fault of usage', async () => {
    const { code, stderr } = await (await gateway(lines('gw1'))).fleet('leave', 'a/b')
    expect([code, stderr]).toEqual([2, expect.stringMatching(/^knockturn: error: <gateway> expected 1 to 32 letters/)])
  })
})

describe('fleet floor', () => {
  it('brings back a base that is ahead, and what is spent stays spent', async () => {
    const first = await gateway(lines('gw1'))
    await first.fleet('init')
    const ahead = { ...(await baseNow()), epoch: 4, seconds: Math.floor(Date.now() / 1_000) + 86_400 }
    await write(BASE, JSON.stringify(ahead))
    const window = Math.floor(Date.now() / 30_000)
    const spent = `ledger/spent/${ONE}/30/${formatWindow(window)}/v`
    await write(spent, '{}')
    await write(`ledger/floor/${ONE}/30`, formatWindow(window + 2_880))
    const { code, stdout, stderr } = await first.fleet('floor')
    expect([code, stdout.split('\n')[1]]).toEqual([0, 'spent knocks stay spent, and the floors of keys stay'])
    expect(stderr).toContain('no other gateway speaks')
    expect(stderr).toContain('11111111 (until 2')
    const base = await baseNow()
    expect(base).toMatchObject({ epoch: 5, ahead: 2 })
    expect(Math.abs((base?.seconds ?? 0) - Date.now() / 1_000)).toBeLessThan(60)
    expect([await has(spent), await has(`ledger/floor/${ONE}/30`)]).toEqual([true, true])
  })

  it('is refused where the clock is a window off that of the other gateways', async () => {
    const first = await gateway(lines('gw1'))
    await first.fleet('init')
    const stops = ['gw2', 'gw3'].map((name) => speaks(name, {}, [ONE], 90_000))
    await expect.poll(async () => [await has(gatewayRow('gw2')), await has(gatewayRow('gw3'))]).toEqual([true, true])
    const base = await baseNow()
    const { code, stderr } = await first.fleet('floor')
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/the fleet cannot begin by this machine's clock: .*90\.\d s behind/),
    ])
    expect(await baseNow()).toEqual(base)
    for (const stop of stops) await stop()
  })
})

describe('fleet status', () => {
  it('is well where all speak and have the same keys', async () => {
    const first = await gateway(lines('gw1'))
    await first.fleet('init')
    const stops = ['gw1', 'gw2'].map((name) => speaks(name, { keys: { count: 1, digest: 'same' } }))
    await expect.poll(async () => [await has(gatewayRow('gw1')), await has(gatewayRow('gw2'))]).toEqual([true, true])
    const { code, stdout, stderr } = await first.fleet('status', '--json')
    const { well, gateways, members, faults } = JSON.parse(stdout)
    expect([code, stderr, well, faults]).toEqual([0, '', true, []])
    expect(gateways.map(({ name, speaks }: { name: string; speaks: boolean }) => [name, speaks])).toEqual([
      ['gw1', true],
      ['gw2', true],
    ])
    expect(members).toMatchObject([{ endpoint: etcd.endpoints[0], leader: true, trouble: null, quota: 2 ** 31, alarms: [] }])
    expect((await first.fleet('status')).code).toBe(0)
    for (const stop of stops) await stop()
  })

  it('names keys that only one has, and who does not speak, and ends with 1', async () => {
    const first = await gateway(lines('gw1'))
    await first.fleet('init')
    await speaks('gw3')()
    const stops = [speaks('gw1', {}, [ONE]), speaks('gw2', {}, [ONE, TWO])]
    await expect.poll(async () => [await has(gatewayRow('gw1')), await has(keysRow('gw2'))]).toEqual([true, true])
    const { code, stdout, stderr } = await first.fleet('status')
    expect([code, stdout]).toEqual([1, expect.stringMatching(/^gw3 +silent/m)])
    expect(stderr).toContain('error: gateway "gw3" does not speak')
    expect(stderr).toContain('error: the gateways have different keys: 22222222 not at gw1')
    for (const stop of stops) await stop()
  })
})

describe('every command', () => {
  const COMMANDS = [['init'], ['join'], ['leave', 'gw9'], ['floor'], ['status']]

  it.each(COMMANDS)('says that etcd is down, what to look at, and does nothing: %s', async (...words) => {
    const down = await gateway(lines('gw1', 'timeout = "1s"\n', ['http://127.0.0.1:9']))
    const { code, stderr } = await down.fleet(...words)
    expect([code, existsSync(join(down.folder, 'fleet.json'))]).toEqual([1, false])
    expect(stderr).toMatch(/^knockturn: error: (etcd|http:\/\/127\.0\.0\.1:9: etcd) cannot be asked: .*ECONNREFUSED/m)
    expect(stderr).toContain('hint: look whether etcd runs')
  })

  it.each(COMMANDS)('refuses http to another machine: %s', async (...words) => {
    const foreign = await gateway(lines('gw1', '', ['http://10.0.0.1:2379']))
    const { code, stderr } = await foreign.fleet(...words)
    expect([code, stderr]).toEqual([1, expect.stringMatching(/http:\/\/ goes to 127\.0\.0\.1/)])
  })

  it.each(COMMANDS)('says that a single server is in no fleet: %s', async (...words) => {
    const { fleet } = await gateway('server = "gate.example"\n')
    const { code, stderr } = await fleet(...words)
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/: no etcd is set, so this server is in no fleet\nhint: set etcd = /),
    ])
  })
})

describe('an etcd with users', () => {
  let guarded: EtcdCluster & { end(): Promise<void> }
  beforeAll(async () => {
    guarded = await startEtcd({ tls: true, login: true })
    prefix = 'knockturn/'
  })
  afterAll(() => guarded.end())
  beforeEach(() => {
    prefix = 'knockturn/'
  })
  const secured = ({ ca, cert } = guarded.tls as NonNullable<EtcdCluster['tls']>) =>
    lines('gw1', `ca = "${ca}"\ncert = "${cert}"\nkey = "key"\nlogin = "login"\n`, guarded.endpoints)
  async function withFiles(password: string, mode = 0o600): Promise<Typed> {
    const typed = await gateway(secured())
    put(typed.folder, 'key', readFileSync(guarded.tls?.key ?? ''))
    put(typed.folder, 'login', password, mode)
    return typed
  }

  it('is asked with a certificate, a user and a password', async () => {
    const typed = await withFiles(readFileSync(guarded.login ?? '', 'utf8'))
    expect(await typed.fleet('init')).toMatchObject({ code: 0, stderr: '' })
    expect((await typed.fleet('status')).stderr).toBe('')
  })

  it('refuses a wrong password, which nobody reads in what is said', async () => {
    const { code, stderr } = await (await withFiles('knockturn\nwrong-password\n')).fleet('status')
    expect([code, stderr]).toEqual([1, expect.stringMatching(/^knockturn: error: etcd cannot be asked: /)])
    expect(stderr).toContain('hint: look at the file of "login" in [ledger]')
    expect(stderr).not.toContain('wrong-password')
  })

  it('is not asked with a password that others may read', async () => {
    const { code, stderr } = await (await withFiles('knockturn\nwrong-password\n', 0o644)).fleet('status')
    expect([code, stderr]).toEqual([1, expect.stringMatching(/login: .*0644/)])
  })
})
