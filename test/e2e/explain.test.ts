import { join } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { knocked } from '../lab/knocks'
import { PATIENCE } from '../lab/waiters'
import { BIN } from '../root'
import { useGate } from './use-gate'

/* What `knockturn explain` says of a knock, and what becomes of it; and what `knockturn log` says afterwards. */

const SSH = 22

describe.each(['nftables', 'iptables'] as const)('with %s and a guard', (backend) => {
  const { server, client, other, gate } = useGate(['client', 'other'], {
    serve: [SSH],
    backend,
    guard: [`${SSH}/tcp`],
    keyOptions: ['--services', `${SSH}/tcp`, '--max', '1h', '--lock'],
  })
  const program = (...args: string[]) => server.run([process.execPath, join(BIN, 'knockturn'), ...args])
  const explain = (...args: string[]) => program('explain', 'traveller', '--config', gate.config, ...args)
  const explained = async (...args: string[]) => {
    const { stdout, code } = await explain(...args, '--json')
    const { would, rules } = JSON.parse(stdout)
    const refusing = rules.filter(({ verdict }: { verdict: string }) => verdict === 'refuses')
    return { code, would, refusing: refusing.map(({ rule }: { rule: string }) => rule) }
  }
  const sees = async (host = client) => (await host.connect(server.ipv4, SSH)).saw
  afterEach(() => server.run(['nft', 'delete', 'table', 'inet', 'another']))

  it('a knock that would open opens, and one that would not is refused by the same rule', async () => {
    await vi.waitFor(async () => {
      const explanation = await explained('--from', client.ipv4, '-p', String(SSH))
      expect(explanation).toEqual({ code: 0, would: true, refusing: [] })
    }, PATIENCE)
    expect(await sees()).toBe('silence')
    await knocked(client, gate.daemon, gate.key, '-r', server.ipv4, '-4', '-p', String(SSH))
    expect(await sees()).toBe('open')

    expect(await explained('--from', client.ipv4, '-p', '80')).toEqual({ code: 1, would: false, refusing: ['services'] })
    const refused = await knocked(client, gate.daemon, gate.key, '-r', server.ipv4, '-4', '-p', '80', '--force')
    expect(refused).toMatchObject({ msg: 'refused', refusal: 'not-granted', rule: 'services', allowed: '22/tcp' })
  })

  it('a door that another firewall keeps shut under the lease is said not to open, and does not', async () => {
    await server.must(['nft', '-f', '-'], {
      input: `table inet another { chain in { type filter hook input priority 10; tcp dport ${SSH} drop; }; }\n`,
    })
    expect(await explained('--from', other.ipv4, '-p', String(SSH))).toEqual({ code: 1, would: false, refusing: ['firewall'] })
    await knocked(other, gate.daemon, gate.key, '-r', server.ipv4, '-4', '-p', String(SSH))
    expect(await sees(other)).toBe('silence')
    await server.must(['nft', 'delete', 'table', 'inet', 'another'])
    expect(await sees(other)).toBe('open')
  })

  it('the log of what has happened becomes sentences, which name who was let in and what was refused', async () => {
    const input = gate.daemon.lines.map((line) => `${line}\n`).join('')
    const { stdout, code } = await server.run([process.execPath, join(BIN, 'knockturn'), 'log', '--file', '-'], { input })
    expect(code).toBe(0)
    expect(stdout).toMatch(/Z {2}the daemon is ready: server gate\.example, 1 key, taps by nflog\n/)
    expect(stdout).toContain(`  traveller opened 22/tcp for ${client.ipv4} until `)
    expect(stdout).toContain(
      `  refused traveller from ${client.ipv4}, who asked to open port 80 for 5m: the grant opens only 22/tcp (services)\n`,
    )
  })

  it('a source that is banned is said to be', async () => {
    await knocked(client, gate.daemon, gate.key, '-r', server.ipv4, '-4', '--lock', '-t', '10')
    await vi.waitFor(async () => {
      expect(await explained('--from', client.ipv4, '-p', String(SSH))).toEqual({ code: 1, would: false, refusing: ['ban'] })
    }, PATIENCE)
    expect((await explained('--from', '203.0.113.9', '-p', String(SSH))).would).toBe(true)
  })
})
