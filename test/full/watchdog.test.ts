import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { knocked } from '../lab/knocks'
import { type Lab, makeLab } from '../lab/lab'
import type { Child } from '../lab/processes'
import { until } from '../lab/waiters'
import { FIRST_START, Machine } from './machine'
import { commands } from './manual.mjs'

/* systemd's watchdog over a daemon that has to prove that it hears, on a quiet server: every way in which it can become deaf. */

const SSH = 22
const WATCHDOG = 12
/** The watchdog's time, shorter than in the unit: all else is as there. */
const SHORT = `[Service]\nWatchdogSec=${WATCHDOG}\n`
/** Milliseconds in which a deaf daemon has been restarted: three probes in vain for 30 s, the watchdog, the restart, and a busy machine. */
const RESTARTED = 150_000

let lab: Lab
let machine: Machine
let client: Host
let journal: Child
let key: string

const systemctl = (...argv: string[]) => machine.must(['systemctl', ...argv])
const unit = () => machine.show('knockdaemon', 'ActiveState', 'MainPID', 'NRestarts', 'Result')
const door = () => ['-r', machine.host.ipv4, '-p', `${SSH}`, '-t', '10m']
const open = () => knocked(client, journal, key, ...door())
const sees = async () => (await client.connect(machine.host.ipv4, SSH)).saw
/** The process of that name in the daemon's unit. */
const pidOf = async (name: string) => (await machine.must(['pgrep', '--newest', '--exact', name])).trim()
const signal = (name: string, pid: string) => machine.must(['kill', `-${name}`, pid])
const isProbed = async () => (await machine.show('knockturn-probe', 'ActiveState')).ActiveState === 'active'
/** Probes that were sent since the helper was started. */
const sent = async () => Number((await machine.run(['cat', '/run/knockturn-probe/sent'])).stdout)

beforeAll(async () => {
  lab = await makeLab(['client'])
  ;({ client } = lab.hosts as { client: Host })
  machine = new Machine(lab)
  await machine.boot()
  await machine.host.startAgent()
  await machine.host.service(SSH)
  const [, , user = ''] = commands('Install')
  await machine.follow(user)
  machine.write('/etc/knockturn/knockturn.toml', `server = "gate.example"\n[firewall]\nguard = ["${SSH}/tcp"]\n`)
  const [newKey = ''] = commands('Make the first key')
  await machine.follow(newKey)
  await machine.follow('(umask 077; bin/knockturn key export alice > /root/alice.key)')
  key = join(machine.root, 'root/alice.key')
  const dropIns = '/etc/systemd/system/knockdaemon.service.d'
  mkdirSync(join(machine.root, dropIns))
  machine.write(`${dropIns}/first.conf`, FIRST_START)
  machine.write(`${dropIns}/short.conf`, SHORT)
  const [bySystemd = ''] = commands('Start the daemon')
  await machine.follow(bySystemd)
  journal = machine.start(['journalctl', '-u', 'knockdaemon', '-b', '-o', 'cat', '-f', '-n', 'all'])
  await journal.line(logged('ready'))
})
afterAll(() => lab?.end())
beforeEach(() => client.moveOn())

/** Makes it deaf, and waits until another daemon hears. @returns what its journal has had of it */
async function restarted(act: () => Promise<unknown>) {
  const before = await unit()
  const since = journal.lines.length
  await act()
  await journal.line(logged('ready'), since, RESTARTED)
  const { ActiveState, MainPID, NRestarts } = await unit()
  expect([ActiveState, MainPID === before.MainPID, Number(NRestarts) > Number(before.NRestarts)]).toEqual(['active', false, true])
  return journal.lines.slice(since)
}
const says = (lines: readonly string[], words: string) => lines.filter((line) => line.includes(words)).length

describe('a daemon on a quiet server', () => {
  it('is started when it hears, with its helper beside it', async () => {
    expect(await machine.show('knockdaemon', 'Type', 'ActiveState', 'WatchdogUSec')).toEqual({
      Type: 'notify',
      ActiveState: 'active',
      WatchdogUSec: `${WATCHDOG}s`,
    })
    await until(isProbed, 'the helper runs')
  })

  it('lives over several periods of the watchdog, by probes that open nothing and are in no line of the log', async () => {
    const before = await unit()
    await until(async () => (await sent()) >= 2, 'probes are sent', RESTARTED)
    const [since, first] = [journal.lines.length, await sent()]
    await sleep(5_000 * WATCHDOG)
    expect([await unit(), (await sent()) > first + 3, journal.lines.slice(since)]).toEqual([before, true, []])
  })

  it('is not killed while nobody sends probes', async () => {
    const before = await unit()
    await systemctl('stop', 'knockturn-probe')
    await journal.line((line) => line.includes('nobody sends probes'), 0, RESTARTED)
    await sleep(3_000 * WATCHDOG)
    expect(await unit()).toEqual(before)
    await systemctl('start', 'knockturn-probe')
  })
})

