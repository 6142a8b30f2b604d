import { appendFileSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { knocked } from '../lab/knocks'
import { type Lab, makeLab } from '../lab/lab'
import { besiege } from '../lab/siege'
import { until } from '../lab/waiters'
import { FIRST_START, Machine, PACKAGED } from './machine'
import { commands } from './manual.mjs'

/* The guard before the network, on machines without a daemon: a stranger tries to get in all the while. */

const SSH = 22
/** How often a program that loads the firewall's rules is reloaded. */
const RELOADS = 5
/** Tries that a stranger must have made, so that a siege means anything: in a tenth of a second. */
const LEAST = 20
/** By each backend, with Debian's unit that loads the administrator's own rules of its kind. */
const CASES = [
  { backend: 'nftables', image: 'others', loader: 'nftables', verbs: ['restart', 'reload'] },
  { backend: 'iptables', image: 'persistent', loader: 'netfilter-persistent', verbs: ['restart'] },
] as const

describe.each(CASES)('the guard of $backend beside $loader', ({ backend, image, loader, verbs }) => {
  let lab: Lab
  let machine: Machine
  let client: Host
  let stranger: Host

  /** Something listens behind the door before the first program of the machine runs. */
  const listen = async () => {
    await machine.host.startAgent()
    await machine.host.service(SSH)
  }
  const systemctl = (...argv: string[]) => machine.must(['systemctl', ...argv])
  const sees = async (host: Host) => (await host.connect(machine.host.ipv4, SSH)).saw
  const siege = () => besiege(stranger, machine.host.ipv4, SSH)
  /** Lets the stranger try while something is done. @returns what they saw but for silence; they have tried often enough */
  const besieged = async (act: () => Promise<unknown>) => {
    const attack = siege()
    await until(() => (attack.seen.silence ?? 0) > LEAST, 'the stranger has tried')
    const { silence = 0, ...rest } = await act().finally(attack.end).then(attack.end)
    expect(silence).toBeGreaterThan(LEAST)
    return rest
  }

  beforeAll(async () => {
    lab = await makeLab(['client', 'stranger'])
    ;({ client, stranger } = lab.hosts as { client: Host; stranger: Host })
    machine = new Machine(lab, image)
    for (const unit of PACKAGED) machine.disable(unit)
    await machine.boot(listen)
    const [, , user = ''] = commands('Install')
    await machine.follow(user)
    machine.write(
      '/etc/knockturn/knockturn.toml',
      `server = "gate.example"\n[firewall]\nbackend = "${backend}"\nguard = ["${SSH}/tcp"]\n`,
    )
    const [newKey = ''] = commands('Make the first key')
    await machine.follow(newKey)
    await systemctl('enable', loader, 'network-of-test')
    // The administrator's own rules: none, in the table that they use.
    if (backend === 'iptables') await machine.must(['sh', '-c', 'iptables-save -t filter > /etc/iptables/rules.v4'])
    for (const script of commands('Load the guard at boot')) await machine.follow(script)
  })
  afterAll(() => lab?.end())
  beforeEach(() => client.moveOn())

  it('shuts the port at once, and the unit has no complaint', async () => {
    expect(await sees(stranger)).toBe('silence')
    expect(await machine.must(['journalctl', '-u', 'knockturn-guard', '-b', '-p', 'warning', '-o', 'cat'])).toBe('')
  })

  it('is there before the network at a boot and a reboot, and until the end of each', async () => {
    for (let n = 0; n < 2; n++)
      expect(await besieged(() => machine.reboot(listen))).toEqual(expect.not.objectContaining({ open: expect.anything() }))
    expect(await sees(stranger)).toBe('silence')
    expect(await machine.must(['journalctl', '-b', '-o', 'cat', '--no-pager'])).not.toContain('ordering cycle')
    const order = await machine.must([
      'systemctl',
      'show',
      'knockturn-guard',
      'network-pre.target',
      'network-of-test',
      '-p',
      'ActiveEnterTimestampMonotonic',
      '--value',
    ])
    const [guard, , network] = order.split('\n').filter(Boolean).map(Number)
    expect(guard).toBeLessThan(network as number)
  })

  it.each(verbs)(`is not missed for a moment when ${loader} does a %s`, async (verb) => {
    await systemctl('start', loader)
    const seen = await besieged(async () => {
      for (let n = 0; n < RELOADS; n++) {
        await systemctl(verb, loader)
        // So often in a row systemd would not restart it.
        await systemctl('reset-failed', loader)
      }
    })
    expect(seen).toEqual({})
  })

  it(`is there while ${loader} is stopped, and when it has been started again`, async () => {
    const seen = await besieged(async () => {
      await systemctl('stop', loader)
      await systemctl('start', loader)
    })
    expect(seen).toEqual({})
    expect(await machine.show('knockturn-guard', 'ActiveState')).toEqual({ ActiveState: 'active' })
  })

  it('keeps leases when it is loaded again, with no daemon', async () => {
    mkdirSync(join(machine.root, 'etc/systemd/system/knockdaemon.service.d'))
    machine.write('etc/systemd/system/knockdaemon.service.d/first.conf', FIRST_START)
    const [bySystemd = ''] = commands('Start the daemon')
    await machine.follow(bySystemd)
    await machine.follow('(umask 077; bin/knockturn key export alice > /root/alice.key)')
    const journal = machine.start(['journalctl', '-u', 'knockdaemon', '-b', '-o', 'cat', '-f', '-n', 'all'])
    await journal.line(logged('ready'))
    const door = ['-r', machine.host.ipv4, '-p', `${SSH}`, '-t', '10m']
    await knocked(client, journal, join(machine.root, 'root/alice.key'), ...door)
    await systemctl('disable', '--now', 'knockdaemon')
    expect([await sees(client), await sees(stranger)]).toEqual(['open', 'silence'])
    const seen = await besieged(async () => {
      for (let n = 0; n < RELOADS; n++) await systemctl('reload', 'knockturn-guard')
      for (let n = 0; n < RELOADS; n++) await systemctl('restart', 'knockturn-guard')
    })
    expect([await sees(client), seen]).toEqual(['open', {}])
  })

  it('is there when the daemon can’t start for a fault in its config', async () => {
    const config = join(machine.root, 'etc/knockturn/knockturn.toml')
    const whole = readFileSync(config, 'utf8')
    const [bySystemd = ''] = commands('Start the daemon')
    appendFileSync(config, 'nonsense = 1\n')
    const seen = await besieged(async () => {
      await machine.run(['bash', '-c', `cd /opt/knockturn\n${bySystemd}`])
      await systemctl('enable', 'knockdaemon')
      await machine.reboot(listen).catch((error: Error) => expect(error.message).toContain('knockdaemon'))
    })
    expect([await sees(stranger), seen.open]).toEqual(['silence', undefined])
    expect((await machine.run(['systemctl', 'is-active', 'knockdaemon'])).stdout.trim()).not.toBe('active')
    machine.write('/etc/knockturn/knockturn.toml', whole)
  })
})
