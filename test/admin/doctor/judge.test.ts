import { describe, expect, it } from 'vitest'
import { judgeClock, readAdjtimex, readChrony, readNtpq, readTimedatectl, readTimesync } from '../../../src/admin/doctor/clock'
import { judgeLimits } from '../../../src/admin/doctor/daemon'
import { leftOpen, readReport } from '../../../src/admin/doctor/daemon-half'
import { type FirewallFacts, judgeFirewalls } from '../../../src/admin/doctor/firewalls'
import { judgeFront, judgeSaved } from '../../../src/admin/doctor/guard'
import { judgeKeyEnds } from '../../../src/admin/doctor/key-ends'
import { judgeListeners } from '../../../src/admin/doctor/listeners'
import { judgeConntrack, judgeDisk, judgeModules, judgeNode } from '../../../src/admin/doctor/machine'
import { judgeState } from '../../../src/admin/doctor/state'
import { judgeUnits, readUnit } from '../../../src/admin/doctor/units'
import { readKeyList } from '../../../src/admin/key-list'
import type { Listener } from '../../../src/admin/setup/listeners'
import type { Check } from '../../../src/daemon/checks/check'
import type { State } from '../../../src/daemon/state/state'
import { Fault } from '../../../src/system/fault'

/* What doctor makes of what was seen: of each check a healthy one, a planted fault, and where it can be so, that nobody knows. */

const verdicts = (checks: readonly Check[]) => checks.map(({ verdict }) => verdict)
const first = (checks: readonly Check[]) => checks[0] as Check
/** A verdict that is not ok, with its evidence and remedy. */
const found = (verdict: string, evidence: RegExp, remedy?: RegExp) => [
  expect.objectContaining({
    verdict,
    evidence: expect.stringMatching(evidence),
    ...(remedy ? { remedy: expect.stringMatching(remedy) } : {}),
  }),
]

describe('what the clock’s keepers say', () => {
  it.each([
    [
      'A29FC801,162.159.200.1,4,1700000000.1,0.000012,-0.1,0.2,1,0,0.1,0.02,0.001,64.2,Normal',
      { isKept: true, offset: -0.000012 },
    ],
    ['A29FC801,162.159.200.1,4,1700000000.1,-31.5,-0.1,0.2,1,0,0.1,0.02,0.001,64.2,Normal', { isKept: true, offset: 31.5 }],
    ['00000000,,0,0.000000000,0.000000000,0,0,0,0,0,1,1,0.0,Not synchronised', { isKept: false, offset: null }],
    ['506 Cannot talk to daemon', { isKept: null, offset: null }],
  ])('chronyc: %s', (text, facts) => {
    expect(readChrony(text)).toEqual(facts)
  })

  it.each([
    ['       Server: 1.2.3.4\n       Offset: +1.203ms\n        Delay: 5ms\n', -0.001203],
    ['       Offset: -5min 3.25s\n', 303.25],
    ['       Offset: 0\n', null],
    ['       Server: n/a\nPacket count: 0\n', null],
  ])('timedatectl timesync-status: %j', (text, offset) => {
    expect(readTimesync(text)).toEqual({ isKept: null, offset: offset === null ? null : expect.closeTo(offset, 6) })
  })

  it.each([
    ['leap=00, offset=-250.5\n', { isKept: true, offset: 0.2505 }],
    ['leap=11, offset=0.000\n', { isKept: false, offset: null }],
    ['***Timeout\n', { isKept: null, offset: null }],
  ])('ntpq: %j', (text, facts) => {
    expect(readNtpq(text)).toEqual(facts)
  })

  it.each([
    ['         mode: 0\n       status: 8193\n', true],
    ['         mode: 0\n       status: 64\n', false],
    ['', null],
  ])('adjtimex: %j', (text, isKept) => {
    expect(readAdjtimex(text)).toEqual({ isKept, offset: null })
  })

  it.each([
    ['NTPSynchronized=yes\n', true],
    ['NTPSynchronized=no\n', false],
    ['', null],
  ])('timedatectl show: %j', (text, isKept) => {
    expect(readTimedatectl(text)).toEqual({ isKept, offset: null })
  })
})

