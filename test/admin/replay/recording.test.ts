import { describe, expect, it } from 'vitest'
import { composeDatagram } from '../../../src/protocol/datagram'
import { compose } from '../../../src/protocol/knock'
import { FRAMES, logLine, type Packet, packetsTo, pcap, SERVER, Server } from './recordings'

/* What can be read, and how: each form of a recording has the same knock in it, which has to be heard at its time. */

const WINDOW = 59_000_000
const AT = (WINDOW + 0.5) * 30_000
const server = new Server('[datagram]\nports = [53]')
const key = server.key('alice', 1)
const REQUEST = { action: 'open', protocol: 'tcp', once: false, salt: 7, port: 22, seconds: 60, address: '0.0.0.0' } as const
const PORTS = compose(key, WINDOW, REQUEST)
const knock = packetsTo(PORTS, AT)
const V6 = { source: '2001:db8::2', destination: '2001:db8::1' }

type Options = Parameters<Server['replay']>[1]
const outcomes = async (content: string | Uint8Array, options: Options = {}, now?: number) => {
  const { sources } = await server.replay(content, options, now)
  return sources.flatMap(({ heard }) => heard.map((found) => (found.kind === 'knock' ? found.outcome : found.kind)))
}

describe('a capture', () => {
  const tag = (frame: Buffer, ...types: number[]) => {
    const behind = types.map((type, i) => {
      const next = types[i + 1] ?? frame.readUInt16BE(12)
      return Buffer.of(type >> 8, type & 255, 0, 7, ...(i === types.length - 1 ? [next >> 8, next & 255] : []))
    })
    return Buffer.concat([frame.subarray(0, 12), ...behind])
  }

  it.each([
    [1, 'Ethernet'],
    [101, 'raw IP'],
    [113, 'Linux cooked'],
    [276, 'Linux cooked v2'],
  ])('of link type %i (%s) is read, in both families', async (link, name) => {
    for (const family of [{}, V6]) {
      const { format, sources } = await server.replay(pcap(packetsTo(PORTS, AT, family), { link }))
      expect([format, sources[0].heard]).toMatchObject([`a capture (${name})`, [{ outcome: 'accepted' }]])
    }
  })

  it.each([
    [true, false],
    [true, true],
    [false, false],
    [false, true],
  ])('is read whoever has written it: little end first %s, nanoseconds %s', async (little, nano) => {
    const replayed = await server.replay(pcap(knock, { little, nano }))
    expect([replayed.first, replayed.last]).toEqual([AT, AT + PORTS.length - 1])
    expect(replayed.sources[0].heard).toMatchObject([{ outcome: 'accepted' }])
  })

  it.each([
    ['one tag', [0x8100]],
    ['two tags', [0x88a8, 0x8100]],
  ])('of a VLAN is read behind %s', async (_, types) => {
    const frame = (isV6: boolean) => tag(FRAMES[1](isV6), ...types)
    expect(await outcomes(pcap(knock, { frame }))).toEqual(['accepted'])
  })

  it('has no taps but new packets to ports that are heard', async () => {
    const others: Packet[] = [
      { port: 443, at: AT },
      { port: 50_000, at: AT, flags: 0x10 },
      { port: 50_000, at: AT, flags: 0x12 },
      { port: 53, at: AT, protocol: 'udp', payload: new Uint8Array(12) },
    ]
    expect(await server.replay(pcap(others))).toMatchObject({ seen: 4, taps: 0, ignored: 4, sources: [], first: null })
  })

  it('has no taps in the answers to what this machine has asked', async () => {
    const ask = { protocol: 'udp', port: 4_000, source: SERVER, destination: '203.0.113.53', sourcePort: 50_001 } as const
    const answer = { protocol: 'udp', port: 50_001, source: '203.0.113.53', sourcePort: 4_000 } as const
    const stranger = { ...answer, source: '203.0.113.54' }
    const packets = [ask, answer, ask, answer, stranger].map((packet, i) => ({ ...packet, at: AT + i }))
    const { sources } = await server.replay(pcap(packets))
    expect(sources.map(({ source, taps }) => [source, taps])).toEqual([['203.0.113.54', 1]])
  })

  it('that was cut off in a record is read up to there', async () => {
    expect(await outcomes(pcap([...knock, ...packetsTo([50_000], AT + 99)]).subarray(0, -10))).toEqual(['accepted'])
  })

  it('that has rubbish in it is read up to there, and says so', async () => {
    const replayed = await server.replay(Buffer.concat([pcap(knock), Buffer.alloc(64, 0xff)]))
    expect(replayed.cut).toMatch(/^expected a record of at most 262144 bytes/)
    expect(replayed.sources[0].heard).toMatchObject([{ outcome: 'accepted' }])
  })

  it('whose clock was wrong is heard at the time that is named', async () => {
    const wrong = packetsTo(PORTS, 86_400_000)
    expect([await outcomes(pcap(wrong)), await outcomes(pcap(wrong), { at: AT })]).toEqual([['unknown'], ['accepted']])
  })

  it('of IPv6 datagrams is read', async () => {
    const payload = composeDatagram(key, WINDOW, REQUEST)
    expect(await outcomes(pcap([{ ...V6, protocol: 'udp', port: 53, at: AT, payload }]))).toEqual(['accepted'])
  })

  it.each([
    ['a compressed one', Buffer.from([0x1f, 0x8b, 8, 0]), /is compressed/, /gzip -dc FILE \| knockturn replay -/],
    ['pcapng', Buffer.from([0x0a, 0x0d, 0x0d, 0x0a, 0]), /pcapng/, /tcpdump -r FILE -w FILE.pcap/],
    ['another link type', pcap([], { link: 105, frame: FRAMES[1] }), /expected link type .*, got 105/, /tcpdump -i any/],
    ['a picture', Buffer.from([0x89, 0x50, 0x4e, 0x47, 0, 0, 0]), /neither a capture nor a log/, /tcpdump -i any/],
  ])('is refused as %s, with what to do', async (_, content, message, hint) => {
    const error = await server.replay(content).catch((error) => error)
    expect([error.message, error.hint]).toEqual([expect.stringMatching(message), expect.stringMatching(hint)])
  })
})