describe('its helper', () => {
  it('may send to this machine alone, and has nobody’s privileges', async () => {
    const { MainPID = '' } = await machine.show('knockturn-probe', 'MainPID')
    const status = await machine.must(['cat', `/proc/${MainPID}/status`])
    const field = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1]
    expect(['CapEff', 'CapBnd', 'NoNewPrivs', 'Seccomp'].map(field)).toEqual(['0000000000000000', '0000000000000000', '1', '2'])
    expect(await machine.show('knockturn-probe', 'IPAddressDeny', 'IPAddressAllow', 'RestrictAddressFamilies')).toEqual({
      IPAddressDeny: expect.stringContaining('0.0.0.0/0'),
      IPAddressAllow: '127.0.0.1/32',
      RestrictAddressFamilies: 'AF_INET',
    })
  })

  it('ends with the daemon, and comes back with it', async () => {
    await systemctl('stop', 'knockdaemon')
    expect((await machine.show('knockturn-probe', 'ActiveState')).ActiveState).toBe('inactive')
    const since = journal.lines.length
    await systemctl('start', 'knockdaemon')
    await journal.line(logged('ready'), since)
    await until(isProbed, 'the helper runs')
  })
})

describe('a daemon that has become deaf is restarted and hears again, and leases stay', () => {
  /** Opens a door, has it become deaf, and looks that another one hears. */
  async function heals(act: () => Promise<unknown>) {
    await open()
    const lines = await restarted(act)
    expect(await sees()).toBe('open')
    await client.moveOn()
    expect([await sees(), (await open()).msg, await sees()]).toEqual(['silence', 'accepted', 'open'])
    return lines
  }

  it('since its tcpdump is held up', async () => {
    const lines = await heals(async () => signal('STOP', await pidOf('tcpdump')))
    expect([says(lines, 'no packet has arrived'), says(lines, 'Watchdog timeout')]).toEqual([1, 1])
  })

  it('since it hangs itself', async () => {
    const lines = await heals(async () => signal('STOP', (await unit()).MainPID as string))
    expect(says(lines, 'Watchdog timeout')).toBe(1)
  })

  it('since another program has taken its log group, as soon as that gives it back', async () => {
    // Before another one has its name, which comes and goes.
    const ears = await pidOf('tcpdump')
    const taker = machine.start(['sh', '-c', 'until tcpdump -i nflog:5 -w /dev/null; do :; done'])
    await heals(async () => {
      await signal('KILL', ears)
      await taker.line((line) => line.includes('listening on'))
      await journal.line((line) => line.includes('no packet has arrived'), journal.lines.length, RESTARTED)
      await journal.line((line) => line.includes('cannot read NFLOG group 5'), journal.lines.length, RESTARTED)
      await machine.must(['sh', '-c', "kill $(pgrep --full '^tcpdump -i nflog:5 -w /dev/null')"])
    })
  })

  it('since its log rules are gone, without a program that tells it of that', async () => {
    await open()
    const since = journal.lines.length
    for (const family of ['iptables', 'ip6tables']) await machine.must([family, '-t', 'mangle', '-F', 'KNOCKTURN-TAPS'])
    await journal.line((line) => line.includes('another program changed the firewall'), since, RESTARTED)
    expect([await sees(), (await unit()).ActiveState]).toEqual(['open', 'active'])
    await client.moveOn()
    expect((await open()).msg).toBe('accepted')
  })
})

describe('a flood', () => {
  it('that fills the socket kills nobody', async () => {
    const before = await unit()
    const since = journal.lines.length
    const tcpdump = await pidOf('tcpdump')
    const touches = Array.from({ length: 20_000 }, (_, n) => ({ protocol: 'udp' as const, port: 50_000 + (n % 10_000) }))
    await signal('STOP', tcpdump)
    const ends = performance.now() + 5_000 * WATCHDOG
    while (performance.now() < ends) await client.replay(touches, machine.host.ipv4)
    await signal('CONT', tcpdump)
    expect([await unit(), says(journal.lines.slice(since), 'the kernel dropped') > 0]).toEqual([before, true])
    // What has filled the socket is read first: a knock behind it may be among what was dropped.
    const opens = async () => {
      await client.moveOn()
      return (await open().catch(() => null))?.msg === 'accepted'
    }
    await until(opens, 'a knock opens', RESTARTED)
  })
})

describe('a daemon that no probe can reach', () => {
  it('is restarted ever more rarely, and opens doors all the same', async () => {
    // A firewall of the administrator's own, which shuts loopback to the helper.
    await machine.must(['iptables', '-t', 'raw', '-I', 'PREROUTING', '-i', 'lo', '-p', 'udp', '-j', 'DROP'])
    await restarted(async () => {})
    await restarted(async () => {})
    expect(await machine.must(['cat', '/run/knockturn/unheard'])).toBe('1\n')
    expect((await open()).msg).toBe('accepted')
    await machine.must(['iptables', '-t', 'raw', '-F', 'PREROUTING'])
  })
})
