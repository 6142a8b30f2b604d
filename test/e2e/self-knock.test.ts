import { describe, expect, it } from 'vitest'
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
          /^place, key, firewall, daemon, shut, knock, tap, ledger, rule, open, expiry, shut again: in \d+\.\d s$/,
        ),
      },
    ])
  })
})