describe('the clock', () => {
  const by = 'chronyc'
  it('is well where it is kept and right', () => {
    expect(judgeClock([{ by, isKept: true, offset: -0.0002 }])).toEqual([
      { name: 'clock kept', verdict: 'ok', evidence: 'it is kept (chronyc), and 0.200 ms behind (chronyc)' },
    ])
  })
  it('is well where it is kept, and nothing says how far it is off: that is said', () => {
    expect(first(judgeClock([{ by, isKept: true, offset: null }]))).toMatchObject({
      verdict: 'ok',
      evidence: expect.stringContaining('nothing says how far'),
    })
  })
  it.each([16, -40])('is a fault where it is %i s off', (offset) => {
    expect(judgeClock([{ by, isKept: true, offset }])).toEqual(
      found('fault', /the clock is [\d.]+ s (ahead|behind) \(chronyc\)/, /^run "/),
    )
  })
  it('is noted where it is a little off, or nothing keeps it', () => {
    expect(judgeClock([{ by, isKept: true, offset: 3 }])).toEqual(found('note', /3\.0 s ahead/))
    expect(judgeClock([{ by, isKept: false, offset: null }])).toEqual(found('note', /nothing keeps the clock/, /set-ntp true/))
  })
  it('is unknown where nobody says anything', () => {
    expect(judgeClock([])).toEqual(found('unknown', /none of timedatectl, chronyc/))
  })
})

describe('the machine', () => {
  it.each([
    ['v24.1.0', ['ok']],
    ['v20.19.0', ['note']],
    ['v23.1.0', ['note']],
  ])('Node %s', (version, wanted) => {
    expect(verdicts(judgeNode(version, '/usr/bin/node'))).toEqual(wanted)
  })

  it.each([
    [10, 100, ['ok']],
    [75, 100, ['note']],
    [95, 100, ['fault']],
    [95, 0, ['ok']],
    [null, 100, ['unknown']],
    [10, null, ['unknown']],
  ])('has %j of %j connections in its table', (count, max, wanted) => {
    expect(verdicts(judgeConntrack(count, max))).toEqual(wanted)
  })

  it('names the sysctl that makes the table larger', () => {
    expect(judgeConntrack(96, 100)).toEqual(found('fault', /^96 of 100 /, /sysctl -w net\.netfilter\.nf_conntrack_max=400/))
  })

  const GIB = 1024 ** 3
  const well = { room: GIB, names: 1, isInMemory: false, size: 0 }
  it.each([
    ['all is well', {}, ['ok']],
    ['names are without a limit', { names: null }, ['ok']],
    ['it lies in memory', { isInMemory: true }, ['fault']],
    ['little is left', { room: 100 * 1024 ** 2 }, ['note']],
    ['nothing is left', { room: 0 }, ['fault']],
    ['less is left than the ledger is large', { room: 200 * 1024 ** 2, size: 200 * 1024 ** 2 }, ['fault']],
    ['no name is left', { names: 0 }, ['fault']],
  ])('has a disk where %s', (_, facts, wanted) => {
    expect(verdicts(judgeDisk('/var/lib/knockturn', { ...well, ...facts }))).toEqual(wanted)
  })

  it.each([
    ['can load modules', true, false, false, ['ok']],
    ['can load none, and lacks none', false, true, true, ['ok']],
    ['lacks some, and their folder is gone', false, false, false, ['note']],
    ['lacks some, and must load none', true, true, false, ['note']],
  ])('%s', (_, isThere, isLocked, isKernelWell, wanted) => {
    expect(verdicts(judgeModules('/lib/modules/6.1', isThere, isLocked, isKernelWell))).toEqual(wanted)
  })
})

describe('the limits of the daemon', () => {
  const LIMITS = (files: string, core = '1') =>
    `Limit                     Soft Limit           Hard Limit           Units     \nMax core file size        ${core}                    1                    bytes     \nMax open files            ${files}                 524288               files     \n`
  it.each([
    ['far away', LIMITS('1024'), 30, 0, ['ok']],
    ['none', LIMITS('unlimited'), 30, null, ['ok']],
    ['near', LIMITS('32'), 30, 0, ['fault']],
    ['not to be read', null, 30, 0, ['unknown']],
    ['not to be compared', LIMITS('1024'), null, 0, ['unknown']],
    ['well, but packets were dropped', LIMITS('1024'), 30, 7, ['note']],
    ['well, but a core dump has the keys', LIMITS('1024', 'unlimited'), 30, 0, ['note']],
  ])('are %s', (_, limits, used, dropped, wanted) => {
    expect(verdicts(judgeLimits(limits, used, dropped))).toEqual(wanted)
  })
  it('are told of with a way out', () => {
    expect(judgeLimits(LIMITS('32'), 30, 0)).toEqual(found('fault', /30 of 32 open files/, /LimitNOFILE=/))
  })
})

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
    expect(readReport(JSON.stringify(report))).toEqual(report)
    for (const text of ['', 'no fault', '{}', '[{"name":"clock","verdict":"fine","evidence":"x"}]'])
      expect(readReport(text)).toBeNull()
  })
  it('leaves open what it says nothing of', () => {
    const checks = leftOpen(['clock', 'config', 'keys', 'ledger', 'programs', 'kernel', 'tap source', 'log rules'].map(ok))
    expect(checks).toEqual([expect.objectContaining({ name: 'services', verdict: 'unknown' })])
  })
})
