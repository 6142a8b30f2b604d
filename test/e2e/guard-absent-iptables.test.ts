import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, beforeEach, expect, it } from 'vitest'
import { BIN } from '../root'
import { useGate } from './use-gate'

/* What an administrator is told where the guard of iptables is not in place, or only a part of it. No daemon runs that mends it. */

const FAMILIES = ['iptables', 'ip6tables'] as const
const { server, client, gate } = useGate(['client'], {
  backend: 'iptables',
  guard: ['22/tcp'],
  serve: [22],
  keyOptions: ['--services', '22/tcp'],
})

const check = () => server.run([...gate.command, '--check'])
const install = () => server.must([join(BIN, 'knockturn'), 'firewall', 'install', '--config', gate.config])
const mangle = (family: string, ...argv: string[]) => server.must([family, '-t', 'mangle', ...argv])
const sees = async (family: string) => (await client.connect(family === 'iptables' ? server.ipv4 : server.ipv6, 22)).saw

const NOT_IN_PLACE = /^knockdaemon: error: the guard is not in place: .*\nhint: run "knockturn firewall install": /m

beforeAll(() => gate.daemon.end())
beforeEach(() => install())

it('--check says nothing of a guard that is in place', async () => {
  expect([await sees('iptables'), await sees('ip6tables')]).toEqual(['silence', 'silence'])
  expect(await check()).toMatchObject({ code: 0, stderr: '' })
})

it.each(
  FAMILIES.flatMap(
    (family) =>
      [
        [family, 'without its rules', ['-F', 'KNOCKTURN']],
        [family, 'that is never jumped to', ['-D', 'PREROUTING', '-j', 'KNOCKTURN']],
        [family, 'behind a rule that accepts', ['-I', 'PREROUTING', '-p', 'tcp', '--dport', '22', '-j', 'ACCEPT']],
        [family, 'whose gate lets all through', ['-F', 'KNOCKTURN-GATE']],
        [family, 'with an accept in it', ['-I', 'KNOCKTURN', '-p', 'tcp', '--dport', '22', '-j', 'ACCEPT']],
      ] as const,
  ),
)('--check says that the guard of %s is not in place %s, and the port is open then', async (family, _how, argv) => {
  await mangle(family, ...argv)
  const { code, stderr } = await check()
  expect([await sees(family), code, stderr]).toEqual(['open', 1, expect.stringMatching(NOT_IN_PLACE)])
  await mangle(family, '-F', 'PREROUTING')
})

it('--check says that the guard in place is not that of the config', async () => {
  const config = readFileSync(gate.config, 'utf8')
  writeFileSync(gate.config, config.replace(/^guard = .*$/m, 'guard = ["22/tcp", "443/tcp"]'))
  const before = await check()
  await install()
  const after = await check()
  writeFileSync(gate.config, config)
  const note = 'note: the rules in place are of another config, keyring or version: restart the daemon, or run'
  expect([before.stdout.includes(note), after.stdout.includes(note)]).toEqual([true, false])
})
