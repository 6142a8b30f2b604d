import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { toNumber } from '../../../src/daemon/exposure/matches'
import { effectsOf, readRuleset } from '../../../src/daemon/exposure/nft-tables'

/*
 * Rulesets as administrators and programs have them (the files beside this one), as nftables 1.0.6 lists them with `nft -j -t list ruleset`, and one
 * as 1.1.3 does.
 */

const listing = (name: string) => readRuleset(readFileSync(join(import.meta.dirname, 'rulesets', `${name}.listing`), 'utf8'))
const PLACES = {
  IPv4: { family: 'iptables', address: '198.51.100.1' },
  IPv6: { family: 'ip6tables', address: '2001:db8:7::1' },
} as const

/** What a ruleset does to strangers at a port, over each family: `table chain: all`, one a chain. */
function seen(name: string, port: number, interfaces = ['eth0'], protocol: 'tcp' | 'udp' = 'tcp') {
  return Object.values(PLACES).map(({ family, address }) => {
    const addresses = [toNumber(address) as bigint]
    const effects = effectsOf(listing(name), { family, interfaces, addresses, service: { port, protocol } }, true)
    return effects.map(({ table, chain, drops, forwards }) => `${table} ${chain}: ${drops}${forwards ? ', forwards' : ''}`).join()
  })
}

const PASSES = ['', '']
const drops = (where: string) => [`${where}: all`, `${where}: all`]
const perhaps = (where: string) => [`${where}: perhaps`, `${where}: perhaps`]

describe('a ruleset', () => {
  it.each([
    ['debian', 22, drops('inet filter input')],
    ['debian-services', 22, PASSES],
    ['debian-services', 443, PASSES],
    ['debian-services', 8080, drops('inet filter input')],
    ['firewalld', 22, PASSES],
    ['firewalld', 443, drops('inet firewalld filter_INPUT')],
    ['fail2ban', 22, PASSES],
    ['fail2ban', 443, PASSES],
    ['policy', 22, PASSES],
    ['policy', 8005, drops('inet firewall inbound')],
    ['policy', 443, drops('inet firewall inbound')],
    ['doubtful', 22, perhaps('inet filter input')],
    ['ingress', 22, PASSES],
    ['ingress', 443, perhaps('netdev edge in')],
    ['ingress-1.1.3', 22, PASSES],
    ['ingress-1.1.3', 443, drops('netdev edge in')],
  ])('of %s is read as it works for %i/tcp', (name, port, expected) => {
    expect(seen(name, port)).toEqual(expected)
  })

  it('that goes by protocols is read as it works for UDP', () => {
    expect(seen('policy', 53, ['eth0'], 'udp')).toEqual(PASSES)
    expect(seen('policy', 22, ['eth0'], 'udp')).toEqual(drops('inet firewall inbound'))
    expect(seen('debian-services', 22, ['eth0'], 'udp')).toEqual(drops('inet filter input'))
  })

  it('that goes by interfaces is read by those which lead outside', () => {
    expect(seen('policy', 22, ['wan0'])).toEqual(drops('inet firewall inbound'))
    expect(seen('policy', 22, ['eth0', 'wan0'])).toEqual(perhaps('inet firewall inbound'))
    expect(seen('ingress-1.1.3', 443, ['wan0'])).toEqual(PASSES)
    expect(seen('policy', 22, [])).toEqual(perhaps('inet firewall inbound'))
  })
})
