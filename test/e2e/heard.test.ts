import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { check } from './live'
import { useGate } from './use-gate'

/* Whether the running daemon hears a packet of a private network, as the doctor finds out. */

const over = (family: string, verdict: string, evidence: RegExp) => ({
  name: `packets heard over ${family}`,
  verdict,
  evidence: expect.stringMatching(evidence),
})
const heard = (family: string) =>
  over(family, 'ok', /^a packet from \S+ to port \d+ of the pool, by a private network, has come to the daemon$/)
const unheard = (family: string) => ({
  ...over(family, 'fault', /by a private network, has not come to the daemon \(source "nflog"\)$/),
  remedy: expect.stringContaining('run "knockturn firewall install"'),
})

describe.each(['nftables', 'iptables'] as const)('by %s', (backend) => {
  const { server, gate } = useGate([], { backend, guard: 'all', keyOptions: ['--services', '22/tcp'] })

  beforeAll(() => {
    mkdirSync(`${dirname(gate.ledger)}-orders`, { mode: 0o755, recursive: true })
  })

  it('a daemon that hears is said to, over both families, and nothing is opened or refused for it', async () => {
    const since = gate.daemon.lines.length
    expect(await check(server, gate, 'heard')).toEqual([heard('IPv4'), heard('IPv6')])
    expect(gate.daemon.lines.slice(since).filter((line) => /accepted|refused/.test(line))).toEqual([])
  })

  it('packets that a rule drops in front of the log rules are a fault of their family', async () => {
    const rule = ['PREROUTING', '-p', 'tcp', '--syn', '-j', 'DROP']
    await server.must(['ip6tables', '-t', 'raw', '-A', ...rule])
    const checks = await check(server, gate, 'heard')
    await server.must(['ip6tables', '-t', 'raw', '-D', ...rule])
    expect(checks).toEqual([heard('IPv4'), unheard('IPv6')])
  })

  it('of a daemon that hangs nobody knows whether it hears', async () => {
    gate.daemon.child.kill('SIGSTOP')
    const checks = await check(server, gate, 'heard')
    gate.daemon.child.kill('SIGCONT')
    const silent = (family: string) => over(family, 'unknown', /^the daemon has not answered what it was asked/)
    expect(checks).toEqual(
      ['IPv4', 'IPv6'].map((family) => ({ ...silent(family), remedy: 'look at it with "knockturn status"' })),
    )
  })

  it('a daemon that does not run is not said to hear', async () => {
    await gate.daemon.end()
    const evidence = 'no daemon runs that could hear'
    const of = (family: string) => ({
      name: `packets heard over ${family}`,
      verdict: 'unknown',
      evidence,
      remedy: 'start it: "systemctl start knockdaemon"',
    })
    expect(await check(server, gate, 'heard')).toEqual([of('IPv4'), of('IPv6')])
  })
})
