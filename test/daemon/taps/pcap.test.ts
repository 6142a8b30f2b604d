import { endianness } from 'node:os'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { packetReader } from '../../../src/daemon/taps/packet'
import { pcapReader } from '../../../src/daemon/taps/pcap'
import { addressBytes } from '../../../src/protocol/address'
import { plain } from './plain-tap'

const PREFIX = 'KNOCK: '
const reader = (datagrams: readonly number[] = []) => {
  const read = packetReader(PREFIX, datagrams)
  return (...packet: Parameters<typeof read>) => plain(read(...packet))
}
const readPacket = reader()
const LITTLE = endianness() === 'LE'

// ---- bytes

const u16 = (n: number) => Buffer.of(n >> 8, n & 0xff)
const u32 = (n: number, little: boolean) => {
  const bytes = Buffer.alloc(4)
  if (little) bytes.writeUInt32LE(n)
  else bytes.writeUInt32BE(n)
  return bytes
}
const address = (text: string) => Buffer.from(addressBytes(text) ?? [])

const SYN = 0x02
const tcp = (port: number, flags = SYN) =>
  Buffer.concat([u16(40_000), u16(port), Buffer.alloc(8), Buffer.of(0x50, flags), Buffer.alloc(6)])
const udp = (port: number, payload = Buffer.alloc(0), length = payload.length) =>
  Buffer.concat([u16(40_000), u16(port), u16(8 + length), u16(0), payload])

function ipv4(segment: Buffer, { protocol = 6, options = 0, fragment = 0x4000, source = '198.51.100.2' } = {}) {
  const head = Buffer.alloc(20 + 4 * options, 1)
  head[0] = 0x45 + options
  head.writeUInt16BE(head.length + segment.length, 2)
  head.writeUInt16BE(fragment, 6)
  head[9] = protocol
  address(source).copy(head, 12)
  address('198.51.100.1').copy(head, 16)
  return Buffer.concat([head, segment])
}

/** Extension headers as [protocol number, its bytes without the next header’s number]. */
function ipv6(segment: Buffer, { protocol = 6, extensions = [] as [number, Buffer][], source = '2001:db8::2' } = {}) {
  const head = Buffer.alloc(40)
  head[0] = 0x60
  const numbers = [...extensions.map(([number]) => number), protocol]
  head[6] = numbers[0]
  address(source).copy(head, 8)
  address('2001:db8::1').copy(head, 24)
  const between = extensions.map(([, bytes], i) => Buffer.concat([Buffer.of(numbers[i + 1]), bytes]))
  return Buffer.concat([head, ...between, segment])
}
/** A header of 8 bytes times (1 + more); a fragment header with an offset. */
const extension = (more = 0) => Buffer.concat([Buffer.of(more), Buffer.alloc(6 + 8 * more)])
/** @param offset in bytes, a multiple of 8, and 1 where more fragments follow */
const fragmentHeader = (offset: number) => Buffer.concat([Buffer.of(0), u16(offset), Buffer.alloc(4)])

function attribute(type: number, value: Buffer) {
  const head = Buffer.alloc(4)
  if (LITTLE) {
    head.writeUInt16LE(4 + value.length)
    head.writeUInt16LE(type, 2)
  } else {
    head.writeUInt16BE(4 + value.length)
    head.writeUInt16BE(type, 2)
  }
  return Buffer.concat([head, value, Buffer.alloc(-value.length & 3)])
}
const PREFIX_TYPE = 10
const PAYLOAD_TYPE = 9
/** A packet as NFLOG hands it over. */
const nflog = (payload: Buffer, prefix = PREFIX) =>
  Buffer.concat([
    Buffer.of(2, 0, 0, 5),
    attribute(1, Buffer.of(8, 0, 1, 0)),
    attribute(PREFIX_TYPE, Buffer.from(`${prefix}\0`)),
    attribute(4, Buffer.of(0, 0, 0, 2)),
    attribute(PAYLOAD_TYPE, payload),
  ])

function header({ little = true, magic = 0xa1b2c3d4, link = 239 } = {}) {
  return Buffer.concat([u32(magic, little), Buffer.alloc(16), u32(link, little)])
}
const record = (packet: Buffer, little = true) =>
  Buffer.concat([Buffer.alloc(8), u32(packet.length, little), u32(packet.length, little), packet])

// ---- the packet

const v4 = (port: number, source = '198.51.100.2') => ({ source, destination: '198.51.100.1', port })
const v6 = (port: number) => ({ source: '2001:db8::2', destination: '2001:db8::1', port })

