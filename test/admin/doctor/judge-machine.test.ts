import { describe, expect, it } from 'vitest'
import { judgeClock } from '../../../src/admin/doctor/clock'
import { judgeLimits } from '../../../src/admin/doctor/daemon'
import { judgeConntrack, judgeDisk, judgeModules, judgeNode } from '../../../src/admin/doctor/machine'
import { readAdjtimex, readChrony, readNtpq, readTimedatectl, readTimesync } from '../../../src/system/clock-keepers'
import { first, found, verdicts } from './found'

/* What doctor makes of what was seen of the machine: of each check a healthy one, a planted fault, and where it can be so, that nobody knows. */

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
