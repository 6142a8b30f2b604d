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

/** What doctor says of some checks. */
async function of(name: string): Promise<Check[]> {
  const path = { PATH: `/mnt/bin:${process.env.PATH}:/usr/sbin:/sbin` }
  const { stdout } = await place.run([process.execPath, join(BIN, 'knockturn'), 'doctor', '--json', '--no-try'], {
    env: path,
    timeoutMs: 90_000,
  })
  return (JSON.parse(stdout) as { checks: Check[] }).checks.filter((check) => check.name === name)
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
