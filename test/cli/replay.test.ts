import { describe, expect, it } from 'vitest'
import { compose } from '../../src/protocol/knock'
import { isoTime } from '../../src/system/time'
import { CLIENT, packetsTo, pcap, SERVER, Server } from '../admin/replay/recordings'
import { put } from '../system/scratch'
import { run } from './programs'

/* What people see of a replay: everything else is in test/admin/replay. */

const WINDOW = 59_000_000
const AT = (WINDOW + 0.5) * 30_000
const REQUEST = { action: 'open', protocol: 'tcp', once: false, salt: 7, port: 22, seconds: 60, address: '0.0.0.0' } as const
const server = new Server()
const alice = server.key('alice', 1)
const revoked = server.key('bob', 2, { lines: 'revoked = 2026-02-02T03:00:00Z' })
const portsOf = (key = alice, more = {}, window = WINDOW) => compose(key, window, { ...REQUEST, ...more })

const replay = (packets: ReturnType<typeof packetsTo>, ...options: string[]) =>
  run('knockturn', ['replay', put(server.folder, 'knocks.pcap', pcap(packets)), '--config', server.config, ...options], {
    cwd: server.folder,
  })
/** What is said of the first source, a line each. */
const said = async (packets: ReturnType<typeof packetsTo>) => {
  const { code, stdout, stderr } = await replay(packets)
  const lines = stdout.split('\n').filter((line) => line.startsWith('  '))
  return { code, stderr, lines: lines.map((line) => line.trim()) }
}

describe('a replay', () => {
  it('says of an accepted knock what it opens, and ends with 0', async () => {
    const { code, stdout, stderr } = await replay(packetsTo(portsOf(), AT))
    const [head, keys, empty, source, found] = stdout.split('\n')
    expect([code, stderr, empty]).toEqual([0, '', ''])
    expect(head).toMatch(/knocks\.pcap: a capture \(Ethernet\), 52 packets, 52 taps, from \S+Z to \S+Z$/)
    expect(keys).toBe('2 keys, as they are now; as if no knock had been heard before, and nobody were locked')
    expect(source).toBe(`${CLIENT} to ${SERVER}: 52 taps`)
    expect(found).toMatch(/^ {2}\S+Z {2}alice: accepted: opens 22\/tcp for 198\.51\.100\.2 until \S+Z$/)
  })

  it.each<[string, number[], RegExp]>([
    [
      'a port that is not granted',
      portsOf(alice, { port: 23 }),
      /alice: refused \(not-granted\).*; it asked to open 23\/tcp for its source for 1m$/,
    ],
    [
      'a clock',
      portsOf(alice, {}, WINDOW - 5),
      /alice: refused \(stale\): the sender's clock is \d+ s behind; it asked to open 22\/tcp/,
    ],
    [
      'a key that was revoked later',
      portsOf(revoked),
      /bob: refused \(revoked\) \(the key ended at 2026-02-02T03:00:00Z, after this\); it asked/,
    ],
    [
      'loss',
      portsOf().slice(4, 28),
      /alice: not opened: 4 of 8 rendezvous ports \(4 are needed\) and 20 symbols \(28 are needed\) arrived: 8 are missing$/,
    ],
    [
      'a clock that is far off',
      portsOf(alice, {}, WINDOW - 240),
      /alice: not opened: its window is not accepted: the sender's clock is 2h behind, or it is old and was played again; it asked to open 22\/tcp/,
    ],
  ])('says why a knock opens nothing, for %s, and ends with 1', async (_, ports, sentence) => {
    expect(await said(packetsTo(ports, AT))).toEqual({ code: 1, stderr: '', lines: [expect.stringMatching(sentence)] })
  })

  it('sums up what strangers have touched', async () => {
    const { stdout } = await replay(packetsTo([50_000, 50_001, 50_002], AT, { source: '203.0.113.9' }))
    expect(stdout).toMatch(/\nnot one knock of these keys: 3 taps of 1 sources: 203\.0\.113\.9 \(3\)\n$/)
  })

  it('says of a recording without taps that there are none', async () => {
    expect((await replay([])).stdout).toMatch(/\nnothing in it is a tap: /)
  })

  it('prints one JSON document with times as ISO 8601, and no salt', async () => {
    const { code, stdout } = await replay(packetsTo(portsOf(), AT), '--json')
    const document = JSON.parse(stdout)
    const [{ heard, ...source }] = document.sources
    expect([code, document.first, source]).toEqual([
      0,
      isoTime(AT),
      { source: CLIENT, destination: SERVER, first: isoTime(AT), last: isoTime(AT + 51), taps: 52 },
    ])
    const { salt: _, ...request } = REQUEST
    expect(heard).toEqual([
      {
        ...{ at: isoTime(AT), kind: 'knock', by: 'ports', outcome: 'accepted', key: 'alice', window: WINDOW },
        ...{ fingerprint: expect.any(String), seconds: 0, isAccepted: true, request, end: null },
        line: expect.objectContaining({ msg: 'accepted', key: 'alice', source: CLIENT, service: '22/tcp' }),
      },
    ])
  })

  it.each([
    [['--from', 'nowhere'], '--from expected an address such as 203.0.113.7, or a block such as 203.0.113.0/24, got "nowhere"'],
    [['--at', 'noon'], '--at expected a time such as 2026-11-30T21:04:00Z, got "noon"'],
  ])('is refused with %j', async (options, message) => {
    const { code, stderr } = await replay([], ...options)
    expect([code, stderr.split('\n')[0]]).toEqual([2, `knockturn: error: ${message}`])
  })

  it('of a file that is not there is a failure', async () => {
    const { code, stderr } = await run('knockturn', ['replay', '/nonexistent', '--config', server.config])
    expect([code, stderr]).toEqual([1, expect.stringMatching(/^knockturn: error: \/nonexistent: cannot be read: ENOENT/)])
  })
})

describe('listen', () => {
  it.each([
    [[], 2, 'listen requires --from'],
    [['--from', '203.0.113.7', '--for', 'ever'], 2, '--for expected a duration such as 90s or 2m, got "ever"'],
  ])('is refused with %j', async (options, code, message) => {
    const outcome = await run('knockturn', ['listen', ...options])
    expect([outcome.code, outcome.stderr.split('\n')[0]]).toEqual([code, `knockturn: error: ${message}`])
  })
})
