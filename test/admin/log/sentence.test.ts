import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { readAuditLine } from '../../../src/admin/log/line'
import { SENTENCES, sentenceOf } from '../../../src/admin/log/sentence'
import { plain, section, tags } from '../../man'
import { Messages } from '../../messages'
import { serverKey, USER, World } from '../../replay/world'

const ROOT = join(import.meta.dirname, '../../..')
const filesIn = (room: string) =>
  readdirSync(join(ROOT, 'src', room), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => join(room, file))
/** Every message of the daemon's log, as its source has it. */
const MESSAGES = new Messages(join(ROOT, 'src'))
const SAID = [
  ...MESSAGES.of([...filesIn('daemon'), ...filesIn('gate'), 'cli/knockdaemon.ts']).messages,
  // Told by a variable: see test/messages.test.ts.
  ...['closed', 'closed for the fleet', 'expired'].flatMap((what) =>
    MESSAGES.chosen('gate/leases.ts', what).map((text) => ({ kind: 'log' as const, text })),
  ),
].flatMap(({ kind, text }) => (kind === 'log' ? [text] : []))
const words = (message: string) => message.split(/\s+/).length

describe('the messages of the source', () => {
  it('are found: there are many, and the short ones are among them', () => {
    expect(SAID.length).toBeGreaterThan(50)
    expect(SAID).toEqual(expect.arrayContaining(['accepted', 'refused', 'closed', 'expired', 'ready', 'ended']))
  })

  it('have a sentence of their own, or are one: none is a single word', () => {
    const short = SAID.filter((message) => words(message) < 2 && !Object.hasOwn(SENTENCES, message))
    expect(short).toEqual([])
  })

  it('are all that there are sentences for', () => {
    expect(Object.keys(SENTENCES).filter((message) => !SAID.includes(message))).toEqual([])
  })

  it.each([...new Set(SAID)].filter((message) => !Object.hasOwn(SENTENCES, message)))('"%s" leaves nothing out', (msg) => {
    const sentence = sentenceOf({ msg, fields: { key: 'alice', count: 3, reason: 'why', hint: 'what to do', odd: null } })
    expect(sentence).toBe(`${msg} (key alice, count 3, odd null): why; hint: what to do`)
  })
})

/** The refusals that the manual lists. */
const REFUSALS = tags(section(readFileSync(join(ROOT, 'docs/man/knockdaemon.8'), 'utf8'), 'REFUSALS')).map((tag) => plain(tag))

it.each(REFUSALS)('the refusal %s has a reason in words, and is not told by its fields', (refusal) => {
  const fields = {
    refusal,
    key: 'alice',
    source: USER,
    address: USER,
    action: 'open',
    service: '22/tcp',
    seconds: 60,
    until: null,
  }
  expect(sentenceOf({ msg: 'refused', fields })).toMatch(
    /^refused alice from \S+, who asked to open 22\/tcp for 1m: (it [a-z]|the [a-z]|\S+ is banned)/,
  )
})

const HERE = { key: 'alice', fingerprint: 'c0ffee', source: '203.0.113.9', address: '203.0.113.9' }
const ASKED = { ...HERE, service: '22/tcp', seconds: 3_600, until: null, action: 'open' }
const UNTIL = '2026-11-30T23:00:00Z'

