import { readFileSync, writeFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { logged } from '../lab/gate'
import { knocked } from '../lab/knocks'
import { besiege } from '../lab/siege'
import { useGate } from './use-gate'

const SSH = 22
const { server, client, stranger, gate } = useGate(['client', 'stranger'], { serve: [SSH], backend: 'iptables' })

const open = () => knocked(client, gate.daemon, gate.key, '-p', String(SSH))
const sees = async () => (await client.connect(server.ipv4, SSH)).saw
const chains = () => server.must(['iptables-save'])
const tables = () => server.must(['nft', 'list', 'tables'])

/** Stops the daemon, writes another backend into its config, and starts it again. */
async function change(firewall: string) {
  await gate.daemon.end()
  const config = readFileSync(gate.config, 'utf8')
  writeFileSync(gate.config, config.replace(/\[firewall\][\s\S]*?(?=\[ledger\])/, `[firewall]\n${firewall}\n`))
  gate.daemon = await gate.startDaemon()
}

it('a change to nftables sweeps the leases and chains of iptables, and says so', async () => {
  await open()
  expect(await chains()).toContain(':KNOCKTURN-LEASES')
  // The administrator's own policy has shut the port: now the guard does.
  for (const iptables of ['iptables', 'ip6tables']) await server.must([iptables, '-P', 'INPUT', 'ACCEPT'])
  await change('backend = "nftables"\nguard = ["22/tcp"]')
  await gate.daemon.line(logged('removed what another backend left in the firewall', { backend: 'iptables' }))
  expect(await chains()).not.toContain('KNOCKTURN')
  expect([await server.leases(client), await sees()]).toEqual([[], 'silence'])
  await open()
  expect(await sees()).toBe('open')
})

it('a change back to iptables sweeps the table of nftables, and says so', async () => {
  expect(await tables()).toContain('inet knockturn')
  for (const iptables of ['iptables', 'ip6tables']) await server.must([iptables, '-P', 'INPUT', 'DROP'])
  await change('backend = "iptables"')
  await gate.daemon.line(logged('removed what another backend left in the firewall', { backend: 'nftables' }))
  expect(await tables()).not.toContain('inet knockturn')
  expect([await server.leases(client), await sees()]).toEqual([[], 'silence'])
  await gate.knockturn('firewall', 'install', '--config', gate.config)
  await open()
  expect(await sees()).toBe('open')
})

it('a guard for iptables sweeps the leases and chains of its filter table, says so, and no moment is open', async () => {
  expect((await server.leases(client)).length).toBe(1)
  const siege = besiege(stranger, server.ipv4, SSH)
  await change('backend = "iptables"\nguard = ["22/tcp"]')
  await gate.daemon.line(logged('removed what another backend left in the firewall', { backend: 'iptables' }))
  for (const iptables of ['iptables', 'ip6tables']) await server.must([iptables, '-P', 'INPUT', 'ACCEPT'])
  expect(await server.must(['iptables-save', '-t', 'filter'])).not.toContain('KNOCKTURN')
  expect([await server.leases(client), await sees()]).toEqual([[], 'silence'])
  expect(Object.keys(await siege.end())).toEqual(['silence'])
  await open()
  expect(await sees()).toBe('open')
})

it.each([
  ['nftables', 'iptables with a guard'],
  ['iptables', 'nftables'],
])('a change to the guard of %s sweeps that of %s, and no moment is open', async (backend, other) => {
  const siege = besiege(stranger, server.ipv4, SSH)
  await change(`backend = "${backend}"\nguard = ["22/tcp"]`)
  await gate.daemon.line(logged('removed what another backend left in the firewall', { backend: other }))
  expect([await server.leases(client), await sees()]).toEqual([[], 'silence'])
  expect(Object.keys(await siege.end())).toEqual(['silence'])
  await open()
  expect(await sees()).toBe('open')
})

it('without it, the leases and chains in its mangle table go, and that is said', async () => {
  expect((await server.leases(client)).length).toBe(1)
  const siege = besiege(stranger, server.ipv4, SSH)
  for (const iptables of ['iptables', 'ip6tables']) await server.must([iptables, '-P', 'INPUT', 'DROP'])
  await change('backend = "iptables"')
  await gate.daemon.line(logged('removed what another backend left in the firewall', { backend: 'iptables with a guard' }))
  expect(await server.must(['iptables-save', '-t', 'mangle'])).not.toContain('KNOCKTURN')
  expect([await server.leases(client), await sees()]).toEqual([[], 'silence'])
  expect(Object.keys(await siege.end())).toEqual(['silence'])
  await gate.knockturn('firewall', 'install', '--config', gate.config)
  await open()
  expect(await sees()).toBe('open')
})

it('a start without a change sweeps nothing', async () => {
  await gate.daemon.end()
  gate.daemon = await gate.startDaemon()
  expect(await sees()).toBe('open')
  expect(gate.daemon.lines.filter((line) => line.includes('another backend'))).toEqual([])
})
