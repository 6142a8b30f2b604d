import { chmodSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { type Lab, makeLab } from '../lab/lab'
import { until } from '../lab/waiters'
import { FIRST_START, Machine } from './machine'
import { commands } from './manual.mjs'

/* fail_open_to on a booted machine, with its timer: what a stopped daemon and a machine without Node come to. */

const SSH = 22
/** The timer's pace, faster than in the unit, and looks after which it opens. The empty setting takes away both of the unit's. */
const [PACE, LOOKS] = [6, 5]
const FAST = `[Timer]\nOnActiveSec=\nOnActiveSec=${PACE}s\nOnUnitInactiveSec=${PACE}s\n`
/** Milliseconds in which it has opened, on a busy machine. */
const PATIENCE = 20_000 * LOOKS

let lab: Lab
let machine: Machine
let known: Host
let stranger: Host

const systemctl = (...argv: string[]) => machine.must(['systemctl', ...argv])
const doors = async () => Promise.all([known, stranger].map(async (host) => (await host.connect(machine.host.ipv4, SSH)).saw))
const NOBODY = ['silence', 'silence']
const FOR_KNOWN = ['open', 'silence']
const opens = () => until(async () => (await doors())[0] === 'open', 'it is open for the known', PATIENCE)
const shut = () => until(async () => (await doors())[0] === 'silence', 'it is shut', PATIENCE)
const said = () => machine.must(['journalctl', '-b', '-u', 'knockturn-fail-open', '-o', 'cat', '--no-pager'])
const listen = async () => {
  await machine.host.startAgent()
  await machine.host.service(SSH)
}

beforeAll(async () => {
  lab = await makeLab(['known', 'stranger'])
  ;({ known, stranger } = lab.hosts as { known: Host; stranger: Host })
  machine = new Machine(lab)
  await machine.boot(listen)
  const [, , user = ''] = commands('Install')
  await machine.follow(user)
  machine.write(
    '/etc/knockturn/knockturn.toml',
    `server = "gate.example"\n[firewall]\nguard = ["${SSH}/tcp"]\nfail_open_to = ["${known.ipv4}"]\nfail_open_after = "${LOOKS}m"\n`,
  )
  const [newKey = ''] = commands('Make the first key')
  await machine.follow(newKey)
  for (const [unit, text] of [
    ['knockdaemon.service', FIRST_START],
    ['knockturn-fail-open.timer', FAST],
  ] as const) {
    mkdirSync(join(machine.root, `etc/systemd/system/${unit}.d`))
    machine.write(`/etc/systemd/system/${unit}.d/test.conf`, text)
  }
  await systemctl('enable', '--now', 'network-of-test')
  const [save = ''] = commands('Load the guard at boot')
  await machine.follow(save)
  const [bySystemd = ''] = commands('Start the daemon')
  await machine.follow(bySystemd)
  await machine.follow(
    'cp docs/systemd/knockturn-fail-open.service docs/systemd/knockturn-fail-open.timer /etc/systemd/system/\n' +
      'systemctl daemon-reload && systemctl enable --now knockturn-fail-open.timer',
  )
})
afterAll(() => lab?.end())

describe('fail_open_to', () => {
  it('opens nothing while the daemon lives, nor while it is restarted, and fills no log', async () => {
    const ends = performance.now() + 2_000 * PACE * LOOKS
    while (performance.now() < ends) {
      expect(await doors()).toEqual(NOBODY)
      await systemctl('restart', 'knockdaemon')
      await sleep(PACE * 1_000)
    }
    expect(await said()).toBe('')
  })

  it('opens for the known alone when the daemon was stopped, and is closed by the next one', async () => {
    await systemctl('stop', 'knockdaemon')
    await opens()
    expect([await doors(), await said()]).toEqual([FOR_KNOWN, expect.stringContaining('THE GUARDED PORTS ARE OPEN')])
    const journal = machine.start(['journalctl', '-u', 'knockdaemon', '-b', '-o', 'cat', '-f', '-n', '0'])
    await systemctl('start', 'knockdaemon')
    await journal.line(logged('ready'), 0, PATIENCE)
    await shut()
    // By the daemon, or by the timer if that comes first.
    const isSaid = async () => /they are closed again|is taken back/.test([...journal.lines, await said()].join('\n'))
    await until(isSaid, 'it is said that it is closed', PATIENCE)
  })

  it('opens after a boot at which there is no Node any more', async () => {
    chmodSync(join(machine.root, 'usr/bin/node'), 0)
    await machine.reboot(listen).catch((error: Error) => expect(error.message).toMatch(/knockdaemon|systemd is up/))
    expect((await doors())[1]).toBe('silence')
    await opens()
    expect(await doors()).toEqual(FOR_KNOWN)
  })
})