it.each<[string, string, object]>([
  [
    'alice opened 22/tcp for 203.0.113.9 until 2026-11-30T23:00:00Z (lease 3fa94b12)',
    'accepted',
    { ...HERE, action: 'open', service: '22/tcp', until: UNTIL, leases: ['3fa94b12'], once: false },
  ],
  [
    '22/tcp for 203.0.113.9 until 2026-11-30T23:00:00Z was opened for alice here too: it knocked at gw2',
    'opened for the fleet',
    {
      key: 'alice',
      fingerprint: 'c0ffee',
      gateway: 'gw2',
      address: '203.0.113.9',
      service: '22/tcp',
      until: UNTIL,
      leases: ['3fa94b12'],
    },
  ],
  [
    '203.0.113.9 is banned here too until 2026-11-30T23:00:00Z: alice banned it at gw2',
    'banned for the fleet',
    { key: 'alice', fingerprint: 'c0ffee', gateway: 'gw2', address: '203.0.113.9', until: UNTIL },
  ],
  [
    'the lease 3fa94b12 of alice for 22/tcp at 203.0.113.9 was closed at another gateway',
    'closed for the fleet',
    { key: 'alice', lease: '3fa94b12', address: '203.0.113.9', service: '22/tcp' },
  ],
  [
    'the ban of 203.0.113.9 by alice was lifted at another gateway',
    'ban lifted for the fleet',
    { key: 'alice', address: '203.0.113.9' },
  ],
  [
    'alice from 198.51.100.1 by passcode opened 22/tcp, 53/udp for 203.0.113.0/24 until closed, for one connection (leases a.0, a.1)',
    'accepted',
    {
      ...{ ...HERE, source: '198.51.100.1', address: '203.0.113.0/24', by: 'passcode', action: 'open' },
      ...{ service: '22/tcp,53/udp', until: null, leases: ['a.0', 'a.1'], once: true },
    },
  ],
  [
    'alice closed all ports for 203.0.113.9 (lease 3fa94b12)',
    'accepted',
    { ...HERE, action: 'close', service: 'all', leases: ['3fa94b12'], until: null },
  ],
  [
    'alice closed nothing: it has no lease of 22/tcp for 203.0.113.9; it has 2 for other addresses',
    'accepted',
    { ...HERE, action: 'close', service: '22/tcp', leases: [], elsewhere: 2, until: null },
  ],
  [
    'alice banned 203.0.113.9 until 2026-11-30T23:00:00Z, and closed what it had opened (lease 3fa94b12)',
    'accepted',
    { ...HERE, action: 'lock', service: 'all', leases: ['3fa94b12'], until: UNTIL },
  ],
  [
    'refused alice from 203.0.113.9, who asked to open 80/tcp for 1h: the grant opens only 22/tcp (services)',
    'refused',
    { refusal: 'not-granted', ...ASKED, service: '80/tcp', rule: 'services', allowed: '22/tcp' },
  ],
  [
    'refused alice from 203.0.113.9, who asked to open all ports until closed: the grant allows no lease until closed (allow_until_closed)',
    'refused',
    { refusal: 'not-granted', ...ASKED, service: '0/any', seconds: 0, rule: 'allow_until_closed', allowed: 'false' },
  ],
  [
    "refused alice from 203.0.113.9, who asked to open port 22 for 1h: the key's share is used up",
    'refused',
    { refusal: 'not-granted', ...ASKED, service: '22/any', reason: "the key's share is used up" },
  ],
  [
    'refused alice from 203.0.113.9, who asked to open 22/tcp for 1h: the grant does not allow it',
    'refused',
    { refusal: 'not-granted', ...ASKED, rule: 'of a later version' },
  ],
  [
    'refused alice from 203.0.113.9, who asked to open 22/tcp for 198.51.100.1 for 1h: it was sent before, by 198.51.100.7',
    'refused',
    { refusal: 'replayed', ...ASKED, address: '198.51.100.1', first: '198.51.100.7' },
  ],
  [
    "refused alice from 203.0.113.9, who asked to open 22/tcp for 1h: it comes too late: the sender's clock is 90 s behind",
    'refused',
    { refusal: 'stale', ...ASKED, clock: "the sender's clock is 90 s behind" },
  ],
  [
    'refused 203.0.113.9: mallory has banned it until 2026-11-30T23:00:00Z',
    'refused',
    { refusal: 'locked', key: 'mallory', source: '203.0.113.9', until: UNTIL },
  ],
  [
    'the lease 3fa94b12 of alice for 22/tcp at 203.0.113.9 has expired',
    'expired',
    { key: 'alice', lease: '3fa94b12', address: '203.0.113.9', service: '22/tcp' },
  ],
  [
    'the lease 3fa94b12 of alice for 22/tcp at 203.0.113.9 was closed: another program removed its rule',
    'closed',
    {
      key: 'alice',
      lease: '3fa94b12',
      address: '203.0.113.9',
      service: '22/tcp',
      reason: 'another program removed its rule',
    },
  ],
  [
    'the daemon is ready: server gate.example, 1 key, taps by nflog',
    'ready',
    { server: 'gate.example', keys: 1, source: 'nflog' },
  ],
  [
    'the daemon ended: 7 packets or lines seen, 2 of them no taps, 0 unreadable, unknown how many dropped by the kernel, 1 knock sent again by their own source',
    'ended',
    { seen: 7, ignored: 2, unreadable: 0, dropped: null, retransmits: 1 },
  ],
  [
    'by order of root, closed 2 leases (key alice, address 10.0.0.1)',
    'carried out an order',
    { order: 'close', kind: 'close', key: 'alice', address: '10.0.0.1', ended: 2 },
  ],
  ['by order of root, closed 1 lease (lease 0a1b2c3d)', 'carried out an order', { order: 'close', id: '0a1b2c3d', ended: 1 }],
  ['by order of root, lifted 1 ban of 10.0.0.1', 'carried out an order', { order: 'unlock', address: '10.0.0.1', ended: 1 }],
  ['refused (refusal of a later version, key alice)', 'refused', { refusal: 'of a later version', key: 'alice' }],
  ['accepted (action of a later version)', 'accepted', { action: 'of a later version' }],
])('%s', (sentence, msg, fields) => {
  expect(sentenceOf({ msg, fields: fields as Record<string, unknown> })).toBe(sentence)
})

