import { describe, expect, it } from 'vitest'
import { type Arrival, Arrivals } from '../../../src/admin/listen/arrivals'
import { CLIENT, FRAMES, ipPacket, type Packet, SERVER } from '../replay/recordings'

const COOKED_2 = 276

/** What comes of packets, each by an interface. */
function arrived(...packets: (Omit<Packet, 'at'> & { via?: number })[]): readonly Arrival[] {
  const arrivals = new Arrivals(() => {})
  for (const [at, { via = 1, ...packet }] of packets.entries()) {
    const frame = FRAMES[COOKED_2]((packet.source ?? CLIENT).includes(':'))
    frame.writeUInt32BE(via, 4)
    const bytes = Buffer.concat([Buffer.alloc(3), frame, ipPacket({ ...packet, at })])
    arrivals.add(COOKED_2, bytes, 3, bytes.length, at)
  }
  return arrivals.all()
}

describe('packets that arrive', () => {
  it('are counted by protocol and port, with their first and last time', () => {
    expect(arrived({ port: 443 }, { port: 53, protocol: 'udp' }, { port: 443 })).toEqual([
      { source: CLIENT, destination: SERVER, protocol: 'tcp', port: 443, kind: 'new', first: 0, last: 2, count: 2 },
      { source: CLIENT, destination: SERVER, protocol: 'udp', port: 53, kind: 'new', first: 1, last: 1, count: 1 },
    ])
  })

  it('are counted once where they pass a bridge and what is behind it', () => {
    const [{ count }] = arrived({ port: 443, via: 1 }, { port: 443, via: 2 }, { port: 443, via: 1 }, { port: 443, via: 2 })
    expect(count).toBe(2)
  })

  it.each([
    ['an answer', 0x12],
    ['a refusal', 0x14],
    ['a part of a connection', 0x10],
  ])('are told from %s', (_, flags) => {
    expect(arrived({ port: 443, flags }, { port: 443 }).map(({ kind }) => kind)).toEqual(['other', 'new'])
  })

  it('are read in both families', () => {
    const [{ source, port }] = arrived({ port: 443, source: '2001:db8::2', destination: '2001:db8::1' })
    expect([source, port]).toEqual(['2001:db8::2', 443])
  })

  it('are told when they come for the first time', () => {
    const told: (number | null)[] = []
    const arrivals = new Arrivals(({ port }) => told.push(port))
    for (const port of [443, 443, 80]) {
      const bytes = ipPacket({ port, at: 0 })
      arrivals.add(101, bytes, 0, bytes.length, 0)
    }
    expect(told).toEqual([443, 80])
  })

  it('that are cut off or none of IP are no arrivals of a port', () => {
    const arrivals = new Arrivals(() => {})
    const whole = ipPacket({ port: 443, at: 0 })
    for (let length = 0; length < 34; length++) arrivals.add(101, whole.subarray(0, length), 0, length, 0)
    expect(arrivals.all().map(({ port }) => port)).toEqual([null])
  })
})
