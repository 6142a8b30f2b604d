import { utimesSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { GUARD } from '../lab/gate'
import { knocked } from '../lab/knocks'
import { until } from '../lab/waiters'
import { BIN } from '../root'
import { useGate } from './use-gate'

/* How a server stands, as the administrator sees it: well, with a daemon that is dead or hangs, and without its guard. */

const SSH = 22

describe.each(['nftables', 'iptables'] as const)('knockturn status, with %s', (backend) => {
  const { server, client, gate } = useGate(['client'], { serve: [SSH], backend, guard: GUARD })
  const command = (...words: string[]) => [process.execPath, join(BIN, 'knockturn'), ...words, '--config', gate.config]
  const status = (...words: string[]) => server.run(command('status', ...words), {})
  const seen = async () => JSON.parse((await status('--json')).stdout)
  const messages = async () => (await seen()).faults.map(({ message }: { message: string }) => message)

  let isHurt = false
  const killDaemon = async () => {
    isHurt = true
    await gate.daemon.end('SIGKILL')
  }
  beforeEach(() => client.moveOn())
  afterEach(async () => {
    if (isHurt) gate.daemon = await gate.startDaemon()
    isHurt = false
  })

  it('says that the guard is not loaded at boot before it is saved, and then that all is well', async () => {
    await until(async () => (await seen()).daemon.hearing !== 'waiting', 'the state has it that the daemon hears')
    expect(await messages()).toEqual(['the guard is not loaded at boot: the guarded ports are open then until the daemon runs'])
    await gate.knockturn('guard', 'save', '--config', gate.config)
    await until(async () => (await status()).code === 0, 'all is well')
    expect(await seen()).toMatchObject({
      well: true,
      faults: [],
      daemon: { life: 'alive', pid: expect.any(Number) },
      by: 'daemon',
    })
  })

  it('shows who has knocked, what is open for whom, and each key', async () => {
    const { leases } = await knocked(client, gate.daemon, gate.key, '-p', `${SSH}`, '-t', '10m')
    await until(async () => (await seen()).daemon.lastKnock !== null, 'the knock is in the state')
    const { stdout } = await status()
    expect(stdout).toMatch(new RegExp(`${leases[0]} +traveller +${client.ipv4} +22/tcp +in \\d+ (min|sec) \\(\\d{4}-`))
    expect(stdout).toContain(`open by traveller from ${client.ipv4}, accepted`)
    expect(stdout).toMatch(/traveller +[\da-f]{8} +\d+ sec ago \(\S+\) from \S+ +right +never/)
    // No colour: it is no terminal.
    expect(stdout).not.toContain('\x1b')
    expect(await seen()).toMatchObject({
      leases: [{ id: leases[0], key: 'traveller', address: client.ipv4, service: '22/tcp', once: false }],
      daemon: { lastKnock: { key: 'traveller', source: client.ipv4, outcome: 'accepted' } },
      keys: [{ id: 'traveller', lastUse: { source: client.ipv4, windowsOff: 0 } }],
    })
  })

  it('tells a daemon that was killed from one that lives, at once, and what goes on in the firewall without it', async () => {
    const { leases } = await knocked(client, gate.daemon, gate.key, '-p', `${SSH}`)
    await killDaemon()
    const { code, stderr } = await status()
    expect([code, stderr]).toEqual([1, expect.stringContaining('knockturn: error: no daemon is running: nothing opens\nhint: ')])
    const { daemon, by, leases: found } = await seen()
    expect([daemon.life, by]).toEqual(['dead', 'firewall'])
    expect(found).toContainEqual(expect.objectContaining({ id: leases[0], address: client.ipv4, service: '22/tcp' }))
  })

  it('tells a daemon that hangs from one that lives, and gives up an order that it does not answer', {
    timeout: 60_000,
  }, async () => {
    gate.daemon.child.kill('SIGSTOP')
    const before = Date.now() / 1_000 - 60
    await until(() => {
      utimesSync(join(gate.folder, 'state.json'), before, before)
      return true
    }, 'the state is old')
    try {
      expect(await messages()).toEqual([expect.stringMatching(/^the daemon hangs: it has said nothing of itself since \S+Z$/)])
      const given = await server.run(command('lease', 'close', '--key', 'traveller'), {})
      expect(given).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('the daemon has not answered') })
    } finally {
      gate.daemon.child.kill('SIGCONT')
    }
    await until(async () => (await seen()).daemon.life === 'alive', 'it lives again')
  })

  it('says that the guard is gone, where it is', async () => {
    await killDaemon()
    if (backend === 'nftables') await server.must(['nft', 'delete', 'table', 'inet', 'knockturn'])
    else await server.must(['iptables', '-t', 'mangle', '-F', 'PREROUTING'])
    expect(await messages()).toContain(
      'the guard is not in the firewall, or not all of it: the guarded ports may be open to everyone',
    )
    expect((await seen()).guard).toMatchObject({ loaded: false })
  })

  it('takes nothing for well that it may not look at', async () => {
    const user = ['--reuid', `${gate.user.uid}`, '--regid', `${gate.user.gid}`, '--clear-groups']
    const privileges = ['--inh-caps', '--ambient-caps', '--bounding-set'].map((set) => `${set}=-all`)
    const looking = ['setpriv', ...user, ...privileges, ...command('status', '--json')]
    // The daemon's own user sees what it says of itself, and not the firewall.
    const { code, stdout } = await server.run(looking, {})
    const { well, daemon, guard } = JSON.parse(stdout)
    expect([code, well, daemon.life, guard.loaded]).toEqual([1, false, 'alive', null])
    await killDaemon()
    const dead = JSON.parse((await server.run(looking, {})).stdout)
    expect([dead.daemon.life, dead.by, dead.leases]).toEqual(['dead', null, []])
  })

  it('watches until it is interrupted, and that is no failure', async () => {
    const watching = server.start(command('status', '--watch'))
    await watching.line((line) => line.startsWith('daemon'))
    await watching.line((line) => line.startsWith('daemon'), watching.lines.length)
    expect(await watching.end('SIGINT')).toMatchObject({ code: 0 })
  })
})