describe('a packet', () => {
  it.each([
    ['TCP', ipv4(tcp(50_001)), v4(50_001)],
    ['UDP', ipv4(udp(50_001), { protocol: 17 }), v4(50_001)],
    ['TCP with ECN', ipv4(tcp(50_001, 0xc2)), v4(50_001)],
    ['TCP with PSH', ipv4(tcp(50_001, 0x0a)), v4(50_001)],
    ['TCP behind IPv4 options', ipv4(tcp(50_001), { options: 10 }), v4(50_001)],
    ['UDP behind IPv4 options', ipv4(udp(50_001), { protocol: 17, options: 1 }), v4(50_001)],
    ['a first fragment', ipv4(tcp(50_001), { fragment: 0x2000 }), v4(50_001)],
    ['TCP over IPv6', ipv6(tcp(50_001)), v6(50_001)],
    ['UDP over IPv6', ipv6(udp(50_001), { protocol: 17 }), v6(50_001)],
    ['port 1', ipv4(tcp(1)), v4(1)],
    ['port 65535', ipv4(tcp(65_535)), v4(65_535)],
    ['hop-by-hop', ipv6(tcp(50_001), { extensions: [[0, extension()]] }), v6(50_001)],
    ['routing', ipv6(tcp(50_001), { extensions: [[43, extension(2)]] }), v6(50_001)],
    ['destination options', ipv6(udp(50_001), { protocol: 17, extensions: [[60, extension(1)]] }), v6(50_001)],
    ['a first IPv6 fragment', ipv6(tcp(50_001), { extensions: [[44, fragmentHeader(1)]] }), v6(50_001)],
    [
      'all of them',
      ipv6(tcp(50_001), {
        extensions: [
          [0, extension()],
          [60, extension(3)],
          [43, extension()],
          [44, fragmentHeader(0)],
        ],
      }),
      v6(50_001),
    ],
    ['eight extensions', ipv6(tcp(50_001), { extensions: Array(8).fill([60, extension()]) }), v6(50_001)],
    [
      'an IPv4-mapped source',
      ipv6(tcp(50_001), { source: '::ffff:198.51.100.2' }),
      { source: '198.51.100.2', destination: '2001:db8::1', port: 50_001 },
    ],
  ])('is a tap: %s', (_, packet, tap) => {
    expect(readPacket(nflog(packet))).toEqual(tap)
  })

  it.each([
    ['nothing', Buffer.alloc(0)],
    ['ACK', ipv4(tcp(50_001, 0x10))],
    ['SYN and ACK', ipv4(tcp(50_001, 0x12))],
    ['RST', ipv4(tcp(50_001, 0x04))],
    ['SYN and RST', ipv4(tcp(50_001, 0x06))],
    ['SYN and FIN', ipv4(tcp(50_001, 0x03))],
    ['no flag', ipv4(tcp(50_001, 0))],
    ['ICMP', ipv4(tcp(50_001), { protocol: 1 })],
    ['ICMPv6', ipv6(tcp(50_001), { protocol: 58 })],
    ['SCTP', ipv4(tcp(50_001), { protocol: 132 })],
    ['no next header', ipv6(tcp(50_001), { protocol: 59 })],
    ['port 0 of TCP', ipv4(tcp(0))],
    ['port 0 of UDP', ipv4(udp(0), { protocol: 17 })],
    ['a later fragment', ipv4(tcp(50_001), { fragment: 1 })],
    ['the last fragment', ipv4(udp(50_001), { protocol: 17, fragment: 0x1fff })],
    ['a later IPv6 fragment', ipv6(tcp(50_001), { extensions: [[44, fragmentHeader(8)]] })],
    ['nine extensions', ipv6(tcp(50_001), { extensions: Array(9).fill([60, extension()]) })],
    ['an extension that leads out', ipv6(tcp(50_001), { extensions: [[60, Buffer.concat([Buffer.of(255), Buffer.alloc(6)])]] })],
    ['another version of IP', Buffer.concat([Buffer.of(0x55), ipv4(tcp(50_001)).subarray(1)])],
    ['a header length below 20', Buffer.concat([Buffer.of(0x44), ipv4(tcp(50_001)).subarray(1)])],
  ])('is no tap: %s', (_, packet) => {
    expect(readPacket(nflog(packet))).toBeNull()
  })

  it.each([
    ['behind nine extensions', nflog(ipv6(udp(50_001), { protocol: 17, extensions: Array(9).fill([60, extension()]) })), 1],
    [
      'that is cut off in its extensions',
      nflog(ipv6(udp(50_001), { protocol: 17, extensions: [[60, extension(99)]] })).subarray(0, 320),
      1,
    ],
    ['without a payload', nflog(Buffer.alloc(0)).subarray(0, 32), 1],
    ['with an attribute too short to be one behind the prefix', Buffer.concat([nflog(Buffer.alloc(0)), Buffer.alloc(4)]), 1],
    ['that is a tap', nflog(ipv4(tcp(50_001))), 0],
    ['with another prefix', nflog(ipv4(tcp(50_001, 0x10)), 'DROP: '), 0],
    ['of another version', Buffer.concat([Buffer.of(2, 1, 0, 5), nflog(ipv4(tcp(50_001, 0x10))).subarray(4)]), 0],
    ['that is empty', Buffer.alloc(0), 0],
  ])('with the prefix is told of where it can’t be read, and no other (%s)', (_, packet, times) => {
    let told = 0
    packetReader(PREFIX, [], () => told++)(packet)
    expect(told).toBe(times)
  })

  it.each(['KNOCK:', 'KNOCK:  ', 'knock: ', 'DROP: ', '', 'KNOCK: \0'])('with the prefix %j is none of ours', (prefix) => {
    expect(readPacket(nflog(ipv4(tcp(50_001)), prefix))).toBeNull()
  })

  it('without a prefix is none of ours', () => {
    const packet = Buffer.concat([Buffer.of(2, 0, 0, 5), attribute(PAYLOAD_TYPE, ipv4(tcp(50_001)))])
    expect(readPacket(packet)).toBeNull()
  })

  it('without a payload is no tap', () => {
    const packet = Buffer.concat([Buffer.of(2, 0, 0, 5), attribute(PREFIX_TYPE, Buffer.from(`${PREFIX}\0`))])
    expect(readPacket(packet)).toBeNull()
  })

  it('with an attribute too short to be one is no tap', () => {
    const broken = Buffer.concat([Buffer.of(2, 0, 0, 5, 0, 0, 0, 0), nflog(ipv4(tcp(50_001))).subarray(4)])
    expect(readPacket(broken)).toBeNull()
  })

  it('of another version is no tap', () => {
    const packet = nflog(ipv4(tcp(50_001)))
    packet[1] = 1
    expect(readPacket(packet)).toBeNull()
  })

  it('is a tap when only its end is cut off', () => {
    const packet = nflog(ipv4(Buffer.concat([tcp(50_001), Buffer.alloc(1000)])))
    expect(readPacket(packet.subarray(0, 128))).toEqual(v4(50_001))
  })

  it.each([
    ['IPv4', nflog(ipv4(tcp(50_001), { options: 3 })), v4(50_001)],
    [
      'IPv6',
      nflog(
        ipv6(tcp(50_001), {
          extensions: [
            [0, extension(1)],
            [44, fragmentHeader(0)],
          ],
        }),
      ),
      v6(50_001),
    ],
    ['UDP', nflog(ipv4(udp(50_001), { protocol: 17 })), v4(50_001)],
  ])('of %s is no tap or its own, cut at any place', (_, packet, tap) => {
    for (let length = 0; length <= packet.length; length++)
      expect([null, tap]).toContainEqual(readPacket(packet.subarray(0, length)))
  })

  it('never throws', () => {
    const any = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes))
    const spoiled = fc
      .tuple(
        fc.constantFrom(nflog(ipv4(tcp(9))), nflog(ipv6(udp(9), { protocol: 17, extensions: [[0, extension()]] }))),
        fc.nat(75),
        fc.nat(255),
      )
      .map(([packet, at, byte]) => Buffer.from(packet).fill(byte, at, at + 1))
    fc.assert(
      fc.property(
        fc.oneof(
          any,
          spoiled,
          any.map((bytes) => nflog(bytes)),
        ),
        (packet) => {
          const tap = readPacket(packet)
          expect(tap === null || (tap.port > 0 && tap.port < 65_536)).toBe(true)
        },
      ),
      { numRuns: 2000 },
    )
  })
})

