import { describe, expect, it } from 'vitest'
import { leftOpen, readReport } from '../../../src/admin/doctor/daemon-half'
import { type FirewallFacts, judgeFirewalls } from '../../../src/admin/doctor/firewalls'
import { judgeFront, judgeSaved } from '../../../src/admin/doctor/guard'
import { judgeKeyEnds } from '../../../src/admin/doctor/key-ends'
import { judgeListeners } from '../../../src/admin/doctor/listeners'
import { judgeState } from '../../../src/admin/doctor/state'
import { judgeUnits, readUnit } from '../../../src/admin/doctor/units'
import { readKeyList } from '../../../src/admin/key-list'
import type { Listener } from '../../../src/admin/setup/listeners'
import type { State } from '../../../src/daemon/state/state'
import type { Check } from '../../../src/system/check'
import { Fault } from '../../../src/system/fault'
import { first, found, verdicts } from './found'

/* What doctor makes of what was seen: of each check a healthy one, a planted fault, and where it can be so, that nobody knows. */

describe('the order of the guard', () => {
  const chain = (type: string, prio: number, hook = 'prerouting') => ({
    chain: { family: 'ip', table: 'early', name: 'pre', type, hook, prio },
  })
  const rule = { rule: { family: 'ip', table: 'early', chain: 'pre' } }
  const ruleset = (...items: unknown[]) => JSON.stringify({ nftables: [{ metainfo: {} }, ...items] })
  it.each([
    ['DNAT comes behind it', true, [chain('nat', -100), rule], ['ok']],
    ['DNAT comes before our table', true, [chain('nat', -120), rule], ['fault']],
    ['DNAT comes at once with our table', true, [chain('nat', -110), rule], ['fault']],
    ['DNAT comes behind mangle', false, [chain('nat', -120), rule], ['ok']],
    ['DNAT comes before mangle', false, [chain('nat', -160), rule], ['fault']],
    ['a chain before it has no rule', true, [chain('nat', -160)], ['ok']],
    ['a chain before it only filters', true, [chain('filter', -300), rule], ['ok']],
    ['nothing is there', true, [], ['ok']],
  ])('%s', (_, isNft, items, wanted) => {
    expect(verdicts(judgeFront(ruleset(...items), isNft))).toEqual(wanted)
  })
  it('names the chain', () => {
    expect(judgeFront(ruleset(chain('nat', -160), rule), true)).toEqual(
      found('fault', /ip early pre \(priority -160\)/, /dstnat/),
    )
  })
})

describe('the saved guard', () => {
  it.each([
    ['is as now', [], ['ok']],
    ['is missing', [{ path: '/e/guard.nft', isThere: false }], ['fault']],
    ['is another', [{ path: '/e/guard.nft', isThere: true }], ['note']],
  ])('%s', (_, wrong, wanted) => {
    const checks = judgeSaved(['/e/guard.nft'], wrong, 'systemctl reload knockturn-guard')
    expect(verdicts(checks)).toEqual(wanted)
    if (wrong.length > 0) expect(first(checks).remedy).toBe('run "knockturn guard save && systemctl reload knockturn-guard"')
  })
})

describe('the units', () => {
  const UNITS = ['knockdaemon.service', 'knockturn-guard.service', 'knockturn-probe.service', 'knockturn-fail-open.timer']
  const fine = { isThere: true, enabled: 'enabled', active: 'active', isStale: false }
  const all = (more: Record<string, object> = {}) => new Map(UNITS.map((unit) => [unit, { ...fine, ...more[unit] }]))
  const needs = { guard: true, probe: true, failOpen: true }
  it.each([
    ['are enabled', {}, ['ok']],
    ['have no daemon at boot', { 'knockdaemon.service': { enabled: 'disabled' } }, ['fault']],
    ['have no guard at boot', { 'knockturn-guard.service': { enabled: 'masked' } }, ['fault']],
    ['have no guard at all', { 'knockturn-guard.service': { isThere: false } }, ['fault']],
    ['have a guard that has failed', { 'knockturn-guard.service': { active: 'failed' } }, ['fault']],
    ['have no timer', { 'knockturn-fail-open.timer': { enabled: 'disabled' } }, ['fault']],
    ['have no probe', { 'knockturn-probe.service': { isThere: false } }, ['note']],
    ['were changed', { 'knockdaemon.service': { isStale: true } }, ['note']],
  ])('%s', (_, more, wanted) => {
    expect(verdicts(judgeUnits(needs, all(more)))).toEqual(wanted)
  })
  it('need no guard, probe or timer where the config needs none', () => {
    const gone = { isThere: false, enabled: '', active: 'inactive' }
    const units = all(Object.fromEntries(UNITS.slice(1).map((unit) => [unit, gone])))
    expect(verdicts(judgeUnits({ guard: false, probe: false, failOpen: false }, units))).toEqual(['ok'])
  })
  it('are unknown without systemd', () => {
    expect(judgeUnits(needs, null)).toEqual(found('unknown', /systemd does not run here/, /by-hand/))
  })
  it('are read from systemctl show', () => {
    const text = 'LoadState=loaded\nActiveState=failed\nUnitFileState=disabled\nNeedDaemonReload=yes\n'
    expect(readUnit(text)).toEqual({ isThere: true, enabled: 'disabled', active: 'failed', isStale: true })
    expect(readUnit('LoadState=not-found\nUnitFileState=\n').isThere).toBe(false)
  })
  it('that are masked are unmasked by the remedy', () => {
    const checks = judgeUnits(needs, all({ 'knockdaemon.service': { enabled: 'masked' } }))
    expect(first(checks).remedy).toBe('run "systemctl unmask knockdaemon.service && systemctl enable --now knockdaemon.service"')
  })
})

