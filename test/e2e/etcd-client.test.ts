import { chmodSync, copyFileSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { FleetConfig } from '../../src/daemon/fleet/config'
import { openEtcd } from '../../src/daemon/fleet/etcd/client'
import { behind, type Condition, type Etcd, type Row, Unavailable } from '../../src/daemon/fleet/etcd/etcd'
import { makeCertificates } from '../lab/certificates'
import { type EtcdCluster, startCluster, startEtcd } from '../lab/etcd'
import type { Host } from '../lab/host'
import { Lab } from '../lab/lab'
import { cut } from '../lab/partition'
import { until } from '../lab/waiters'

/** Our client of etcd, against a real one. */

const NO_TLS = { ca: null, cert: null, key: null }
const opened: Etcd[] = []
afterEach(() => {
  for (const etcd of opened.splice(0)) etcd.close()
})

async function open(endpoints: readonly string[], more: Partial<FleetConfig> = {}): Promise<Etcd> {
  const config = { endpoints, prefix: 'knockturn/', timeout: 5_000, gateway: 'gw1', pinned: false, tls: NO_TLS, login: null }
  const etcd = await openEtcd({ ...config, ...more })
  opened.push(etcd)
  return etcd
}

const put = (etcd: Etcd, row: string, value = '1') =>
  etcd.transact({ if: [], do: [{ put: row, value }], else: [] }).then(({ header }) => header.revision)
const get = async (etcd: Etcd, row: string): Promise<Row | undefined> => {
  const { done } = await etcd.transact({ if: [], do: [{ get: row }], else: [] })
  return done[0]?.rows[0]
}
const holds = async (etcd: Etcd, ...conditions: Condition[]) => (await etcd.transact({ if: conditions, do: [], else: [] })).held
/** The trouble of what fails, and whether it may have been done. */
const troubleOf = (asked: Promise<unknown>) =>
  asked.then(
    () => null,
    (error) => {
      if (!(error instanceof Unavailable)) throw error
      return { trouble: error.trouble, isUnknown: error.isUnknown, message: error.message }
    },
  )

/** What a watch has told so far. */
function watching(etcd: Etcd, from: string, revision: number, signal = new AbortController().signal) {
  const told: string[] = []
  const ends: string[] = []
  etcd.watch(
    from,
    behind(from),
    revision,
    {
      changed: (changes) =>
        told.push(...changes.map((one) => ('put' in one ? `${one.put.row}=${one.put.value}` : `no ${one.removed}`))),
      broke: (why) => ends.push(why),
    },
    signal,
  )
  return { told, ends }
}

describe('an etcd of one member', () => {
  let cluster: Awaited<ReturnType<typeof startEtcd>>
  let etcd: Etcd
  beforeAll(async () => {
    cluster = await startEtcd()
  })
  afterAll(() => cluster.end())
  const anew = async (prefix = `${Math.random()}/`) => {
    etcd = await open(cluster.endpoints, { prefix })
    return etcd
  }

  it('judges conditions of rows that are there', async () => {
    await anew()
    await put(etcd, 'a', '5')
    const modified = (await get(etcd, 'a'))?.modified ?? 0
    const cases: [Condition, boolean][] = [
      [{ row: 'a', is: 'absent' }, false],
      [{ row: 'a', is: 'there' }, true],
      [{ row: 'a', is: 'equal', value: '5' }, true],
      [{ row: 'a', is: 'equal', value: '4' }, false],
      [{ row: 'a', is: 'below', value: '6' }, true],
      [{ row: 'a', is: 'below', value: '5' }, false],
      [{ row: 'a', is: 'below', value: '4' }, false],
      [{ row: 'a', is: 'modified', revision: modified }, true],
      [{ row: 'a', is: 'modified', revision: modified - 1 }, false],
      [{ row: 'a', is: 'modified', revision: modified + 1 }, false],
    ]
    for (const [condition, held] of cases) expect([condition, await holds(etcd, condition)]).toEqual([condition, held])
  })

  it('judges conditions of rows that are not there', async () => {
    await anew()
    const cases: [Condition, boolean][] = [
      [{ row: 'a', is: 'absent' }, true],
      [{ row: 'a', is: 'there' }, false],
      [{ row: 'a', is: 'equal', value: '5' }, false],
      [{ row: 'a', is: 'below', value: '5' }, false],
      [{ row: 'a', is: 'modified', revision: 1 }, false],
      [{ row: 'a', is: 'modified', revision: 0 }, true],
    ]
    for (const [condition, held] of cases) expect([condition, await holds(etcd, condition)]).toEqual([condition, held])
  })

  it('holds only where all conditions do', async () => {
    await anew()
    await put(etcd, 'a')
    expect(await holds(etcd)).toBe(true)
    expect(await holds(etcd, { row: 'a', is: 'there' }, { row: 'b', is: 'absent' })).toBe(true)
    expect(await holds(etcd, { row: 'a', is: 'there' }, { row: 'b', is: 'there' })).toBe(false)
  })

  it('does one branch whole, and says what it has come to, step by step', async () => {
    await anew()
    for (const row of ['a1', 'a2', 'a3', 'b']) await put(etcd, row, `v ${row}`)
    const outcome = await etcd.transact({
      if: [{ row: 'b', is: 'there' }],
      do: [
        { put: 'c', value: 'ü\n' },
        { get: 'a2' },
        { if: [{ row: 'x', is: 'there' }], do: [], else: [{ removeFrom: 'a1', to: 'a3' }] },
        { get: 'c' },
        { get: 'x' },
        { remove: 'b' },
        { get: 'a2' },
        { get: 'a3' },
      ],
      else: [{ put: 'wrong', value: 'branch' }],
    })
    expect(outcome.held).toBe(true)
    expect(outcome.done.map(({ rows }) => rows.map(({ row, value }) => `${row}=${value}`))).toEqual([
      [],
      ['a2=v a2'],
      [],
      ['c=ü\n'],
      [],
      [],
      [],
      ['a3=v a3'],
    ])
    expect(await get(etcd, 'wrong')).toBeUndefined()
    expect(await get(etcd, 'b')).toBeUndefined()
  })

  it('says when a row was made and changed, and its header says how far etcd is', async () => {
    await anew()
    const first = await put(etcd, 'a', '')
    const second = await put(etcd, 'a', '2')
    expect(await get(etcd, 'a')).toEqual({ row: 'a', value: '2', created: first, modified: second, lease: null })
    const { header } = await etcd.transact({ if: [], do: [], else: [] })
    expect(header).toEqual({ cluster: expect.stringMatching(/^\d+$/), revision: second, term: expect.any(Number) })
    expect(header.term).toBeGreaterThan(0)
  })

  it('refuses to compare with nothing, which etcd takes for everything', async () => {
    await anew()
    await put(etcd, 'a', '5')
    expect(() => etcd.transact({ if: [{ row: 'a', is: 'equal', value: '' }], do: [], else: [] })).toThrow(RangeError)
  })

  it('lists all rows below a name, however many, as of one moment', async () => {
    await anew()
    const other = await open(cluster.endpoints, { prefix: 'other/' })
    await put(other, 'shared/x')
    const names = Array.from({ length: 1_203 }, (_, i) => `shared/${String(i).padStart(4, '0')}`)
    for (let i = 0; i < names.length; i += 100)
      await etcd.transact({ if: [], do: names.slice(i, i + 100).map((row) => ({ put: row, value: row })), else: [] })
    await put(etcd, 'shared0')
    // Each row below is written again while pages are read: none of that is in the list.
    let isOver = false
    const writing = (async () => {
      while (!isOver) for (const row of names.slice(-3)) await put(etcd, row, 'later')
    })()
    const before = await put(etcd, 'now')
    const { header, rows } = await etcd.list('shared/', behind('shared/'))
    isOver = true
    await writing
    expect(header.revision).toBeGreaterThanOrEqual(before)
    expect(rows.map(({ row }) => row)).toEqual(names)
    expect(Math.max(...rows.map(({ modified }) => modified))).toBeLessThanOrEqual(header.revision)
  })

  it('tells of what is written and gone below a name, from a revision on, in order', async () => {
    await anew()
    const from = await put(etcd, 'shared/a', '1')
    await put(etcd, 'shared/a', '2')
    await put(etcd, 'ledger/a', 'not asked for')
    const { told, ends } = watching(etcd, 'shared/', from)
    await until(() => told.length === 2, 'what was written before')
    await etcd.transact({ if: [], do: [{ remove: 'shared/a' }, { put: 'shared/b', value: '' }], else: [] })
    await put(etcd, 'shared/c', '3')
    await until(() => told.includes('shared/c=3'), 'what is written now')
    expect(told.slice(0, 2)).toEqual(['shared/a=1', 'shared/a=2'])
    expect(told.slice(2, 4).sort()).toEqual(['no shared/a', 'shared/b='])
    expect(told.slice(4)).toEqual(['shared/c=3'])
    expect(ends).toEqual([])
  })

  it('tells nothing after a watch was ended, not even that it is over', async () => {
    await anew()
    const ending = new AbortController()
    const { told, ends } = watching(etcd, 'shared/', 1, ending.signal)
    await put(etcd, 'shared/a')
    await until(() => told.length === 1, 'the first row')
    ending.abort()
    const other = watching(etcd, 'shared/', 1)
    await put(etcd, 'shared/b')
    await until(() => other.told.length === 2, 'the other watch')
    expect([told, ends]).toEqual([['shared/a=1'], []])
  })

  it('tells of a great deal at once, all of it', async () => {
    await anew()
    const from = await put(etcd, 'now')
    const value = 'x'.repeat(20_000)
    for (let i = 0; i < 10; i++)
      await etcd.transact({ if: [], do: Array.from({ length: 50 }, (_, n) => ({ put: `shared/${i}-${n}`, value })), else: [] })
    const { told, ends } = watching(etcd, 'shared/', from)
    await until(() => told.length === 500 || ends.length > 0, 'all of it')
    expect([ends, new Set(told).size]).toEqual([[], 500])
  })

  it('breaks a watch of what it has let go of, and a list that began before', async () => {
    await anew()
    const first = await put(etcd, 'shared/a')
    const last = await put(etcd, 'shared/a')
    await etcd.compact(last)
    const { told, ends } = watching(etcd, 'shared/', first)
    await until(() => ends.length === 1, 'the watch breaks')
    expect([told, ends]).toEqual([[], [expect.stringContaining(`its history begins at revision ${last} only, not at ${first}`)]])
    // As somebody else may have done it.
    await etcd.compact(last)
    expect(await troubleOf(etcd.compact(last + 1_000))).toMatchObject({ trouble: 'strange', isUnknown: false })
  })

  it('lends leases: rows end with them, and it says what is left', async () => {
    await anew()
    const [long, short] = [await etcd.grant(1_000), await etcd.grant(1)]
    await etcd.transact({
      if: [],
      do: [
        { put: 'long', value: '1', lease: long },
        { put: 'short', value: '1', lease: short },
        { put: 'none', value: '1', lease: null },
      ],
      else: [],
    })
    expect((await get(etcd, 'long'))?.lease).toBe(long)
    expect((await get(etcd, 'none'))?.lease).toBeNull()
    expect(await etcd.left(long)).toBeGreaterThan(900)
    expect(await etcd.left(long)).toBeLessThanOrEqual(1_000)
    await until(async () => (await get(etcd, 'short')) === undefined, 'the row has ended')
    expect(await etcd.left(short)).toBeNull()
    expect(await etcd.left('12345')).toBeNull()
    const late = etcd.transact({ if: [], do: [{ put: 'a', value: '1', lease: short }], else: [] })
    expect(await troubleOf(late)).toMatchObject({ trouble: 'strange', isUnknown: false })
  })

  it('says how it is', async () => {
    await anew()
    const [{ endpoint, status }, ...more] = await etcd.status()
    expect([endpoint, more]).toEqual([cluster.endpoints[0], []])
    expect(status).toEqual({
      version: expect.stringMatching(/^3\.\d+\.\d+$/),
      size: expect.any(Number),
      sizeInUse: expect.any(Number),
      quota: 2 * 1024 ** 3,
      hasLeader: true,
      reached: expect.any(Number),
      alarms: [],
    })
  })

  it('answers hundreds of calls at a time', async () => {
    await anew()
    const claims = Array.from({ length: 500 }, (_, i) =>
      etcd.transact({ if: [{ row: `${i % 100}`, is: 'absent' }], do: [{ put: `${i % 100}`, value: '1' }], else: [] }),
    )
    expect((await Promise.all(claims)).filter(({ held }) => held)).toHaveLength(100)
  })

  it('is reached again when it is back, on connections that ended with it', async () => {
    await anew()
    await put(etcd, 'a')
    await cluster.members[0]?.kill()
    expect(await troubleOf(put(etcd, 'a'))).toMatchObject({ trouble: 'unreachable', isUnknown: false })
    await cluster.start()
    expect(await put(etcd, 'a')).toBeGreaterThan(0)
  })
})

describe('an etcd whose quota is used up', () => {
  it('is full: it takes nothing more, and says so at once', async () => {
    const cluster = await startEtcd({ quota: 2 ** 21 })
    try {
      const etcd = await open(cluster.endpoints)
      let trouble = null
      for (let i = 0; trouble === null; i++) trouble = await troubleOf(put(etcd, `${i}`, 'x'.repeat(2 ** 18)))
      expect(trouble).toMatchObject({ trouble: 'full', isUnknown: false })
      expect((await etcd.status())[0]?.status).toMatchObject({ quota: 2 ** 21, alarms: ['NOSPACE'] })
      expect(await get(etcd, '0')).toBeDefined()
    } finally {
      await cluster.end()
    }
  })
})

describe('an etcd that asks for certificates', () => {
  let cluster: Awaited<ReturnType<typeof startEtcd>>
  let folder: string
  const file = (name: string) => join(folder, name)
  /** Where the config says that they are: anew for each test. */
  const place = (tls: { ca: string; cert: string; key: string }) => {
    for (const name of ['ca', 'cert', 'key'] as const) copyFileSync(tls[name], file(name))
    chmodSync(file('key'), 0o600)
    return { ca: file('ca'), cert: file('cert'), key: file('key') }
  }
  const right = () => cluster.tls ?? { ca: '', cert: '', key: '' }
  const wrong = async () => (await makeCertificates(mkdtempSync(join(tmpdir(), 'wrong-')), ['127.0.0.1'])).client
  beforeAll(async () => {
    cluster = await startEtcd({ tls: true })
    folder = mkdtempSync(join(tmpdir(), 'tls-'))
  })
  afterAll(() => cluster.end())

  it('is asked with them', async () => {
    const etcd = await open(cluster.endpoints, { tls: place(right()) })
    await put(etcd, 'a')
    const { told, ends } = watching(etcd, 'a', 1)
    await until(() => told.length > 0, 'the watch')
    expect(ends).toEqual([])
    expect((await etcd.status())[0]?.status).toMatchObject({ hasLeader: true, quota: 2 * 1024 ** 3 })
  })

  it('is not believed with a certificate that nobody has vouched for', async () => {
    const etcd = await open(cluster.endpoints, { tls: place({ ...right(), ca: (await wrong()).ca }) })
    expect(await troubleOf(put(etcd, 'a'))).toMatchObject({ trouble: 'tls', isUnknown: false })
  })

  it('is not believed by another name than its certificate has', async () => {
    const endpoints = cluster.endpoints.map((endpoint) => endpoint.replace('127.0.0.1', 'localhost'))
    const etcd = await open(endpoints, { tls: place(right()) })
    expect(await troubleOf(put(etcd, 'a'))).toMatchObject({ trouble: 'tls', isUnknown: false })
  })

  it('is believed by nothing that the environment says', async () => {
    process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0'
    try {
      const etcd = await open(cluster.endpoints, { tls: place({ ...right(), ca: (await wrong()).ca }) })
      expect(await troubleOf(put(etcd, 'a'))).toMatchObject({ trouble: 'tls' })
    } finally {
      delete process.env.NODE_TLS_REJECT_UNAUTHORIZED
    }
  })

  it.each([
    ['no certificate', async () => ({ ...place(right()), cert: null, key: null })],
    ['one that nobody has vouched for', async () => place({ ...(await wrong()), ca: right().ca })],
  ])('refuses a gateway with %s', async (_, tls) => {
    const etcd = await open(cluster.endpoints, { tls: await tls() })
    expect(await troubleOf(put(etcd, 'a'))).toMatchObject({
      trouble: 'tls',
      isUnknown: false,
      message: expect.stringContaining("does not take this gateway's certificate: bad certificate"),
    })
  })

  it('is asked with renewed certificates as soon as they are there', async () => {
    const strange = await wrong()
    const etcd = await open(cluster.endpoints, { tls: place({ ...strange, ca: right().ca }) })
    expect(await troubleOf(put(etcd, 'a'))).toMatchObject({ trouble: 'tls' })
    place(right())
    expect(await put(etcd, 'a')).toBeGreaterThan(0)
    // Half of a new pair is none.
    copyFileSync(strange.cert, file('cert'))
    expect(await put(etcd, 'a')).toBeGreaterThan(0)
  })
})

describe('an etcd that asks for a password', () => {
  let cluster: Awaited<ReturnType<typeof startEtcd>>
  beforeAll(async () => {
    cluster = await startEtcd({ login: true })
  })
  afterAll(() => cluster.end())
  const login = (text: string) => {
    const path = join(mkdtempSync(join(tmpdir(), 'login-')), 'login')
    writeFileSync(path, text, { mode: 0o600 })
    return path
  }

  it('answers to who has it, also when its token is over', async () => {
    const etcd = await open(cluster.endpoints, { login: cluster.login })
    await put(etcd, 'a')
    // No token survives that.
    await cluster.members[0]?.kill()
    await cluster.start()
    await put(etcd, 'a')
    // Nor do they count when users have changed.
    await cluster.etcdctl(['user', 'add', 'another:one'])
    await Promise.all(Array.from({ length: 20 }, () => put(etcd, 'a')))
    expect((await etcd.status())[0]?.status).toMatchObject({ hasLeader: true })
  })

  it('is watched, with a token that is over, too', async () => {
    const etcd = await open(cluster.endpoints, { login: cluster.login })
    const from = await put(etcd, 'shared/a')
    await cluster.members[0]?.kill()
    await cluster.start()
    const { told, ends } = watching(etcd, 'shared/', from)
    await until(() => told.length + ends.length > 0, 'the watch')
    expect([told, ends]).toEqual([['shared/a=1'], []])
  })

  it.each([
    ['a wrong password', 'knockturn\nhunter2\n'],
    ['a user that it does not know', 'nobody\nhunter2\n'],
  ])('refuses %s, which nobody says', async (_, text) => {
    const etcd = await open(cluster.endpoints, { login: login(text) })
    const trouble = await troubleOf(put(etcd, 'a'))
    expect(trouble).toMatchObject({ trouble: 'login', isUnknown: false })
    expect(trouble?.message).not.toContain('hunter2')
    const { ends } = watching(etcd, 'shared/', 1)
    await until(() => ends.length > 0, 'the watch breaks')
  })

  it('takes a password that was mended, without a restart', async () => {
    const path = login('knockturn\nhunter2\n')
    const etcd = await open(cluster.endpoints, { login: path })
    expect(await troubleOf(put(etcd, 'a'))).toMatchObject({ trouble: 'login' })
    copyFileSync(cluster.login ?? '', path)
    expect(await put(etcd, 'a')).toBeGreaterThan(0)
  })

  it('refuses who has none', async () => {
    expect(await troubleOf(put(await open(cluster.endpoints), 'a'))).toMatchObject({ trouble: 'login', isUnknown: false })
  })

  it('refuses rows that a user may not touch', async () => {
    const etcd = await open(cluster.endpoints, { login: cluster.login, prefix: 'others/' })
    expect(await troubleOf(put(etcd, 'a'))).toMatchObject({ trouble: 'login', isUnknown: false })
    const { ends } = watching(etcd, 'shared/', 1)
    await until(() => ends.length > 0, 'the watch breaks')
  })
})

describe('an etcd that asks for no password', () => {
  it('is not used by a gateway that has one: everybody could write there', async () => {
    const cluster = await startEtcd()
    try {
      const path = join(mkdtempSync(join(tmpdir(), 'login-')), 'login')
      writeFileSync(path, 'knockturn\nhunter2\n', { mode: 0o600 })
      const etcd = await open(cluster.endpoints, { login: path })
      expect(await troubleOf(put(etcd, 'a'))).toMatchObject({
        trouble: 'login',
        message: expect.stringContaining('its authentication is off'),
      })
    } finally {
      await cluster.end()
    }
  })
})

describe('an etcd of three members', () => {
  const lab = new Lab(['m1', 'm2', 'm3', 'gw1'])
  const { m1, m2, m3, gw1 } = lab.hosts as Record<'m1' | 'm2' | 'm3' | 'gw1', Host>
  let cluster: EtcdCluster
  let ways: string[]
  let etcd: Etcd
  beforeAll(async () => {
    await lab.build()
    cluster = await startCluster([m1, m2, m3])
    ways = await cluster.reachFrom(gw1)
  })
  afterAll(() => lab.end())
  const anew = async (names = ['m1', 'm2', 'm3'], more: Partial<FleetConfig> = {}) => {
    await cluster.start()
    etcd = await open(
      names.map((name) => ways[Number(name.slice(1)) - 1] as string),
      more,
    )
    return etcd
  }
  const others = (name: string) => cluster.members.filter((member) => member.name !== name)

  it('answers when its leader is killed, to who has asked before there is another', async () => {
    await anew()
    for (let round = 0; round < 3; round++) {
      await cluster.start()
      await put(etcd, 'a', `${round}`)
      const leader = await cluster.leader()
      await leader?.kill()
      await put(etcd, 'a', `after ${round}`)
      expect((await get(etcd, 'a'))?.value).toBe(`after ${round}`)
    }
  })

  it('answers by the others where the first that is asked stands still', async () => {
    const leader = await cluster.leader()
    const [first, second] = others(leader?.name ?? '')
    await anew([first?.name ?? '', second?.name ?? ''])
    await put(etcd, 'a', '1')
    first?.pause()
    await put(etcd, 'a', '2')
    expect((await get(etcd, 'a'))?.value).toBe('2')
    first?.resume()
  })

  it('answers by the others where the way to one is cut, and a watch there breaks', async () => {
    await anew(['m1', 'm2', 'm3'])
    const other = await open([ways[1] as string])
    await put(etcd, 'shared/a')
    const { told, ends } = watching(etcd, 'shared/', 1)
    await until(() => told.length > 0, 'the watch')
    const heal = await cut([m1], [gw1])
    await put(etcd, 'shared/b')
    await until(() => ends.length > 0, 'the watch breaks')
    expect(ends).toEqual([expect.stringContaining('nothing was heard for 6 s')])
    await put(other, 'shared/c')
    const next = watching(etcd, 'shared/', 1)
    await until(() => next.told.includes('shared/c=1'), 'the watch at another member')
    await heal()
  })

  it('refuses where one is left alone, and that what was asked may still be done', async () => {
    await anew(['m1'], { timeout: 2_000 })
    await put(etcd, 'a')
    for (const member of others('m1')) await member.kill()
    expect((await troubleOf(put(etcd, 'a')))?.isUnknown).toBe(true)
    // When it has seen that it has no leader, it says so before it does anything.
    await until(async () => (await troubleOf(put(etcd, 'a')))?.isUnknown === false, 'it knows that it is alone')
    expect(await troubleOf(put(etcd, 'a'))).toMatchObject({ trouble: 'no-quorum', isUnknown: false })
    expect(await troubleOf(get(etcd, 'a'))).toMatchObject({ trouble: 'no-quorum', isUnknown: false })
  })

  it('breaks a watch where one is left alone', async () => {
    await anew(['m1'])
    await put(etcd, 'shared/a')
    const { told, ends } = watching(etcd, 'shared/', 1)
    await until(() => told.length > 0, 'the watch')
    for (const member of others('m1')) await member.kill()
    await until(() => ends.length > 0, 'the watch breaks')
    expect(ends).toEqual([expect.stringContaining('no leader')])
    const [own] = await etcd.status()
    expect(own?.status).toMatchObject({ hasLeader: false, alarms: [] })
  })

  it('says of each member how it is, or why that can’t be said', async () => {
    await anew()
    await cluster.member('m2').kill()
    const all = await etcd.status()
    expect(all.map(({ endpoint }) => endpoint)).toEqual(ways)
    expect(all.map(({ status }) => (status instanceof Unavailable ? status.trouble : status.hasLeader))).toEqual([
      true,
      'unreachable',
      true,
    ])
  })

  it('is known not to have done what was asked where nobody is there', async () => {
    await anew()
    await cluster.member('m1').kill()
    await cluster.member('m2').kill()
    await cluster.member('m3').kill()
    // The tunnel takes connections, and closes them.
    const direct = await open(['http://127.0.0.1:9', 'http://127.0.0.1:10'])
    expect(await troubleOf(put(direct, 'a'))).toMatchObject({ trouble: 'unreachable', isUnknown: false })
    expect(await troubleOf(put(etcd, 'a'))).toMatchObject({ trouble: 'unreachable' })
  })
})