describe('a datagram', () => {
  const PORT = 53
  const read = reader([PORT, 443])
  const bytes = (length: number) => Buffer.from(Array.from({ length }, (_, i) => i + 1))
  const sent = (length: number, port = PORT) => udp(port, bytes(length))

  it.each([
    ['36 bytes by IPv4', ipv4(sent(36), { protocol: 17 }), v4(PORT), 36],
    ['48 bytes by IPv4', ipv4(sent(48), { protocol: 17 }), v4(PORT), 48],
    ['36 bytes by IPv6', ipv6(sent(36), { protocol: 17 }), v6(PORT), 36],
    ['48 bytes by IPv6', ipv6(sent(48), { protocol: 17 }), v6(PORT), 48],
    ['the second port', ipv4(sent(36, 443), { protocol: 17 }), v4(443), 36],
    ['behind IPv4 options', ipv4(sent(36), { protocol: 17, options: 3 }), v4(PORT), 36],
    ['behind IPv6 extensions', ipv6(sent(48), { protocol: 17, extensions: [[60, extension(1)]] }), v6(PORT), 48],
    ['in an atomic fragment', ipv6(sent(48), { protocol: 17, extensions: [[44, fragmentHeader(0)]] }), v6(PORT), 48],
    ['with bytes behind it', ipv4(Buffer.concat([sent(36), bytes(12)]), { protocol: 17 }), v4(PORT), 36],
  ])('to such a port is a tap with its payload: %s', (_, packet, tap, length) => {
    expect(read(nflog(packet))).toEqual({ ...tap, payload: new Uint8Array(bytes(length)) })
  })

  it.each<[string, Buffer]>([
    ...[0, 1, 8, 35, 37, 47, 49, 200].map(
      (length) => [`of ${length} bytes`, ipv4(sent(length), { protocol: 17 })] as [string, Buffer],
    ),
    ['in the first of several fragments', ipv4(sent(36), { protocol: 17, fragment: 0x2000 })],
    ['in the first of several IPv6 fragments', ipv6(sent(36), { protocol: 17, extensions: [[44, fragmentHeader(1)]] })],
    ['that is said to be longer than it is', ipv4(udp(PORT, bytes(36), 48), { protocol: 17 })],
    ['that is said to be shorter than a header', ipv4(udp(PORT, bytes(36), -4), { protocol: 17 })],
  ])('to such a port is no tap: %s', (_, packet) => {
    expect(read(nflog(packet))).toBeNull()
  })

  it.each([ipv4(sent(48), { protocol: 17 }), ipv6(sent(48), { protocol: 17 })])('cut off anywhere is no tap', (packet) => {
    const whole = nflog(packet)
    for (let length = 0; length < whole.length; length++) expect(read(whole.subarray(0, length))).toBeNull()
  })

  it('has a payload of its own: what comes after it in the same bytes does not change it', () => {
    const packet = nflog(ipv4(sent(36), { protocol: 17 }))
    const tap = read(packet)
    packet.fill(0)
    expect(tap?.payload).toEqual(new Uint8Array(bytes(36)))
  })

  it.each([
    ['to another port', ipv4(sent(36, 54), { protocol: 17 }), v4(54)],
    ['by TCP', ipv4(Buffer.concat([tcp(PORT), bytes(36)])), v4(PORT)],
  ])('is a plain tap: %s', (_, packet, tap) => {
    expect(read(nflog(packet))).toEqual(tap)
  })

  it('is a plain tap where no port is for such', () => {
    expect(readPacket(nflog(ipv4(sent(36), { protocol: 17 })))).toEqual(v4(PORT))
  })
})

