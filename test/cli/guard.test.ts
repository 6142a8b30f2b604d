import { mkdirSync, readdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { printedFiles } from '../../src/admin/guard'
import { keyText, put, scratch } from '../system/scratch'
import { run } from './programs'

/** A server's config with a key, and with these lines in [firewall]. */
function server(...firewall: string[]): string {
  const folder = scratch()
  mkdirSync(join(folder, 'keys'), { mode: 0o700 })
  put(folder, 'keys/user.key', keyText({ id: 'user' }))
  return put(folder, 'knockturn.toml', `server = "gate.example"\nkeys = "keys"\n[firewall]\n${firewall.join('\n')}\n`, 0o644)
}
const save = (config: string, ...options: string[]) => run('knockturn', ['guard', 'save', '--config', config, ...options])
const NFTABLES = ['backend = "nftables"', 'guard = ["22/tcp", "60000-61000/udp"]']

describe('knockturn guard save --print', () => {
  it('prints what nft loads, and touches no lease: it neither deletes nor flushes what they are in', async () => {
    const config = server(...NFTABLES)
    const { code, stdout } = await save(config, '--print')
    expect([code, stdout.split('\n')[0]]).toEqual([0, `# ${join(dirname(config), 'guard.nft')}`])
    expect(stdout).toContain('add rule inet knockturn guard meta l4proto . th dport != { tcp . 22, udp . 60000-61000 } accept')
    expect(stdout).not.toMatch(/^(delete|destroy|flush (set \S+ \S+ leases|chain \S+ \S+ (open|once)))/m)
    expect(readdirSync(dirname(config))).not.toContain('guard.nft')
  })

  it('prints what iptables-restore loads, and leaves the chain of leases as it is', async () => {
    const { code, stdout } = await save(server('guard = ["22/tcp"]'), '--print')
    expect([code, stdout.match(/^# .*\/guard\.(\w+)$/gm)?.length]).toEqual([0, 2])
    expect(stdout).toMatch(/^-A KNOCKTURN .*--dports 22 .*-j KNOCKTURN-GATE$/m)
    expect(stdout).not.toMatch(/^:KNOCKTURN-LEASES /m)
  })
})

describe('knockturn guard save', () => {
  it('writes the files of a guard only, and beside the config, whatever the owner of the keyring has printed', () => {
    const printed =
      '# /etc/knockturn/guard.iptables\n*mangle\n# /etc/cron.d/guard\n* * * * * root id\n# /etc/other/guard.nft\nadd table\n'
    expect(printedFiles(printed, '/etc/knockturn')).toEqual([
      { path: '/etc/knockturn/guard.iptables', text: '*mangle\n' },
      { path: '/etc/knockturn/guard.nft', text: 'add table\n' },
    ])
  })

  it.each([
    ['no guard', ['backend = "nftables"'], 'no guard is set, so there is nothing to load at boot'],
    [
      'a backend that shuts nothing',
      ['backend = "dry-run"', 'guard = ["22/tcp"]'],
      'backend "dry-run" has no guard to load at boot',
    ],
  ])('refuses %s', async (_, firewall, fault) => {
    const { code, stdout, stderr } = await save(server(...firewall), '--print')
    expect([code, stdout, stderr]).toEqual([1, '', expect.stringContaining(fault)])
  })

  it('writes nothing where it can’t have the kernel try the guard', async () => {
    const config = server(...NFTABLES)
    const { code, stderr } = await save(config)
    expect([code, stderr]).toEqual([1, expect.stringContaining('the kernel has to try the guard, and this user may not')])
    expect(readdirSync(dirname(config))).not.toContain('guard.nft')
  })
})
