import { readdirSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import type { Replayed } from '../../../src/admin/replay/replay'
import { composeDatagram, hint } from '../../../src/protocol/datagram'
import type { Key } from '../../../src/protocol/key'
import { compose } from '../../../src/protocol/knock'
import { passcodePorts } from '../../../src/protocol/passcode'
import type { Request } from '../../../src/protocol/request'
import { passcode } from '../../../src/protocol/totp'
import { isoTime } from '../../../src/system/time'
import { seededRandom } from '../../random'
import { CLIENT, packetsTo, pcap, SERVER, Server } from './recordings'

const WINDOW = 59_000_000
const PERIOD = 30
/** The middle of that window, in Unix milliseconds. */
const AT = (WINDOW + 0.5) * PERIOD * 1000
const OTHER = '198.51.100.3'
const RENDEZVOUS = 8
const NEEDED = 28

const request = (more: Partial<Request> = {}): Request => ({
  ...{ action: 'open', protocol: 'tcp', once: false, salt: 7, port: 22, seconds: 60, address: '0.0.0.0' },
  ...more,
})
const knockOf = (key: Key, more: Partial<Request> = {}, window = WINDOW) => compose(key, window, request(more))
const onlySource = ({ sources }: Replayed) => {
  expect(sources.length).toBe(1)
  return sources[0]
}
const onlyFound = (replayed: Replayed) => {
  const { heard } = onlySource(replayed)
  expect(heard.length).toBe(1)
  return heard[0]
}

describe('a knock in a recording', () => {
  it('is told with its key, its window, and what it would open until when by the clock of the recording', async () => {
    const server = new Server()
    const key = server.key('alice', 1)
    server.key('bob', 2)
    const found = onlyFound(await server.replay(pcap(packetsTo(knockOf(key), AT))))
    const until = isoTime(AT + PERIOD * 1000 + 31_000)
    expect(found).toMatchObject({ kind: 'knock', outcome: 'accepted', key: 'alice', window: WINDOW, isAccepted: true })
    expect(found).toMatchObject({ line: { msg: 'accepted', service: '22/tcp', address: CLIENT, source: CLIENT, until } })
  })

  it.each<[string, { lines?: string; grant?: string }, Partial<Request>, object]>([
    ['of a revoked key', { lines: 'revoked = 2020-01-01T00:00:00Z' }, {}, { outcome: 'revoked' }],
    ['of a key that has expired by then', { lines: 'expires = 2026-01-01T00:00:00Z' }, {}, { outcome: 'revoked' }],
    ['for a port that is not granted', {}, { port: 23 }, { outcome: 'not-granted' }],
    ['for longer than is granted', {}, { seconds: 90_000 }, { outcome: 'not-granted' }],
    ['that names another address', {}, { address: OTHER }, { outcome: 'address-mismatch' }],
  ])('%s is refused as the daemon refuses it', async (_, key, asked, outcome) => {
    const server = new Server()
    const ports = knockOf(server.key('alice', 1, key), asked)
    // In 2026, so that a key may have expired by then.
    expect(onlyFound(await server.replay(pcap(packetsTo(ports, AT))))).toMatchObject({ kind: 'knock', key: 'alice', ...outcome })
  })

  it.each([
    [-5, 'stale', 'behind'],
    [5, 'future', 'ahead'],
  ])('%i windows off is refused, with the clock of its sender', async (off, outcome, how) => {
    const server = new Server()
    const ports = knockOf(server.key('alice', 1), {}, WINDOW + off)
    const found = onlyFound(await server.replay(pcap(packetsTo(ports, AT))))
    expect(found).toMatchObject({ outcome, window: WINDOW + off, isAccepted: false })
    expect(found).toMatchObject({ line: { clock: `the sender's clock is ${Math.abs(off) * PERIOD} s ${how}` } })
  })

  it('that another address says again is replayed, and its own source says again without news', async () => {
    const server = new Server()
    const ports = knockOf(server.key('alice', 1))
    const packets = [...packetsTo(ports, AT), ...packetsTo(ports, AT + 1_000), ...packetsTo(ports, AT + 2_000, { source: OTHER })]
    const { sources } = await server.replay(pcap(packets))
    expect(sources.map(({ source, heard }) => [source, heard])).toMatchObject([
      [CLIENT, [{ outcome: 'accepted' }]],
      [OTHER, [{ outcome: 'replayed', line: { first: CLIENT } }]],
    ])
  })

  it('that locks its address has later ones refused', async () => {
    const server = new Server()
    const key = server.key('alice', 1, { grant: 'services = ["22/tcp"]\nlock = true' })
    const packets = [...packetsTo(knockOf(key, { action: 'lock' }), AT), ...packetsTo(knockOf(key, { salt: 8 }), AT + 5_000)]
    expect(onlySource(await server.replay(pcap(packets))).heard).toMatchObject([
      { kind: 'knock', outcome: 'accepted', line: { action: 'lock' } },
      { kind: 'locked', line: { key: 'alice', refusal: 'locked' } },
    ])
  })

  it('is heard after hours without any, when other windows of many keys have come', async () => {
    const server = new Server()
    for (let n = 2; n < 100; n++) server.key(`a${n}`, n)
    const key = server.key('z', 1)
    const later = 10_000
    // Faster than the daemon's looks: what is not ready by the first of them is not heard.
    const second = packetsTo(knockOf(key, {}, WINDOW + later), AT + later * PERIOD * 1000, {}, 0.05)
    const packets = [...packetsTo(knockOf(key), AT), ...second]
    const { heard } = onlySource(await server.replay(pcap(packets)))
    expect(heard).toMatchObject([
      { outcome: 'accepted', window: WINDOW },
      { outcome: 'accepted', window: WINDOW + later },
    ])
  })

  it('writes no ledger, and nothing else', async () => {
    const server = new Server()
    const ports = knockOf(server.key('alice', 1))
    await server.replay(pcap(packetsTo(ports, AT)))
    expect([readdirSync(server.folder).sort(), readdirSync(server.keys)]).toEqual([
      ['knockturn.toml', 'recording'],
      ['alice.key'],
    ])
  })

  it('is heard by another keyring that is named', async () => {
    const [server, other] = [new Server(), new Server()]
    server.key('alice', 1)
    const ports = knockOf(other.key('carol', 3))
    const recording = pcap(packetsTo(ports, AT))
    expect(onlyFound(await server.replay(recording, { keys: other.keys }))).toMatchObject({ outcome: 'accepted', key: 'carol' })
    expect(onlyFound(await server.replay(recording))).toMatchObject({ kind: 'unknown', ports: 52 })
  })
})

describe('a knock that was not heard whole', () => {
  it.each([
    [8, 27],
    [6, 20],
    [4, 12],
    [8, 3],
  ])('with %i rendezvous ports and %i symbols is told with its key, and how many symbols are missing', async (hits, symbols) => {
    const server = new Server()
    const key = server.key('alice', 1)
    for (let n = 2; n < 12; n++) server.key(`other${n}`, n)
    const ports = knockOf(key)
    const heard = [...ports.slice(0, hits), ...ports.slice(RENDEZVOUS, RENDEZVOUS + symbols)]
    expect(onlyFound(await server.replay(pcap(packetsTo(heard, AT))))).toMatchObject({
      ...{ kind: 'incomplete', key: 'alice', window: WINDOW, isAccepted: true, why: 'symbols' },
      ...{ rendezvous: hits, symbols, needed: NEEDED, missing: NEEDED - symbols },
    })
  })

  it('without a quorum of rendezvous ports is told with how many arrived', async () => {
    const server = new Server()
    const ports = knockOf(server.key('alice', 1)).slice(5)
    expect(onlyFound(await server.replay(pcap(packetsTo(ports, AT))))).toMatchObject({
      ...{ kind: 'incomplete', key: 'alice', window: WINDOW, why: 'rendezvous', rendezvous: 3, missing: 0 },
    })
  })

  it('for an IPv6 address needs the symbols of the longer request', async () => {
    const server = new Server()
    const ports = knockOf(server.key('alice', 1), { address: '2001:db8::2' })
    const heard = [...ports.slice(0, RENDEZVOUS), ...ports.slice(RENDEZVOUS).filter((_, i) => i % 2 === 0)]
    expect(onlyFound(await server.replay(pcap(packetsTo(heard, AT))))).toMatchObject({ needed: 40, symbols: 28, missing: 12 })
  })

  it.each([
    [-240, 'hours behind'],
    [7_200, 'days ahead'],
  ])('by a clock %i windows off, further than the daemon looks, is named with its clock and what it asks', async (off) => {
    const server = new Server()
    const ports = knockOf(server.key('alice', 1), {}, WINDOW + off)
    expect(onlyFound(await server.replay(pcap(packetsTo(ports, AT))))).toMatchObject({
      ...{ kind: 'incomplete', why: 'window', key: 'alice', window: WINDOW + off, seconds: off * PERIOD, isAccepted: false },
      request: { action: 'open', port: 22 },
    })
  })

  it('that takes longer than a tap counts is told with how long it took', async () => {
    const server = new Server()
    const ports = knockOf(server.key('alice', 1))
    const found = onlyFound(await server.replay(pcap(packetsTo(ports, AT, {}, 1_000))))
    expect(found).toMatchObject({ kind: 'incomplete', why: 'spread', spread: 51_000 })
  })

  it.each([
    [40, 60],
    [400, 120],
  ])('is not made out of what %i strangers touch by chance, at %i ports each', async (strangers, touches) => {
    const server = new Server()
    for (let n = 1; n < 20; n++) server.key(`key${n}`, n)
    const random = seededRandom(1)
    const packets = Array.from({ length: strangers }, (_, i) => {
      const ports = Array.from({ length: touches }, () => 49_152 + Math.floor(random() * 16_384))
      return packetsTo(ports, AT + i, { source: `203.0.${i >> 8}.${i & 255}` })
    })
    const { sources } = await server.replay(pcap(packets.flat().sort((a, b) => a.at - b.at)))
    expect(sources.length).toBe(strangers)
    expect(new Set(sources.flatMap(({ heard }) => heard.map(({ kind }) => kind)))).toEqual(new Set(['unknown']))
  })

  it('is forged where enough arrived and nothing in it was sealed', async () => {
    const server = new Server()
    const key = server.key('alice', 1)
    const [rendezvous, later] = [knockOf(key).slice(0, RENDEZVOUS), knockOf(key, { salt: 9 }).slice(RENDEZVOUS)]
    const mixed = knockOf(key)
      .slice(RENDEZVOUS)
      .map((port, i) => (i % 2 === 0 ? port : later[i]))
    const found = onlyFound(await server.replay(pcap(packetsTo([...rendezvous, ...mixed], AT))))
    expect(found).toMatchObject({ kind: 'incomplete', why: 'damaged', request: null, missing: 0 })
  })
})

describe('a knock in one datagram', () => {
  const heard = async (make: (key: Key) => Uint8Array) => {
    const server = new Server('[datagram]\nports = [53]')
    const payload = make(server.key('alice', 1))
    return onlyFound(await server.replay(pcap([{ protocol: 'udp', port: 53, at: AT, payload }])))
  }

  it('is told as any other', async () => {
    expect(await heard((key) => composeDatagram(key, WINDOW, request()))).toMatchObject({ kind: 'knock', outcome: 'accepted' })
  })

  it('of another day is named with its clock', async () => {
    expect(await heard((key) => composeDatagram(key, WINDOW - 2_880, request()))).toMatchObject({
      ...{ kind: 'datagram', key: 'alice', why: 'window', seconds: -86_400, request: { port: 22 } },
    })
  })

  it('that was damaged is named by its hint', async () => {
    const damaged = (key: Key) => Uint8Array.of(...hint(key, WINDOW), ...new Uint8Array(28))
    expect(await heard(damaged)).toMatchObject({ kind: 'datagram', key: 'alice', why: 'damaged', request: null })
  })

  it('of nobody is none', async () => {
    expect(await heard(() => new Uint8Array(36).fill(5))).toMatchObject({ kind: 'unknown-datagram', port: 53 })
  })
})

describe('a passcode', () => {
  const PIN = '0417'
  const TABLE = `\n[passcode]\npin = "${PIN}"\nservices = ["22/tcp"]\n`
  const heard = async (portsOf: (key: Key) => number[]) => {
    const server = new Server()
    const ports = portsOf(server.key('alice', 1, { tail: TABLE }))
    return onlyFound(await server.replay(pcap(packetsTo(ports, AT))))
  }
  const said =
    (window = WINDOW, pin = PIN) =>
    (key: Key) =>
      passcodePorts(pin, passcode(key, window))

  it('is told as any other knock', async () => {
    expect(await heard(said())).toMatchObject({ kind: 'knock', by: 'passcode', outcome: 'accepted', key: 'alice' })
  })

  it('that has lost digits is told with how many', async () => {
    expect(await heard((key) => said()(key).slice(2))).toMatchObject({ kind: 'passcode', heard: 10, of: 12, fits: null })
  })

  it('of another time is named with the clock of its app', async () => {
    expect(await heard(said(WINDOW - 4))).toMatchObject({ kind: 'passcode', fits: { key: 'alice', seconds: -120 } })
  })

  it.each([WINDOW, WINDOW - 4])('with a wrong PIN is nobody’s, also at another time (window %i)', async (window) => {
    expect(await heard(said(window, '0418'))).toMatchObject({ kind: 'passcode', heard: 12, isVoid: false, fits: null })
  })

  it('is said to nobody: no digit of it is in what was found', async () => {
    const server = new Server()
    const key = server.key('alice', 1, { tail: TABLE })
    const code = passcode(key, WINDOW - 4)
    const text = JSON.stringify(await server.replay(pcap(packetsTo(passcodePorts(PIN, code), AT))))
    expect([text.includes(PIN), text.includes(code)]).toEqual([false, false])
  })
})

describe('whose taps are heard', () => {
  it('are those of an address that is named, and no others', async () => {
    const server = new Server()
    const ports = knockOf(server.key('alice', 1))
    const packets = [...packetsTo(ports, AT), ...packetsTo([50_000], AT + 100, { source: OTHER })]
    const from = { bytes: Uint8Array.of(198, 51, 100, 3), bits: 32 }
    const { sources, taps } = await server.replay(pcap(packets), { from })
    expect([taps, sources.map(({ source }) => source)]).toEqual([1, [OTHER]])
  })

  it('are told apart by the address that they touch', async () => {
    const server = new Server()
    const ports = knockOf(server.key('alice', 1))
    const half = ports.length / 2
    const packets = [...packetsTo(ports.slice(0, half), AT), ...packetsTo(ports.slice(half), AT, { destination: '198.51.100.9' })]
    const { sources } = await server.replay(pcap(packets))
    expect(sources.map(({ destination, taps }) => [destination, taps])).toEqual([
      [SERVER, half],
      ['198.51.100.9', half],
    ])
  })

  it('are nobody’s with a keyring without keys', async () => {
    await expect(new Server().replay(pcap([]))).rejects.toThrow(/contains no usable key/)
  })
})

it('a recording whose times are no whole milliseconds comes to its end', async () => {
  const server = new Server()
  const key = server.key('alice', 1)
  // By a clock that has begun at 1970: the pace of a busy listener later is not quite a pace later, since the sum is rounded.
  const isRounded = (at: number) => at + 10 - at < 10
  const moments = [14, 15, 16, 17, 18].flatMap((power) => {
    const all = Array.from({ length: 8_000 }, (_, n) => Math.round(2 ** power * 1_000 - 9_000 + n) / 1_000)
    return all.find(isRounded) ?? []
  })
  const packets = [0, ...moments].flatMap((at) => packetsTo(knockOf(key, {}, Math.floor(at / 1_000 / PERIOD)), at, {}, 0))
  expect([moments.length, await server.replay(pcap(packets))]).toMatchObject([5, { taps: packets.length, cut: null }])
})