describe('other firewalls', () => {
  const none: FirewallFacts = { tables: [], legacy: [], programs: [], nftables: null, isFlushing: false, keptOurs: [] }
  const service = { isEnabled: true, hasDropIn: false }
  it.each([
    ['are none', {}, 'nftables', ['ok']],
    ['have tables', { tables: ['inet firewalld', 'ip nat'] }, 'nftables', ['ok']],
    ['use both iptables', { tables: ['ip filter'], legacy: ['iptables filter'] }, 'iptables', ['note']],
    ['use iptables-legacy beside our table', { legacy: ['iptables filter'] }, 'nftables', ['note']],
    ['use iptables-legacy as ours does', { legacy: ['iptables filter'] }, 'iptables', ['ok']],
    ['cannot be read by nft', { tables: null }, 'nftables', ['unknown']],
    ['cannot be read by iptables-legacy', { legacy: null }, 'nftables', ['unknown']],
    ['flush the guard', { nftables: service, isFlushing: true }, 'iptables', ['fault']],
    ['flush nothing', { nftables: service }, 'iptables', ['ok']],
    [
      'would flush the guard, and do not run',
      { nftables: { ...service, isEnabled: false }, isFlushing: true },
      'iptables',
      ['ok'],
    ],
    ['load without the guard', { nftables: service, isFlushing: true }, 'nftables', ['note']],
    ['load with the guard', { nftables: { ...service, hasDropIn: true }, isFlushing: true }, 'nftables', ['ok']],
    ['have kept leases', { keptOurs: ['/etc/iptables/rules.v4'] }, 'iptables', ['note']],
    ['are all programs there are', { programs: ['ufw', 'firewalld', 'docker', 'podman', 'fail2ban'] }, 'iptables', ['ok']],
  ] as const)('%s', (_, facts, backend, wanted) => {
    expect(verdicts(judgeFirewalls({ ...none, ...facts }, backend, true))).toEqual(wanted)
  })
  it('are told with what they mean, where there is a guard and where there is none', () => {
    const facts: FirewallFacts = { ...none, tables: ['ip nat'], programs: ['docker'] }
    expect(first(judgeFirewalls(facts, 'iptables', true)).evidence).toBe(
      'by iptables (nf_tables): ip nat; docker is active: a port that it publishes is guarded like any other, if guard has it',
    )
    expect(judgeFirewalls(facts, 'iptables', false)).toEqual(
      found('note', /docker is active: ports that it publishes pass INPUT by/, /^set guard in/),
    )
  })
})

describe('what listens', () => {
  const listener = (port: number, more: Partial<Listener> = {}): Listener => ({
    ...{ service: { port, protocol: 'tcp' }, programs: ['nginx'], isSystems: true, publisher: null },
    ...more,
  })
  const all = (...listeners: Listener[]) => ({ found: listeners, unknown: [] })
  const none = { open: [], shut: [], unknown: [] }
  it('is well where all of it is guarded or shut', () => {
    expect(verdicts(judgeListeners(all(listener(22)), [], none))).toEqual(['ok'])
    expect(verdicts(judgeListeners(all(listener(80)), [listener(80)], none))).toEqual(['ok'])
  })
  it('is named where everyone reaches it', () => {
    const open = [new Fault('8080/tcp is open to everyone over IPv4: no rule blocks it')]
    const checks = judgeListeners(all(listener(8080), listener(80)), [listener(8080), listener(80)], { ...none, open })
    expect(checks).toEqual(found('note', /without a knock: 8080\/tcp \(nginx\)$/, /add "8080\/tcp" to guard/))
  })
  it('is not taken for another port that ends alike', () => {
    const open = [new Fault('8080/tcp is open to everyone over IPv4: no rule blocks it')]
    const checks = judgeListeners(all(listener(80)), [listener(80)], { ...none, open })
    expect(verdicts(checks)).toEqual(['ok'])
  })
  it('is unknown where nobody can tell, and where a container has it', () => {
    const unknown = ['cannot tell whether 80/tcp is open to everyone over IPv4: it depends']
    expect(judgeListeners(all(listener(80)), [listener(80)], { ...none, unknown })).toEqual(found('unknown', /80\/tcp \(nginx\)/))
    const published = listener(81, { publisher: 'docker' })
    expect(judgeListeners(all(published), [published], none)).toEqual(found('unknown', /81\/tcp \(published by docker\)/))
  })
  it('is unknown where it could not be asked, or the rules not be read', () => {
    expect(verdicts(judgeListeners({ found: [], unknown: ['cannot tell which ports docker publishes: x'] }, [], none))).toEqual([
      'unknown',
    ])
    const denied = ['not checked whether the services are open to everyone: reading the firewall requires CAP_NET_ADMIN']
    expect(verdicts(judgeListeners(all(listener(80)), [listener(80)], { ...none, unknown: denied }))).toEqual(['unknown'])
  })
})

