import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import pino from 'pino'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { Doors } from '../../src/daemon/doors/doors'
import type { Outcome } from '../../src/daemon/doors/waiting'
import { iptablesFirewall } from '../../src/daemon/iptables/iptables'
import { iptables, readTable } from '../../src/daemon/iptables/table'
import { isLease } from '../../src/gate/firewall'
import { Leases } from '../../src/gate/leases'
import { scratch } from '../system/scratch'

/* A rule that the kernel itself refuses, and not iptables: of one key, beside those of others. */

const now = () => ({ wall: Date.now(), steady: performance.now() })
const leases = new Leases()
const log = pino({ level: 'silent' })
const doors = new Doors({ leases, firewall: iptablesFirewall([await readTable('iptables')], () => {}), log, now })

/** Asks for a door, for one connection if need be; says what comes of it when the firewall follows. */
function open(id: string, key: string, once = false): () => Promise<Outcome> {
  const services = [{ port: 22, protocol: 'tcp' as const }]
  const fingerprint = key.padEnd(32, '0')
  const grant = { action: 'open' as const, address: '198.51.100.2', services, once, until: null }
  const [lease] = leases.open(id, key, fingerprint, grant, now()) ?? []
  if (!lease) throw new Error('there is room for it')
  return () => doors.opened(lease)
}
const rules = async () =>
  (await iptables('iptables', ['-S', 'KNOCKTURN-LEASES'])).split('\n').flatMap((line) => /lease:(\w+)/.exec(line)?.[1] ?? [])

beforeAll(async () => {
  expect((await doors.adopt()).entries).toEqual([])
  doors.follow()
  const first = open('00000001', 'a')
  doors.follow()
  expect(await first()).toBe('in force')
})
afterAll(async () => {
  await doors.settle()
  for (const flag of ['-F', '-X']) await iptables('iptables', [flag])
})

it('a rule that the kernel refuses fails its own key, and no door that is opened or shut in the same change', async () => {
  // The kernel wants no slash in the name of a limit, and iptables does not look.
  const bad = open('b/d', 'b', true)
  const good = open('00000003', 'c')
  const ended = leases
    .all()
    .filter(isLease)
    .filter(({ id }) => id === '00000001')
  leases.close(ended[0]?.fingerprint ?? '', '198.51.100.2', [])
  doors.follow()
  expect((await Promise.all([bad(), good(), doors.shut(ended)])).flat()).toEqual([
    { failed: expect.stringMatching(/RULE_APPEND failed \(Invalid argument\)/) },
    'in force',
    'ended',
  ])
  expect(await rules()).toEqual(['00000003'])
})

it('a firewall that is held up while it is tried for marks is not taken for one without them', async () => {
  const tools = scratch()
  const stub = join(tools, 'ip6tables-restore')
  writeFileSync(stub, '#!/bin/sh\necho "Another app is currently holding the xtables lock." >&2\nexit 4\n')
  chmodSync(stub, 0o755)
  const path = process.env.PATH
  process.env.PATH = `${tools}:${path}`
  try {
    const [table] = iptablesFirewall([await readTable('ip6tables')], () => {})
    await expect(table?.read()).rejects.toThrow('holding the xtables lock')
  } finally {
    process.env.PATH = path
  }
})
