import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, it } from 'vitest'
import { BIN } from '../root'
import { useGate } from './use-gate'

/* What an administrator is told where the guard is not in place, or where a table of its name is not ours. No daemon runs that mends it. */

const { server, client, gate } = useGate(['client'], {
  backend: 'nftables',
  guard: ['22/tcp'],
  serve: [22],
  keyOptions: ['--services', '22/tcp'],
})

const nft = (text: string) => server.must(['nft', '-f', '-'], { input: text })
const check = () => server.run([...gate.command, '--check'])
const firewall = (...argv: string[]) =>
  server.run([join(BIN, 'knockturn'), 'firewall', ...argv, ...(argv[0] === 'install' ? ['--config', gate.config] : [])])
const tables = () => server.must(['nft', 'list', 'tables'])
const replace = (text: string) => nft(`add table inet knockturn\ndelete table inet knockturn\n${text}`)

const NOT_IN_PLACE = /^knockdaemon: error: the guard is not in place: .*\nhint: run "knockturn firewall install": /m

beforeAll(() => gate.daemon.end())

it('--check says nothing of a guard that is in place', async () => {
  await firewall('install')
  expect((await client.connect(server.ipv4, 22)).saw).toBe('silence')
  expect(await check()).toMatchObject({ code: 0, stderr: '' })
})

it.each([
  ['missing', ''],
  ['incomplete', 'add table inet knockturn\n'],
])('--check says that the guard is %s, and the port is open then', async (_how, text) => {
  await replace(text)
  const { code, stderr } = await check()
  expect([code, stderr]).toEqual([1, expect.stringMatching(NOT_IN_PLACE)])
  expect((await client.connect(server.ipv4, 22)).saw).toBe('open')
})

it('--check has the guard put in place before anything is let through elsewhere', async () => {
  await replace('table inet own { chain input { type filter hook input priority 0; policy drop; }; }\n')
  const { stderr } = await check()
  await nft('delete table inet own\n')
  expect(stderr).toMatch(NOT_IN_PLACE)
  expect(stderr).toMatch(/no lease opens 22\/tcp .*\nhint: when the guard is in place, run "nft insert rule /)
})

it.each(['nftables', 'iptables'])('--check says that the guard of %s in place is not that of the config', async (backend) => {
  const config = readFileSync(gate.config, 'utf8')
  const own = config.replace(/^backend = .*$/m, `backend = "${backend}"`)
  const checkAfter = async (text: string, isInstalled: boolean) => {
    writeFileSync(gate.config, text)
    if (isInstalled) expect((await firewall('install')).code).toBe(0)
    return (await check()).stdout
  }
  const other = own.replace(/^guard = .*$/m, 'guard = ["22/tcp", "443/tcp"]')
  const said = [await checkAfter(own, true), await checkAfter(other, false), await checkAfter(other, true)]
  await firewall('remove')
  await checkAfter(config, true)
  const note = 'note: the rules in place are of another config, keyring or version: restart the daemon, or run'
  expect(said.map((text) => text.includes(note))).toEqual([false, true, false])
})

it.each([
  ['a set of another type', 'table inet knockturn { set leases4 { type ipv4_addr; flags timeout; }; }\n'],
  ['another hook', 'table inet knockturn { chain guard { type filter hook input priority 0; policy drop; }; }\n'],
])('install says what to do about a table with %s, show shows it, and that leads to a guard', async (_what, text) => {
  await replace(text)
  const installed = await firewall('install')
  expect(installed.code).toBe(1)
  expect(installed.stderr).toMatch(
    /^knockturn: error: table inet knockturn is of another version or another program: .*\nhint: run "knockturn firewall remove", .* "knockturn firewall install"\n$/,
  )
  expect((await check()).stderr).toContain('error: table inet knockturn is of another version or another program: ')
  expect(await firewall('show')).toMatchObject({ code: 0, stdout: expect.stringContaining('table inet knockturn {') })
  expect((await firewall('remove')).code).toBe(0)
  expect(await tables()).not.toContain('inet knockturn')
  expect((await firewall('install')).code).toBe(0)
  expect((await client.connect(server.ipv4, 22)).saw).toBe('silence')
})

it('--check names an exception that spares strangers, who reach the port then', async () => {
  const config = readFileSync(gate.config, 'utf8')
  writeFileSync(gate.config, config.replace(/^guard = .*$/m, '$&\nguard_except = ["0.0.0.0/0"]'))
  await firewall('install')
  const [{ code, stderr }, { saw }] = [await check(), await client.connect(server.ipv4, 22)]
  writeFileSync(gate.config, config)
  await firewall('install')
  const said =
    'knockdaemon: error: strangers reach the guarded ports: guard_except spares "0.0.0.0/0"\n' +
    'hint: remove "0.0.0.0/0" from guard_except in [firewall]\n'
  expect([code, stderr, saw]).toEqual([1, said, 'open'])
})
