import { beforeEach, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { knocked } from '../lab/knocks'
import { until } from '../lab/waiters'
import { useGate } from './use-gate'

const [SSH, INSIDE, OTHER] = [22, 50_000, 50_001]
const FAMILIES = ['iptables', 'ip6tables']

const { server, client, stranger, gate } = useGate(['client', 'stranger'], { backend: 'iptables', serve: [SSH, INSIDE, OTHER] })

beforeEach(() => client.moveOn())

const install = () => gate.knockturn('firewall', 'install', '--config', gate.config)
const main = async (iptables = 'iptables') => (await server.must([iptables, '-S', 'KNOCKTURN'])).split('\n').slice(1, -1)
const shortcuts = async (iptables?: string) => (await main(iptables)).filter((rule) => rule.includes(' -g '))
const sees = async (host: Host, port = INSIDE) => (await host.connect(server.ipv4, port)).saw
const doors = async () => [await sees(client), await sees(stranger)]
/** A key for services in the pool, which the daemon has taken up. */
const keyInside = async (id: string) => {
  const since = gate.daemon.lines.length
  const key = await gate.newKey(id, '--services', `${INSIDE}/tcp,${OTHER}/tcp,${SSH}/tcp`)
  await gate.daemon.line(logged('reloaded'), since)
  return key
}
const count = async () =>
  Number(/-c (\d+) \d+ -j KNOCKTURN-LEASES/.exec(await server.must(['iptables', '-v', '-S', 'KNOCKTURN']))?.[1])

describe('what touches the pool', () => {
  it('is logged and dropped without being compared with any lease', async () => {
    await install()
    await knocked(client, gate.daemon, gate.key, '-p', String(SSH))
    const before = await count()
    await stranger.replay([{ protocol: 'tcp', port: INSIDE }], server.ipv4)
    expect(await sees(stranger)).toBe('silence')
    expect(await count()).toBe(before)
    // Any other port is compared with them.
    expect(await sees(stranger, SSH)).toBe('silence')
    expect(await count()).toBeGreaterThan(before)
  })

  it.each(FAMILIES)('has shortcuts past the leases (%s)', async (iptables) => {
    await install()
    expect(await shortcuts(iptables)).toHaveLength(2)
  })
})

describe('a service in the pool', () => {
  it('opens for a key that was made after the installation, to who knocked and to nobody else', async () => {
    await install()
    const key = await keyInside('late')
    expect(await doors()).toEqual(['silence', 'silence'])
    expect(await knocked(client, gate.daemon, key, '-p', String(INSIDE))).toMatchObject({ msg: 'accepted' })
    expect(await doors()).toEqual(['open', 'silence'])
    expect(await knocked(client, gate.daemon, key, '-p', String(OTHER))).toMatchObject({ msg: 'accepted' })
    expect([await sees(client), await sees(client, OTHER)]).toEqual(['open', 'open'])
    await knocked(client, gate.daemon, key, '--close')
    expect(await doors()).toEqual(['silence', 'silence'])
  })

  it('stays open over an installation and a restart', async () => {
    const key = await keyInside('lasting')
    await knocked(client, gate.daemon, key, '-p', String(INSIDE))
    await install()
    expect(await doors()).toEqual(['open', 'silence'])
    await gate.daemon.end()
    await install()
    gate.daemon = await gate.startDaemon()
    expect(await doors()).toEqual(['open', 'silence'])
    await knocked(client, gate.daemon, key, '--close')
    expect(await doors()).toEqual(['silence', 'silence'])
  })

  it('is reached again when another program has put a shortcut past it', async () => {
    const key = await keyInside('hidden')
    await install()
    const before = await main()
    await knocked(client, gate.daemon, key, '-p', String(INSIDE))
    const since = gate.daemon.lines.length
    const script = ['*filter', ':KNOCKTURN - [0:0]', ...before, 'COMMIT', ''].join('\n')
    await server.must(['iptables-restore', '--noflush'], { input: script })
    expect(await doors()).toEqual(['silence', 'silence'])
    await client.becomes(server.ipv4, INSIDE, 'open')
    expect(await sees(stranger)).toBe('silence')
    await gate.daemon.line((line) => line.includes('another program changed the firewall'), since)
    await knocked(client, gate.daemon, key, '--close')
  })

  it('has its shortcut back with the next installation after its end', async () => {
    const key = await keyInside('passing')
    await knocked(client, gate.daemon, key, '-p', String(INSIDE), '-t', '3s')
    expect(await shortcuts()).toHaveLength(1)
    await until(async () => (await server.leases(client)).length === 0, 'the lease is over')
    await install()
    expect(await shortcuts()).toHaveLength(2)
  })
})

describe('chains of an earlier version, without shortcuts,', () => {
  it('go on under this daemon, and have them with the next installation, over which leases stay', async () => {
    const key = await keyInside('upgraded')
    await gate.daemon.end()
    for (const iptables of FAMILIES) {
      const old = (await main(iptables)).filter((rule) => !rule.includes(' -g '))
      await server.must([`${iptables}-restore`, '--noflush'], {
        input: ['*filter', ':KNOCKTURN - [0:0]', ...old, 'COMMIT', ''].join('\n'),
      })
    }
    gate.daemon = await gate.startDaemon()
    await knocked(client, gate.daemon, key, '-p', `${INSIDE},${SSH}`)
    expect([...(await doors()), await sees(client, SSH)]).toEqual(['open', 'silence', 'open'])
    expect(await shortcuts()).toEqual([])
    await knocked(client, gate.daemon, key, '--close', '-p', String(INSIDE))
    await install()
    expect([...(await doors()), await sees(client, SSH)]).toEqual(['silence', 'silence', 'open'])
    expect(await shortcuts()).toHaveLength(2)
    expect(gate.daemon.lines.filter((line) => line.includes('another program'))).toEqual([])
  })
})