it('what the daemon really logs is read, and becomes sentences', async () => {
  const world = await World.begin({ keys: [serverKey(1, { lock: true })] })
  await world.datagram(world.composeDatagram())
  await world.datagram(world.composeDatagram({ port: 80, protocol: 'tcp' }))
  await world.datagram(world.composeDatagram({ action: 'close', port: 0 }))
  const sentences = world.log.map((said) => {
    const line = readAuditLine(JSON.stringify({ ...said, level: 30, time: '2026-11-30T22:00:00.000Z' }))
    return line && sentenceOf(line)
  })
  expect(sentences.map((sentence) => sentence?.replace(/\b[0-9a-f]{8}\b/g, 'LEASE').replace(/until \S+Z/, 'until T'))).toEqual([
    `user1 opened 22/tcp for ${USER} until T (lease LEASE)`,
    `refused user1 from ${USER}, who asked to open 80/tcp for 1m: the grant opens only 22/tcp (services)`,
    `the lease LEASE of user1 for 22/tcp at ${USER} was closed`,
    `user1 closed all ports for ${USER} (lease LEASE)`,
  ])
})

it.each([
  ['no object', '[1]'],
  ['plain text', 'knockdaemon: error: no key'],
  ['cut off', '{"level":30,"time":"2026-11-30T22:00:00.000Z","msg":"acc'],
  ['without a time', '{"level":30,"msg":"ready"}'],
  ['with a time that is none', '{"level":30,"time":"yesterday","msg":"ready"}'],
  ['with a day that there is not', '{"level":30,"time":"2026-13-41T22:00:00.000Z","msg":"ready"}'],
  ['without a message', '{"level":30,"time":"2026-11-30T22:00:00.000Z","msg":""}'],
  ['with a level that is none', '{"level":"info","time":"2026-11-30T22:00:00.000Z","msg":"ready"}'],
  ['too long', `{"level":30,"time":"2026-11-30T22:00:00.000Z","msg":"ready","x":"${'x'.repeat(16_384)}"}`],
])('a line that is %s is none of the daemon’s', (_, text) => {
  expect(readAuditLine(text)).toBeNull()
})

it('fields of any kind make a sentence and no failure', () => {
  for (const msg of [...Object.keys(SENTENCES), '__proto__', 'constructor', 'toString'])
    for (const value of [null, 1, true, [], ['a', { b: 1 }], { c: {} }, '__proto__', 'constructor']) {
      const names = 'key source address action service until leases refusal rule allowed seconds first keys elsewhere lease'
      const fields = Object.fromEntries(names.split(' ').map((name) => [name, value]))
      for (const action of ['open', 'close', 'lock', value])
        for (const refusal of ['not-granted', 'locked', value])
          expect(typeof sentenceOf({ msg, fields: { ...fields, action, refusal } })).toBe('string')
    }
})

it('a field that is nested too deep to be written makes a sentence and no failure', () => {
  const deep = `${'['.repeat(8_000)}${']'.repeat(8_000)}`
  const line = readAuditLine(`{"level":30,"time":"2026-11-30T22:00:00.000Z","msg":"something","x":${deep}}`)
  expect(line && sentenceOf(line)).toBe('something (x ?)')
})
