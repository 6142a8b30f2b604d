import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { selfKnockChecks } from '../../src/admin/doctor/self-knock'
import { parseConfig } from '../../src/daemon/config'
import { ROOT } from '../root'

const like = async (firewall: string) => {
  const { value } = await parseConfig('/etc/knockturn/knockturn.toml', `server = "gate.example"\n[firewall]\n${firewall}\n`)
  if (!value) throw new Error('the config is wrong')
  return value
}

describe('a self-knock', () => {
  it.each([
    ['nftables', 'backend = "nftables"\nguard = "all"'],
    ['iptables with a guard', 'backend = "iptables"\nguard = ["22/tcp"]'],
    ['iptables without one', 'backend = "iptables"'],
  ])('goes from key to shut door by %s', async (_, firewall) => {
    expect(await selfKnockChecks(await like(firewall), ROOT)).toEqual([
      {
        name: 'self-knock',
        verdict: 'ok',
        evidence: expect.stringMatching(
          /^place, key, firewall, daemon, closed, knock, tap, ledger, rule, open, expiry, closed again: in \d+\.\d s$/,
        ),
      },
    ])
  })

  const folders: string[] = []
  const usual = process.env.PATH
  afterEach(() => {
    process.env.PATH = usual
    for (const folder of folders.splice(0)) rmSync(folder, { recursive: true })
  })

  /** Has this machine find other programs first. */
  function withPrograms(programs: Record<string, string>) {
    const folder = mkdtempSync(join(tmpdir(), 'knockturn-'))
    folders.push(folder)
    for (const [name, script] of Object.entries(programs))
      writeFileSync(join(folder, name), `#!/bin/bash\n${script}\n`, { mode: 0o755 })
    process.env.PATH = `${folder}:${usual}`
  }

  it.each([
    ['a capture that does not start', 'tcpdump', 'echo broken >&2; exit 1', /^start a daemon: /],
    [
      'a capture that hears another group',
      'tcpdump',
      'shift 2; exec /usr/bin/tcpdump -i nflog:6 "$@"',
      /^the daemon hears the knock/,
    ],
    ['an nft that fails', 'nft', 'echo "Error: broken" >&2; exit 1', /^install the guard and the log rules: .*broken/],
    [
      'leases that are listed and let nobody in',
      'nft',
      '[ "$*" = "-f -" ] && { sed "/^add element .* open4_32 /d" | /usr/sbin/nft -f -; exit; }; exec /usr/sbin/nft "$@"',
      /^the door is open to who has knocked, and to nobody else: expected open, saw silence$/,
    ],
  ])('finds %s', async (_, program, script, evidence) => {
    withPrograms({ [program]: script })
    expect(await selfKnockChecks(await like('backend = "nftables"\nguard = "all"'), ROOT)).toEqual([
      { name: 'self-knock', verdict: 'fault', evidence: expect.stringMatching(evidence), remedy: expect.any(String) },
    ])
  })

  it('finds a firewall that keeps nobody out', async () => {
    withPrograms({ iptables: '[ "$*" = "-P INPUT DROP" ] || exec /usr/sbin/iptables "$@"' })
    expect(await selfKnockChecks(await like('backend = "iptables"'), ROOT)).toEqual([
      {
        name: 'self-knock',
        verdict: 'fault',
        evidence: 'the door is closed before the knock: expected silence, saw open',
        remedy: expect.stringContaining('dmesg'),
      },
    ])
  })

  it('that cannot be tried is not said to be well', async () => {
    withPrograms({ unshare: 'echo "unshare: unshare failed: Operation not permitted" >&2; exit 1' })
    expect(await selfKnockChecks(await like('backend = "iptables"'), ROOT)).toEqual([
      {
        name: 'self-knock',
        verdict: 'unknown',
        evidence: 'cannot be tried: cannot make a private network: unshare: unshare failed: Operation not permitted',
        remedy: expect.any(String),
      },
    ])
  })

  it("never calls the user's own program, and opens nothing in its place", async () => {
    withPrograms({})
    const command = ['open', 'close'].map((act) => `${act} = ["/bin/false", "{address}"]`).join('\n')
    const config = await like(`backend = "command"\n[firewall.command]\n${command}`)
    expect(await selfKnockChecks(config, ROOT)).toEqual([
      {
        name: 'self-knock',
        verdict: 'ok',
        evidence: expect.stringMatching(
          /^place, key, firewall, daemon, knock, tap, ledger: in .* s; not tried: the firewall, since/,
        ),
      },
    ])
  })
})