// ---- the stream

/** All packets of a stream that comes in these chunks, as hex; and whether its header has come. */
function packetsOf(chunks: Buffer[]) {
  const packets: string[] = []
  let begun = 0
  const read = pcapReader(
    () => begun++,
    (bytes, from, to) => packets.push(bytes.toString('hex', from, to)),
  )
  for (const chunk of chunks) read(chunk)
  return { packets, begun }
}

describe('a pcap stream', () => {
  const some = [Buffer.of(1, 2, 3), Buffer.alloc(0), Buffer.alloc(300, 7)]
  const hex = some.map((packet) => packet.toString('hex'))

  it.each([
    ['little-endian', true, 0xa1b2c3d4],
    ['big-endian', false, 0xa1b2c3d4],
    ['little-endian with nanoseconds', true, 0xa1b23c4d],
    ['big-endian with nanoseconds', false, 0xa1b23c4d],
  ])('%s is read', (_, little, magic) => {
    const stream = Buffer.concat([header({ little, magic }), ...some.map((packet) => record(packet, little))])
    expect(packetsOf([stream]).packets).toEqual(hex)
  })

  it('has the same packets in any chunks', () => {
    const stream = Buffer.concat([header(), ...some.map((packet) => record(packet))])
    fc.assert(
      fc.property(fc.array(fc.nat(stream.length), { maxLength: 30 }), (places) => {
        const cuts = [0, ...places.sort((a, b) => a - b), stream.length]
        expect(packetsOf(cuts.slice(1).map((to, i) => stream.subarray(cuts[i], to))).packets).toEqual(hex)
      }),
    )
  })

  it('begins with the last byte of its header', () => {
    const begun = [...header()].map((_, i) => packetsOf([header().subarray(0, i + 1)]).begun)
    expect(begun).toEqual([...Array(23).fill(0), 1])
  })

  it('has no packet before its last byte', () => {
    const stream = Buffer.concat([header(), record(some[0])])
    expect(packetsOf([stream.subarray(0, -1)]).packets).toEqual([])
  })

  it('may have a record of 65,536 bytes', () => {
    expect(packetsOf([header(), record(Buffer.alloc(65_536))]).packets).toHaveLength(1)
  })

  it('must not have a longer one', () => {
    const claim = Buffer.concat([Buffer.alloc(8), u32(65_537, true), u32(65_537, true)])
    expect(() => packetsOf([header(), claim])).toThrow('expected a record of at most 65536 bytes, got 65537')
  })

  it.each([
    ['another magic', header({ magic: 0x0a0d0d0a }), 'expected a pcap stream'],
    ['text', Buffer.from('tcpdump: no such device exists'), 'expected a pcap stream'],
    ['link type Ethernet', header({ link: 1 }), 'expected link type NFLOG (239), got 1'],
    ['link type Ethernet, big-endian', header({ link: 1, little: false }), 'expected link type NFLOG (239), got 1'],
  ])('is not %s', (_, bytes, message) => {
    expect(() => packetsOf([bytes])).toThrow(message)
  })
})

