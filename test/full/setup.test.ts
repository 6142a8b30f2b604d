import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Host } from '../lab/host'
import { knock } from '../lab/knocks'
import { type Lab, makeLab } from '../lab/lab'
import type { Child } from '../lab/processes'
import { until } from '../lab/waiters'
import { Machine } from './machine'
import { packaged, traces } from './package'

/* knockturn setup with a running systemd: once by the package, on a machine with a real sshd, and once from /opt/knockturn. */

const SSH = 22
/** Milliseconds for a set-up, which runs a dozen programs and starts a daemon, on a busy machine. */
const PATIENCE = 240_000
const CASES = [
  { image: 'bare', program: 'knockturn', backend: 'nftables', units: '/usr/lib/systemd/system' },
  { image: 'machine', program: '/opt/knockturn/bin/knockturn', backend: 'iptables', units: '/etc/systemd/system' },
] as const

describe.each(CASES)('setup of $image, with $backend', ({ image, program, backend, units }) => {
  let lab: Lab
  let machine: Machine
  let client: Host
  let stranger: Host
  let before: string[]
  const keyFile = () => join(machine.root, 'root/alice.key')
  const setup = (...more: string[]) => [
    ...[program, 'setup', '--yes', '--backend', backend, '--key', 'alice', '--host', machine.host.ipv4],
    ...['--key-out', '/root/alice.key', ...more],
  ]
  const waiting = (child: Child) => child.line((line) => line.startsWith('This session stays open'), 0, PATIENCE)
  const sees = async (host: Host) => (await host.connect(machine.host.ipv4, SSH)).saw
  const open = () => client.must(knock({ key: keyFile() }, '-p', `${SSH}`, '--wait', '20'), { timeoutMs: PATIENCE })
  const states = async () =>
    (await machine.run(['systemctl', 'is-active', 'knockturn-guard', 'knockdaemon'])).stdout.trim().split('\n')
  const enabled = async () =>
    (await machine.run(['systemctl', 'is-enabled', 'knockturn-guard', 'knockdaemon'])).stdout.trim().split('\n')
  const listen = async () => {
    await machine.host.startAgent()
    if (image !== 'bare') await machine.host.service(SSH)
  }

  beforeAll(async () => {
    lab = await makeLab(['client', 'stranger'])
    ;({ client, stranger } = lab.hosts as { client: Host; stranger: Host })
    machine = new Machine(lab, image)
    await machine.boot(listen)
    await machine.must(['systemctl', 'enable', '--now', 'network-of-test'])
    if (image === 'bare') await packaged(machine)
    await until(async () => (await sees(client)) === 'open', 'something listens at port 22', PATIENCE)
    before = await traces(machine)
  })
  afterAll(() => lab?.end())
  beforeEach(() => client.moveOn())

  it('changes nothing with --dry-run', async () => {
    const printed = await machine.must(setup('--dry-run'), { timeoutMs: PATIENCE })
    expect(printed).toContain('systemctl restart knockdaemon.service')
    expect(await traces(machine)).toEqual(before)
  })

  it('takes everything back at Ctrl-C', async () => {
    const child = machine.start(setup())
    await waiting(child)
    expect([await sees(stranger), await states(), await enabled()]).toEqual([
      'silence',
      ['active', 'active'],
      ['disabled', 'disabled'],
    ])
    // nsenter passes no signal on.
    await machine.must(['sh', '-c', 'kill -INT $(pgrep -f "[s]etup --yes")'])
    expect((await child.exited).code).toBe(1)
    expect(child.lines).toContain('taken back: everything is as it was before')
    expect(await traces(machine)).toEqual(before)
    expect(await sees(stranger)).toBe('open')
  })

  it('becomes permanent when somebody has come in by a knock', async () => {
    const child = machine.start(setup())
    await waiting(child)
    expect([await sees(client), await sees(stranger)]).toEqual(['silence', 'silence'])
    await open()
    const entered = await client.hold(machine.host.ipv4, SSH)
    expect(await child.exited).toEqual({ code: 0, signal: null })
    expect(child.lines).toContainEqual(expect.stringMatching(`^permanent: ${client.ipv4} has come in at 22/tcp`))
    await entered.end()
    expect([await states(), await enabled()]).toEqual([
      ['active', 'active'],
      ['enabled', 'enabled'],
    ])
    const { FragmentPath } = await machine.show('knockdaemon', 'FragmentPath')
    expect(FragmentPath).toBe(`${units}/knockdaemon.service`)
  })

  it('has nothing to change a second time', async () => {
    const there = await traces(machine)
    expect(await machine.must([program, 'setup', '--yes'], { timeoutMs: PATIENCE })).toBe('nothing to change\n')
    expect(await traces(machine)).toEqual(there)
  })

  it('shows its administrator how it stands, takes their orders, and tells what has happened', async () => {
    const show = async (...argv: string[]) => JSON.parse(await machine.must([program, ...argv, '--json']))
    // Probes are sent by a unit of its own, every few seconds.
    await until(async () => (await show('status')).daemon.hearing === 'well', 'a probe has arrived', PATIENCE)
    await open()
    expect(await sees(client)).toBe('open')
    await until(async () => (await show('status')).daemon.lastKnock?.source === client.ipv4, 'the state has it', PATIENCE)
    expect(await show('status')).toMatchObject({
      well: true,
      faults: [],
      daemon: { life: 'alive', hearing: 'well', lastKnock: { key: 'alice', source: client.ipv4, outcome: 'accepted' } },
      guard: { loaded: true, permanent: true },
      by: 'daemon',
      leases: expect.arrayContaining([expect.objectContaining({ key: 'alice', address: client.ipv4, service: `${SSH}/tcp` })]),
    })
    const talking = await client.hold(machine.host.ipv4, SSH)
    const { closed, by } = await show('lease', 'close', '--key', 'alice', '--kill')
    expect([by, closed.length > 0, (await show('lease', 'list')).leases]).toEqual(['daemon', true, []])
    await until(async () => !(await talking.isAlive()), 'the connection has ended', PATIENCE)
    await client.moveOn()
    expect(await sees(client)).toBe('silence')
    const told = await machine.must([program, 'log', '--since', '1h', '--key', 'alice'])
    expect(told).toMatch(/alice.* opened 22\/tcp/)
  })

  it('is found in order by doctor, which tries a whole knock and leaves nothing', async () => {
    // An order has been given, which the daemon has answered and noted.
    const left = async () => (await traces(machine)).filter((line) => !/knockturn(-orders|\/answers|\/state\.json)/.test(line))
    const there = await left()
    const { code, stdout, stderr } = await machine.run([program, 'doctor', '--json'], { timeoutMs: PATIENCE })
    const checks = JSON.parse(stdout).checks as { name: string; verdict: string; evidence: string }[]
    expect(checks.filter(({ verdict }) => verdict === 'fault')).toEqual([])
    for (const name of ['self-knock', 'units', 'hearing', 'guard', 'saved guard'])
      expect([name, ...checks.filter((check) => check.name === name).map(({ verdict }) => verdict)]).toEqual([name, 'ok'])
    expect([code, stderr]).toEqual([0, ''])
    expect(await left()).toEqual(there)
  })

  it('is there after a reboot: guard and daemon, and a knock opens', async () => {
    await machine.reboot(listen)
    expect([await sees(stranger), await states()]).toEqual(['silence', ['active', 'active']])
    await open()
    expect([await sees(client), await sees(stranger)]).toEqual(['open', 'silence'])
    expect(await machine.must([program, 'setup', '--yes'], { timeoutMs: PATIENCE })).toBe('nothing to change\n')
  })
})
