import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startCluster, startEtcd } from '../lab/etcd'
import { Lab } from '../lab/lab'
import { run } from '../lab/processes'
import { until } from '../lab/waiters'

/** What etcd's JSON gateway says. */
async function ask(endpoint: string | undefined, path: string, body: unknown): Promise<Record<string, unknown>> {
  const answer = await fetch(`${endpoint}${path}`, {
    method: 'POST',
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(3_000),
  })
  return (await answer.json()) as Record<string, unknown>
}
const text = (value: string) => Buffer.from(value).toString('base64')

describe('an etcd of one member', () => {
  it('answers on this process’s loopback, and is gone when it ends', async () => {
    const etcd = await startEtcd()
    const [endpoint] = etcd.endpoints
    expect(await ask(endpoint, '/v3/kv/put', { key: text('a'), value: text('1') })).toHaveProperty('header')
    await etcd.end()
    await expect(ask(endpoint, '/v3/maintenance/status', {})).rejects.toThrow('fetch failed')
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
})

describe('an etcd of three members in namespaces', () => {
  const lab = new Lab(['m1', 'm2', 'm3', 'gw1'])
  const { m1, m2, m3, gw1 } = lab.hosts as Record<'m1' | 'm2' | 'm3' | 'gw1', import('../lab/host').Host>
  beforeAll(() => lab.build())
  afterAll(() => lab.end())

  it('is reached as from a host, and survives its leader', async () => {
    const etcd = await startCluster([m1, m2, m3])
    const endpoints = await etcd.reachFrom(gw1)
    const put = (endpoint: string | undefined) => ask(endpoint, '/v3/kv/put', { key: text('a'), value: text('1') })
    for (const endpoint of endpoints) expect(await put(endpoint)).toHaveProperty('header')
    const leader = await etcd.leader()
    await leader.kill()
    const other = endpoints[etcd.members.findIndex((member) => member !== leader)]
    const written = async () => 'header' in (await put(other).catch(() => ({})))
    await until(written, 'written without the leader')
    await etcd.start()
  })
})