describe('what tcpdump 4.99 wrote of nflog, little-endian', () => {
  const capture = Buffer.from(
    `d4c3b2a1020004000000000000000000 00010000ef000000 9a37036b9f8a0500a8000000a8000000
     0200000708000100 080001000c000a00 4b4e4f434b3a2000 0800040000000002 1000080000060000 960b37b282260000
     06000f0000010000 06001100000e0000 12001000d2394976 8d05960b37b28226 0800000014000300 000000006b03379a
     00000000000589ec 400009004500003c 1eaa40004006c7a7 c6336402c6336401 d55cc351b35c22b2 00000000a002faf0
     54990000020405b4 0402080af689eac4 000000000103030a
     9a37036b048b0500bc000000bc000000
     0a00000708000100 86dd01000c000a00 4b4e4f434b3a2000 0800040000000002 1000080000060000 960b37b282260000
     06000f0000010000 06001100000e0000 12001000d2394976 8d05960b37b28226 86dd000014000300 000000006b03379a
     0000000000058ace 54000900600c6b43 0028064020010db8 0001000000000000 0000000220010db8 0001000000000000
     000000018b2ac351 02e1d35d00000000 a002fd205ba50000 020405a00402080a 2a78df6c00000000 0103030a
     9a37036b3d8f05008800000088000000
     0200000708000100 080001000c000a00 4b4e4f434b3a2000 0800040000000002 1000080000060000 960b37b282260000
     06000f0000010000 06001100000e0000 12001000d2394976 8d05960b37b28226 0800000014000300 000000006b03379a
     0000000000058f06 200009004500001c a4b54000401141b1 c6336402c6336401 95b4c35200085484
     9a37036b559005009c0000009c000000
     0a00000708000100 86dd01000c000a00 4b4e4f434b3a2000 0800040000000002 1000080000060000 960b37b282260000
     06000f0000010000 06001100000e0000 12001000d2394976 8d05960b37b28226 86dd000014000300 000000006b03379a
     0000000000059024 340009006006a362 0008114020010db8 0001000000000000 0000000220010db8 0001000000000000
     000000018b50c352 00085b90`.replace(/\s/g, ''),
    'hex',
  )

  it('is TCP and UDP, each by IPv4 and IPv6', () => {
    const taps: unknown[] = []
    pcapReader(
      () => {},
      (...packet) => taps.push(readPacket(...packet)),
    )(capture)
    expect(taps).toEqual([
      { source: '198.51.100.2', destination: '198.51.100.1', port: 50_001 },
      { source: '2001:db8:1::2', destination: '2001:db8:1::1', port: 50_001 },
      { source: '198.51.100.2', destination: '198.51.100.1', port: 50_002 },
      { source: '2001:db8:1::2', destination: '2001:db8:1::1', port: 50_002 },
    ])
  })
})
