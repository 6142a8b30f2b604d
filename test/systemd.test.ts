import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { put, scratch } from './system/scratch'

const ROOT = join(import.meta.dirname, '..')
const UNIT = readFileSync(join(ROOT, 'docs/systemd/knockdaemon.service'), 'utf8')
/** The worst exposure that is let pass, of 100; `systemd-analyze security` of systemd 252 gives 12. */
const EXPOSURE = 15

/** The unit for this checkout: systemd-analyze looks whether its programs are there. */
const path = put(scratch(), 'knockdaemon.service', UNIT.replaceAll('/opt/knockturn', ROOT), 0o644)
const analyze = (...args: string[]) => spawnSync('systemd-analyze', [...args, path], { encoding: 'utf8' })
/** What the unit says of a setting, in all its lines. */
const setting = (name: string) => [...UNIT.matchAll(new RegExp(`^${name}=(.*)$`, 'gm'))].map(([, value]) => value)

describe('the unit of the guard', () => {
  const text = readFileSync(join(ROOT, 'docs/systemd/knockturn-guard.service'), 'utf8')
  const guard = put(scratch(), 'knockturn-guard.service', text.replaceAll('/opt/knockturn', ROOT), 0o644)
  const valuesOf = (name: string) => new RegExp(`^${name}=(.*)$`, 'm').exec(text)?.[1].split(' ')
  /** Debian's units that load the administrator's own rules. */
  const LOADERS = ['nftables.service', 'netfilter-persistent.service', 'ufw.service']

  it('has no fault that systemd finds', () => {
    const { status, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', guard], { encoding: 'utf8' })
    expect([status, stderr.split('\n').filter((line) => line.includes('knockturn-guard.service'))]).toEqual([0, []])
  })

  it('comes before the network, behind each program that loads rules, and does again what they do', () => {
    // No ordinary program is started before sysinit.target, and none may listen without the guard.
    expect(valuesOf('Before')).toEqual(expect.arrayContaining(['sysinit.target', 'network-pre.target']))
    expect(valuesOf('Wants')).toContain('network-pre.target')
    for (const name of ['After', 'PartOf', 'ReloadPropagatedFrom', 'WantedBy'])
      expect([name, valuesOf(name)]).toEqual([name, expect.arrayContaining(LOADERS)])
  })

  it('never takes the guard away, and is never started too often', () => {
    expect(text).not.toMatch(/^ExecStop/m)
    expect([valuesOf('RemainAfterExit'), valuesOf('StartLimitIntervalSec')]).toEqual([['yes'], ['0']])
  })

  it('has the daemon behind it', () => {
    expect(setting('After').join(' ')).toContain(' knockturn-guard.service ')
  })
})

describe('the unit of trials', () => {
  const text = readFileSync(join(ROOT, 'docs/systemd/knockturn-trial.service'), 'utf8')
  const unit = put(scratch(), 'knockturn-trial.service', text.replaceAll('/opt/knockturn', ROOT), 0o644)
  const before = [...text.matchAll(/^Before=(.*)$/gm)].flatMap(([, names]) => names?.split(' '))

  it('has no fault that systemd finds', () => {
    const { status, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', unit], { encoding: 'utf8' })
    expect([status, stderr.split('\n').filter((line) => line.includes('knockturn-trial.service'))]).toEqual([0, []])
  })

  it('comes before the network, and before all that loads what it puts back; and only where there is a trial', () => {
    const behind = ['network-pre.target', 'nftables.service', 'netfilter-persistent.service', 'ufw.service']
    expect(before).toEqual(
      expect.arrayContaining([...behind, 'sysinit.target', 'knockturn-guard.service', 'knockdaemon.service']),
    )
    expect(text).toMatch(/^Wants=network-pre\.target$/m)
    expect(text).toMatch(/^ConditionPathExists=\/var\/lib\/knockturn-trial$/m)
  })
})

/** A unit of docs/systemd as this checkout has it, with what systemd finds in it, and its exposure of 100 at most so much. */
function unitOf(name: string, threshold: number) {
  const text = readFileSync(join(ROOT, 'docs/systemd', name), 'utf8')
  const folder = scratch()
  // What it names, such as a timer its service, has to be there.
  for (const other of readdirSync(join(ROOT, 'docs/systemd')).filter((one) => /\.(service|timer)$/.test(one)))
    put(folder, other, readFileSync(join(ROOT, 'docs/systemd', other), 'utf8').replaceAll('/opt/knockturn', ROOT), 0o644)
  const run = (...args: string[]) => spawnSync('systemd-analyze', [...args, join(folder, name)], { encoding: 'utf8' })
  const { status, stderr } = run('verify', '--man=no')
  return {
    faults: [status, stderr.split('\n').filter((line) => line.includes(`${name}:`))],
    exposure: () => run('security', '--offline=true', `--threshold=${threshold}`),
    has: (setting: string) => [...text.matchAll(new RegExp(`^${setting}=(.*)$`, 'gm'))].map(([, value]) => value),
  }
}
const NO_FAULT = [0, []]

describe('the unit of the probe', () => {
  const { faults, exposure, has } = unitOf('knockturn-probe.service', 12)

  it('has no fault that systemd finds, and is exposed no more than it has to be', () => {
    expect(faults).toEqual(NO_FAULT)
    expect(exposure()).toMatchObject({ status: 0, stdout: expect.stringContaining('Overall exposure level') })
  })

  it('lets it send to this machine and nowhere else, as nobody, with no privileges', () => {
    expect(
      [
        'IPAddressDeny',
        'IPAddressAllow',
        'RestrictAddressFamilies',
        'DynamicUser',
        'CapabilityBoundingSet',
        'NoNewPrivileges',
      ].map(has),
    ).toEqual([['any'], ['127.0.0.1'], ['AF_INET'], ['yes'], [''], ['yes']])
  })

  it('comes and goes with the daemon, and neither of them is ever given up', () => {
    expect([has('PartOf'), setting('Wants')]).toEqual([['knockdaemon.service'], ['knockturn-probe.service']])
    expect([has('StartLimitIntervalSec'), setting('StartLimitIntervalSec'), has('Restart')]).toEqual([['0'], ['0'], ['always']])
  })
})

describe('the units of fail_open_to', () => {
  const service = unitOf('knockturn-fail-open.service', 45)
  const timer = unitOf('knockturn-fail-open.timer', 100)

  it('have no fault that systemd finds, and are exposed no more than they have to be', () => {
    expect([service.faults, timer.faults]).toEqual([NO_FAULT, NO_FAULT])
    expect(service.exposure()).toMatchObject({ status: 0, stdout: expect.stringContaining('Overall exposure level') })
  })

  it('look once a minute, by a clock that nobody can set', () => {
    expect(['OnActiveSec', 'OnUnitInactiveSec', 'OnCalendar', 'Persistent'].map(timer.has)).toEqual([['1min'], ['1min'], [], []])
  })

  it('keep what they have counted from one look to the next, where the daemon’s user can’t reach it', () => {
    expect(['RuntimeDirectory', 'RuntimeDirectoryMode', 'RuntimeDirectoryPreserve', 'User'].map(service.has)).toEqual([
      ['knockturn-fail-open'],
      ['0700'],
      ['yes'],
      [],
    ])
  })
})

describe('the systemd unit', () => {
  it('has no fault that systemd finds', () => {
    const { status, stderr } = analyze('verify', '--man=no')
    // Of a setting that it doesn't know it only warns; what it says of other units is none of ours.
    expect([status, stderr.split('\n').filter((line) => line.includes('knockdaemon.service'))]).toEqual([0, []])
  })

  it('is exposed no more than it has to be', () => {
    const { status, stdout } = analyze('security', '--offline=true', `--threshold=${EXPOSURE}`)
    expect([status, stdout]).toEqual([0, expect.stringContaining('Overall exposure level')])
  })

  it.each([
    ['a program of the user’s', 'command', ['192.0.2.1']],
    ['a fleet', 'fleet', ['192.0.2.1', '192.0.2.2', '192.0.2.3']],
  ])('has no fault with what %s needs, and allows IP to the addresses that are named, and nothing else', (_, name, addresses) => {
    const folder = scratch()
    const dropIn = readFileSync(join(ROOT, `docs/systemd/knockdaemon-${name}.conf`), 'utf8')
    mkdirSync(join(folder, 'knockdaemon.service.d'))
    put(join(folder, 'knockdaemon.service.d'), `${name}.conf`, dropIn, 0o644)
    const unit = put(folder, 'knockdaemon.service', UNIT.replaceAll('/opt/knockturn', ROOT), 0o644)
    const { status, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', unit], { encoding: 'utf8' })
    expect([status, stderr.split('\n').filter((line) => line.includes('knockdaemon.service'))]).toEqual([0, []])
    const settings = dropIn.split('\n').filter((line) => /^[^#[]/.test(line))
    expect(settings).toEqual(['RestrictAddressFamilies=AF_INET AF_INET6', `IPAddressAllow=${addresses.join(' ')}`])
  })

  it('gives the daemon what its tests give it, and no more', () => {
    expect(['AmbientCapabilities', 'CapabilityBoundingSet', 'NoNewPrivileges', 'User', 'LimitCORE'].map(setting)).toEqual([
      ['CAP_NET_ADMIN'],
      ['CAP_NET_ADMIN'],
      ['yes'],
      ['knockturn'],
      ['1'],
    ])
  })

  it('has a watchdog that hears of it by a child of its, and a folder that outlives a restart', () => {
    const names = ['Type', 'NotifyAccess', 'WatchdogSec', 'Restart', 'RuntimeDirectory', 'RuntimeDirectoryPreserve']
    expect(names.map(setting)).toEqual([['notify'], ['all'], ['60'], ['on-failure'], ['knockturn'], ['restart']])
  })

  it('puts the log rules in place unattended: what somebody is connected to must not keep the daemon from starting', () => {
    expect(setting('ExecStartPre')).toEqual(['/opt/knockturn/bin/knockturn firewall install --unattended'])
  })

  it('drops no line of the audit trail: only a limit above 0 takes the place of journald’s own', () => {
    const limit = ['LogRateLimitIntervalSec', 'LogRateLimitBurst'].map((name) => Number.parseInt(setting(name)[0], 10))
    expect(limit).toEqual([1, 1_000_000])
  })

  it('has a user whom its snippet for sysusers.d makes', () => {
    expect(readFileSync(join(ROOT, 'docs/systemd/knockturn.sysusers.conf'), 'utf8')).toMatch(/^u knockturn /m)
  })
})
