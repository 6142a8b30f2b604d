import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { Check } from '../../src/system/check'
import type { Host } from '../lab/host'
import { Lab } from '../lab/lab'
import { BIN } from '../root'
import { OwnEtc, SET_UP } from './own-etc'

/* What knockturn doctor finds of a boot: units, and what other programs load, on a server whose systemd answers as it is told. */

/** A systemctl that knows which units are enabled: those in /mnt/enabled. */
const SYSTEMCTL = `#!/bin/sh
case $1 in
  show)
    unit=$2
    state=disabled active=inactive
    grep -qx "$unit" /mnt/enabled && state=enabled active=active
    printf '%s\\n' LoadState=loaded "ActiveState=$active" NeedDaemonReload=no "UnitFileState=$state" DropInPaths= ;;
  *) exit 1 ;;
esac
`

let lab: Lab
let place: OwnEtc

beforeAll(async () => {
  lab = new Lab([])
  await lab.build()
  place = new OwnEtc(lab.hosts.server as Host)
  await place.mount()
  await place.sh(SET_UP, process.execPath, BIN, 'iptables')
  await place.must([
    'sh',
    '-c',
    'mkdir -p /run/systemd/system /mnt/bin && printf "%s" "$0" > /mnt/bin/systemctl && chmod 755 /mnt /mnt/bin /mnt/bin/systemctl',
    SYSTEMCTL,
  ])
})
afterAll(() => lab?.end())

/** What a program there prints as JSON. @param node what Node is told */
async function asked(words: readonly string[], node: readonly string[] = []) {
  const path = { PATH: `/mnt/bin:${process.env.PATH}:/usr/sbin:/sbin` }
  const argv = [process.execPath, ...node, join(BIN, 'knockturn'), ...words, '--json']
  const { stdout } = await place.run(argv, { env: path, timeoutMs: 90_000 })
  return JSON.parse(stdout)
}
/** What doctor says of some checks. */
async function of(name: string, node: readonly string[] = []): Promise<Check[]> {
  const { checks } = (await asked(['doctor', '--no-try'], node)) as { checks: Check[] }
  return checks.filter((check) => check.name === name)
}
const enable = (...units: string[]) => place.sh(`printf '%s\\n' ${units.join(' ')} > /mnt/enabled`)

it('finds units that do not start at boot, one by one', async () => {
  await enable('none')
  expect(await of('units')).toMatchObject([
    {
      verdict: 'fault',
      evidence: expect.stringMatching(/^knockdaemon\.service is disabled: /),
      remedy: 'run "systemctl enable --now knockdaemon.service"',
    },
    {
      verdict: 'fault',
      evidence: expect.stringMatching(/^knockturn-guard\.service is disabled: /),
      remedy: 'run "systemctl enable --now knockturn-guard.service"',
    },
  ])
  await enable('knockdaemon.service', 'knockturn-guard.service')
  expect(await of('units')).toMatchObject([{ verdict: 'ok' }])
})

it('finds a config of nftables.service that flushes the guard, and rules of ours that another program has kept', async () => {
  expect(await of('other firewalls')).toMatchObject([{ verdict: 'ok' }])
  await enable('knockdaemon.service', 'knockturn-guard.service', 'nftables.service')
  await place.sh('mkdir -p /etc/iptables && iptables-save > /etc/iptables/rules.v4 && echo "flush ruleset" > /etc/nftables.conf')
  expect(await of('other firewalls')).toMatchObject([
    {
      verdict: 'fault',
      evidence: expect.stringContaining('"flush ruleset" takes the guard away'),
      remedy: expect.stringContaining('delete table'),
    },
    { verdict: 'note', evidence: expect.stringContaining("/etc/iptables/rules.v4 has rules of Knockturn's") },
  ])
  await place.sh('rm -r /etc/iptables && echo > /etc/nftables.conf')
})

it('finds that the timer of fail_open_to is not enabled', async () => {
  const config = '/etc/knockturn/knockturn.toml'
  await enable('knockdaemon.service', 'knockturn-guard.service')
  await place.sh(`cp ${config} /mnt/config && printf '%s\\n' 'fail_open_to = ["198.51.100.0/24"]' >> ${config}`)
  const disabled = await of('units')
  await enable('knockdaemon.service', 'knockturn-guard.service', 'knockturn-fail-open.timer')
  const enabled = await of('units')
  await place.sh(`cp /mnt/config ${config}`)
  expect([disabled, enabled]).toMatchObject([
    [
      {
        verdict: 'fault',
        evidence: expect.stringMatching(/^knockturn-fail-open\.timer is disabled: fail_open_to opens nothing/),
        remedy: 'run "systemctl enable --now knockturn-fail-open.timer"',
      },
    ],
    [{ verdict: 'ok' }],
  ])
})

it('finds a clock that cannot be true, and does not say of a daemon that waits for it that none runs', async () => {
  await place.sh(`echo 'const now = Date.now; Date.now = () => now() % 1e9' > /mnt/1970.cjs`)
  const in1970 = ['--require', '/mnt/1970.cjs']
  expect(await of('clock')).toMatchObject([{ verdict: 'ok' }])
  expect(await of('clock', in1970)).toMatchObject([
    {
      verdict: 'fault',
      evidence: expect.stringMatching(/^the clock is wrong: .* got 1970-/),
      remedy: expect.stringContaining('set the clock'),
    },
  ])
  expect(await of('daemon')).toMatchObject([{ verdict: 'fault' }])
  expect(await of('daemon', in1970)).toMatchObject([
    { verdict: 'unknown', evidence: expect.stringContaining('a daemon that runs waits until the clock is set') },
  ])
  const { daemon, faults } = await asked(['status'], in1970)
  expect([daemon.life, faults.map(({ hint }: { hint: string }) => hint)]).toEqual([
    'unknown',
    expect.arrayContaining(['set the clock']),
  ])
})

it('finds a trial that is not permanent', async () => {
  expect(await of('trial')).toMatchObject([{ verdict: 'ok' }])
  const plant =
    'mkdir -m 700 "$0" "$0/trial" && cat /proc/sys/kernel/random/boot_id > "$0/trial/boot" && echo 1000000000 > "$0/trial/end"'
  await place.sh(plant, '/var/lib/knockturn-trial')
  expect(await of('trial')).toMatchObject([
    {
      verdict: 'note',
      evidence: expect.stringMatching(/^a set-up is tried and not permanent \(trial, \d+ s are left\)$/),
      remedy: expect.stringContaining('knockturn setup --confirm'),
    },
  ])
  await place.sh('rm -r /var/lib/knockturn-trial')
})