describe('a log', () => {
  const local = (at: number) => new Date(at - new Date(at).getTimezoneOffset() * 60_000).toISOString().slice(0, 19)
  const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']
  const syslog = (at: number) => {
    const time = new Date(at)
    return `${MONTHS[time.getMonth()]} ${`${time.getDate()}`.padStart(2)} ${time.toTimeString().slice(0, 8)}`
  }
  const dmesg = (at: number) => `${new Date(at).toDateString().slice(0, 3)} ${syslog(at)} ${new Date(at).getFullYear()}`
  const linesOf = (front: (at: number, i: number) => string) =>
    PORTS.map((port, i) => logLine(front(AT + i, i), { port })).join('\n')
  const utc = (at: number) => new Date(at).toISOString()

  it.each<[string, (at: number) => string]>([
    ['rsyslog', (at) => `${utc(at).replace('Z', '000+00:00')} gate kernel: [  123.456789] `],
    ['RFC 5424', (at) => `<4>1 ${utc(at)} gate kernel - - - `],
    ['journalctl -o short-iso', (at) => `${utc(at).slice(0, 19)}+0000 gate kernel: `],
    ['journalctl -o short-unix', (at) => `${(at / 1000).toFixed(6)} gate kernel: `],
    ['dmesg --time-format iso', (at) => `${utc(at).replace('.', ',').replace('Z', '000+00:00')} `],
    ['a program that names no time zone', (at) => `${local(at)} gate kernel: `],
    ['syslog', (at) => `${syslog(at)} gate kernel: [  123.456789] `],
    ['dmesg -T', (at) => `[${dmesg(at)}] `],
  ])('of %s is heard at the time that its lines say', async (_, front) => {
    expect(await outcomes(linesOf(front), {}, AT + 60_000)).toEqual(['accepted'])
  })

  it('of the last days of a year is not one of the next year', async () => {
    const newYear = Date.UTC(2026, 0, 2)
    const eve = Date.UTC(2025, 11, 31, 12)
    const { first } = await server.replay(logLine(`${syslog(eve)} gate kernel: `, { port: 50_000 }), {}, newYear)
    expect(first).toBe(eve)
  })

  it('of the journal in JSON is heard, and nothing of what others have written there', async () => {
    const entry = (message: string, transport: string, i: number) =>
      JSON.stringify({ _TRANSPORT: transport, MESSAGE: message, __REALTIME_TIMESTAMP: `${(AT + i) * 1000}` })
    const ours = PORTS.map((port, i) => entry(logLine('', { port }), 'kernel', i))
    const forged = PORTS.map((port, i) => entry(logLine('', { port, source: '203.0.113.9' }), 'syslog', i))
    const { sources, ignored } = await server.replay([...ours, ...forged].join('\n'))
    expect(sources.map(({ source, heard }) => [source, heard])).toMatchObject([['198.51.100.2', [{ outcome: 'accepted' }]]])
    expect(ignored).toBe(forged.length)
  })

  it.each<[string, (at: number, i: number) => string]>([
    ['the time since the start', (_, i) => `[ ${(1234.5 + i / 1000).toFixed(6)}] `],
    ['no time at all', () => ''],
  ])('that says %s is heard when its first line was written', async (_, front) => {
    const lines = linesOf(front)
    const refusal = await server.replay(lines).catch(({ message, hint }) => `${message}: ${hint}`)
    expect(refusal).toMatch(/do not say when they were written: .*--at/)
    expect(await outcomes(lines, { at: AT })).toEqual(['accepted'])
  })

  it('has no taps in lines of others, and tells of those that cannot be read', async () => {
    const lines = ['Nov 30 21:04:11 gate sshd[1]: Accepted', logLine(`${utc(AT)} gate kernel: `, { port: 50_000 }).slice(0, 90)]
    expect(await server.replay(lines.join('\n'))).toMatchObject({ seen: 2, taps: 0, ignored: 2, unreadable: 1 })
  })
})