describe('what the daemon says of its hearing', () => {
  const NOW = Date.parse('2026-11-30T12:00:00Z')
  const around = { file: '/etc/knockturn/knockturn.toml', path: '/var/lib/knockturn/state.json', now: NOW, hasSystemd: true }
  const judged = (hearing: State['hearing'], age = 3_000, config = around.file) =>
    judgeState({ state: { hearing, lastTap: null, source: 'nflog', config }, written: NOW - age }, around)
  it.each([
    ['well', ['ok']],
    ['deaf', ['fault']],
    ['waiting', ['note']],
    ['alone', ['unknown']],
    ['unknown', ['unknown']],
  ] as const)('%s', (hearing, wanted) => {
    expect(verdicts(judged(hearing))).toEqual(wanted)
  })
  it('counts for nothing where it is old', () => {
    expect(judged('well', 15_001)).toEqual(found('fault', /state\.json: was last written 15 s ago/, /journalctl -eu knockdaemon/))
    expect(verdicts(judged('well', 15_000))).toEqual(['ok'])
    expect(judged('well', -15_001)).toEqual(found('fault', /state\.json: was last written 15 s from now/, /journalctl -eu/))
  })
  it('is unknown where there is none', () => {
    expect(judgeState(null, around)).toEqual(found('unknown', /has written none/, /systemctl restart knockdaemon/))
  })
  it('is of another config, which is noted', () => {
    expect(judged('well', 0, '/tmp/other.toml')).toEqual(found('note', /another config: \/tmp\/other\.toml/))
  })
})

describe('the ends of keys', () => {
  const NOW = Date.parse('2026-11-30T12:00:00Z')
  const LABEL = 'gate.example'
  const listed = (id: string, more: object = {}) => ({
    id,
    server: LABEL,
    pool: '49152-65535',
    expires: null,
    revoked: null,
    grant: null,
    ...more,
  })
  const judged = (...keys: object[]) => judgeKeyEnds(readKeyList(JSON.stringify(keys)), LABEL, NOW)
  it.each([
    ['none ends', [listed('a')], ['ok']],
    ['one ends in a year', [listed('a', { expires: '2027-11-30T00:00:00Z' })], ['ok']],
    ['one ends in a week', [listed('a', { expires: '2026-12-07T00:00:00Z' }), listed('b')], ['note']],
    ['one has ended', [listed('a', { expires: '2026-11-29T00:00:00Z' }), listed('b')], ['ok']],
    [
      'all have ended',
      [listed('a', { expires: '2026-11-29T00:00:00Z' }), listed('b', { revoked: '2026-01-01T00:00:00Z' })],
      ['fault'],
    ],
    [
      'the only valid one is another server’s',
      [listed('a', { revoked: '2026-01-01T00:00:00Z' }), listed('b', { server: 'other' })],
      ['fault'],
    ],
    ['there is no key, which another check says', [], ['ok']],
  ])('%s', (_, keys, wanted) => {
    expect(verdicts(judged(...keys))).toEqual(wanted)
  })
  it('are unknown where there is no list', () => {
    for (const text of ['', '{}']) expect(verdicts(judgeKeyEnds(readKeyList(text), LABEL, NOW))).toEqual(['unknown'])
  })
  it('are said in days', () => {
    expect(judged(listed('alice', { expires: '2026-12-02T13:00:00Z' }))).toEqual(
      found('note', /alice \(2 days\)/, /knockturn key new/),
    )
  })
})

describe('the report of knockdaemon --check', () => {
  const ok = (name: string): Check => ({ name, verdict: 'ok', evidence: 'x' })
  it('is read as it was printed, and nothing else', () => {
    const report: Check[] = [ok('clock'), { name: 'config', verdict: 'fault', evidence: 'x', remedy: 'y' }]
    expect(readReport(JSON.stringify({ checks: report }))).toEqual(report)
    for (const text of ['', 'no fault', '{}', '{"checks":[{"name":"clock","verdict":"fine","evidence":"x"}]}'])
      expect(readReport(text)).toBeNull()
  })
  it('leaves open what it says nothing of', () => {
    const checks = leftOpen(['clock', 'config', 'keys', 'ledger', 'programs', 'kernel', 'tap source', 'log rules'].map(ok))
    expect(checks).toEqual([expect.objectContaining({ name: 'services', verdict: 'unknown' })])
  })
})
