import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type EtcdCluster, startCluster, startEtcd } from '../lab/etcd'
import type { EtcdMember } from '../lab/etcd-member'
import type { Host } from '../lab/host'
import { Lab } from '../lab/lab'
import { cut, cutOneWay } from '../lab/partition'
import { run } from '../lab/processes'
import { until } from '../lab/waiters'

/** The lab's etcd does what tests of fleets take for granted. */

interface Answer {
  raftIndex?: string
  readonly header?: { readonly cluster_id: string; readonly revision: string; readonly raft_term: string }
  readonly kvs?: readonly { readonly value: string }[]
  readonly error?: string
}

const text = (value: string) => Buffer.from(value).toString('base64')

/** What etcd's JSON gateway says; nothing where it says nothing in time. */
async function ask(endpoint: string | undefined, path: string, body: unknown): Promise<Answer> {
  const asked = { method: 'POST', body: JSON.stringify(body), signal: AbortSignal.timeout(2_000) }
  const answer = await fetch(`${endpoint}${path}`, asked).catch(() => null)
  return ((await answer?.json().catch(() => null)) ?? {}) as Answer
}
const put = (endpoint: string | undefined, key: string, value = '1') =>
  ask(endpoint, '/v3/kv/put', { key: text(key), value: text(value) })
const get = async (endpoint: string | undefined, key: string) =>
  (await ask(endpoint, '/v3/kv/range', { key: text(key) })).kvs?.map(({ value }) => Buffer.from(value, 'base64').toString())
const writes = async (endpoint: string | undefined) => (await put(endpoint, 'ready')).header !== undefined

describe('an etcd of one member', () => {
  it('answers on this process’s loopback, and is gone when it ends', async () => {
    const etcd = await startEtcd()
    const [endpoint] = etcd.endpoints
    expect(await writes(endpoint)).toBe(true)
    await etcd.end()
    expect(await writes(endpoint)).toBe(false)
  })

  it('asks for a client’s certificate, and for user and password', async () => {
    const etcd = await startEtcd({ tls: true, login: true })
    try {
      const { ca, cert, key } = etcd.tls ?? { ca: '', cert: '', key: '' }
      const curl = ['curl', '-sS', '--cacert', ca, `${etcd.endpoints[0]}/v3/kv/range`, '-d', JSON.stringify({ key: text('a') })]
      expect((await run(curl)).code).not.toBe(0)
      expect((await run([...curl, '--cert', cert, '--key', key])).stdout).toContain('user name is empty')
    } finally {
      await etcd.end()
    }
  })

  it('takes nothing more when its quota is used up', async () => {
    const etcd = await startEtcd({ quota: 2 ** 20 })
    try {
      const [endpoint] = etcd.endpoints
      const fill = async () => (await put(endpoint, `row ${Math.random()}`, 'x'.repeat(2 ** 18))).error ?? ''
      await until(async () => (await fill()).includes('database space exceeded'), 'the quota is used up')
      expect(await etcd.etcdctl(['alarm', 'list'])).toContain('NOSPACE')
    } finally {
      await etcd.end()
    }
  })
})

describe('an etcd of three members in namespaces', () => {
  const lab = new Lab(['m1', 'm2', 'm3', 'gw1'])
  const { m1, m2, m3, gw1 } = lab.hosts as Record<'m1' | 'm2' | 'm3' | 'gw1', Host>
  let etcd: EtcdCluster
  /** As gw1 reaches them. */
  let ways: string[]
  const wayTo = (name: string) => ways[etcd.members.findIndex((member) => member.name === name)]
  const becomes = (name: string, isWritable: boolean) =>
    until(async () => (await writes(wayTo(name))) === isWritable, `${name} ${isWritable ? 'writes' : 'does not write'}`)

  beforeAll(async () => {
    await lab.build()
    etcd = await startCluster([m1, m2, m3], { disk: '200M' })
    ways = await etcd.reachFrom(gw1)
  })
  afterAll(() => lab.end())

  it('goes on without its leader, which comes back', async () => {
    const leader = (await etcd.leader()) as EtcdMember
    const other = etcd.members.find((member) => member !== leader)
    await leader.kill()
    await becomes(other?.name ?? '', true)
    expect(await writes(wayTo(leader.name))).toBe(false)
    await etcd.start()
    await becomes(leader.name, true)
  })

  it('refuses where a member is cut off from the others, and there only', async () => {
    const heal = await cut([m1], [m2, m3])
    await becomes('m1', false)
    await becomes('m2', true)
    await heal()
    await becomes('m1', true)
  })

  it('does what is asked of it where its answer is lost', async () => {
    expect(await put(ways[0], 'lost', 'no')).toHaveProperty('header')
    const heal = await cutOneWay([m1], [gw1])
    // The connection that is there goes on: a new one would need an answer.
    expect(await put(ways[0], 'lost', 'yes')).toEqual({})
    expect(await get(ways[1], 'lost')).toEqual(['yes'])
    await heal()
  })

  it('is not heard of a member that stands still, and is when that goes on', async () => {
    etcd.member('m1').pause()
    expect(await writes(ways[0])).toBe(false)
    await becomes('m2', true)
    etcd.member('m1').resume()
    await becomes('m1', true)
  })

  it('goes on without a member whose disk is full, which comes back when there is room', async () => {
    const m3 = etcd.member('m3')
    const clear = await etcd.fillDisk(m3)
    const fill = async () => {
      await put(ways[0], `row ${Math.random()}`, 'x'.repeat(2 ** 19))
      return !m3.isRunning
    }
    await until(fill, 'the member has ended', 60_000)
    await becomes('m1', true)
    clear()
    await etcd.start()
    await becomes('m3', true)
  })

  it('knows nothing when it is brand-new, and has the same cluster id', async () => {
    const { header: was } = await put(ways[0], 'before')
    await etcd.restore(null)
    await becomes('m1', true)
    const { header: is } = await ask(ways[0], '/v3/kv/range', { key: text('before') })
    expect(Number(is?.revision)).toBeLessThan(Number(was?.revision))
    expect(is?.cluster_id).toBe(was?.cluster_id)
    expect(await get(ways[0], 'before')).toBeUndefined()
  })

  it.each([
    ['the same token', true],
    ['another token', false],
  ])('forgets what came after a snapshot that is restored with %s', async (_, isSame) => {
    await put(ways[0], 'before')
    const snapshot = await etcd.save()
    const { header: was } = await put(ways[0], 'after')
    const reached = async () => Number((await ask(ways[0], '/v3/maintenance/status', {})).raftIndex)
    const before = await reached()
    await (isSame ? etcd.restore(snapshot) : etcd.restore(snapshot, 'another token'))
    await becomes('m1', true)
    expect(await get(ways[0], 'before')).toEqual(['1'])
    expect(await get(ways[0], 'after')).toBeUndefined()
    const { header: is } = await ask(ways[0], '/v3/kv/range', { key: text('before') })
    expect(is?.cluster_id === was?.cluster_id).toBe(isSame)
    // By that it is told: its log has begun anew.
    expect(await reached()).toBeLessThan(before)
  })
})
