import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { keyText, put, scratch, secretOf } from '../system/scratch'
import { run } from './programs'

/** A server with keys of these pools; the second is beside the usual one. */
function server(ports: number[], ...pools: string[]): string {
  const folder = scratch()
  mkdirSync(join(folder, 'keys'), { mode: 0o700 })
  for (const [n, pool] of pools.entries())
    put(folder, `keys/user${n}.key`, keyText({ id: `user${n}`, secret: secretOf(n), more: `pool = "${pool}"\n` }))
  return put(folder, 'knockturn.toml', `server = "gate.example"\nkeys = "keys"\n[datagram]\nports = [${ports}]\n`, 0o644)
}
const install = (config: string) => run('knockturn', ['firewall', 'install', '--print', '--config', config])

describe('knockturn firewall install', () => {
  it('has the rules of datagrams in both families, each with its lengths', async () => {
    const { code, stdout } = await install(server([53, 443], '49152-65535'))
    const [v4, v6] = stdout.split('# ip6tables-restore')
    expect([code, v4.match(/--length \d+/g), v6.match(/--length \d+/g)]).toEqual([
      0,
      ['--length 64', '--length 76'],
      ['--length 84', '--length 96'],
    ])
  })

  it('warns of a key whose pool holds such a port, and leaves it out, as the daemon does', async () => {
    const { code, stdout, stderr } = await install(server([443], '49152-65535', '400-12000'))
    expect(code).toBe(0)
    expect(stderr).toContain(
      '/keys/user1.key: the pool 400-12000 contains port 443, which [datagram] ports has, too: set another port',
    )
    expect([stdout.includes('--dport 49152:65535'), stdout.includes('--dport 400:')]).toEqual([true, false])
  })

  it('refuses where no other key is left', async () => {
    const { code, stdout, stderr } = await install(server([443], '400-12000'))
    expect([code, stdout]).toEqual([1, ''])
    expect(stderr).toMatch(
      /knockturn: error: .*\/keys: no key that can be used, so no ports to listen on\nhint: make a key with "knockturn key new": its pool sets the ports\n$/,
    )
  })
})

describe('knockdaemon --check', () => {
  it('names a key whose pool holds a port of datagrams', async () => {
    const { code, stderr } = await run('knockdaemon', ['--check', '--config', server([443], '400-12000', '49152-65535')])
    expect(code).toBe(1)
    expect(stderr).toContain('/keys/user0.key: the pool 400-12000 contains port 443')
  })
})
