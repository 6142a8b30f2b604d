import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { MAX_NAMED, probesOf } from '../../../src/client/doctor/probes'
import { QUORUM } from '../../../src/protocol/codebook'
import { DEFAULT_POOL, parsePool } from '../../../src/protocol/pool'
import { SEALED_LENGTHS } from '../../../src/protocol/seal'

const POOL = parsePool(DEFAULT_POOL)
const services = (count: number) => Array.from({ length: count }, (_, n) => ({ protocol: 'tcp' as const, port: 60_000 + n }))
const namesOf = (probes: ReturnType<typeof probesOf>) => probes.map(({ protocol, port }) => `${port}/${protocol}`)
const random = () => fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })

describe('the ports that are tried', () => {
  it('are fewer than any knock has, whatever is named', () => {
    fc.assert(
      fc.property(random(), fc.integer({ min: 0, max: 100 }), (chance, count) => {
        const ports = new Set(probesOf(POOL, services(count), () => chance).map(({ port }) => port))
        return [...ports].filter((port) => POOL.includes(port)).length < QUORUM + SEALED_LENGTHS[0]
      }),
    )
  })

  it('lie within the pool, each in a part of its own', () => {
    fc.assert(
      fc.property(random(), (chance) => {
        const high = probesOf(POOL, [], () => chance).filter(({ isHigh, protocol }) => isHigh && protocol === 'tcp')
        return high.length === 4 && high.every(({ port }, n) => port >= POOL[n * 4_096] && port < POOL[0] + (n + 1) * 4_096)
      }),
    )
  })

  it('are the usual ones, then what is named, then high ones by TCP and UDP', () => {
    expect(
      namesOf(
        probesOf(
          POOL,
          [
            { protocol: 'udp', port: 5_353 },
            { protocol: null, port: 22 },
          ],
          () => 0,
        ),
      ),
    ).toEqual([
      ...['443/tcp', '80/tcp', '53/tcp', '443/udp', '53/udp', '5353/udp', '22/tcp'],
      ...['tcp', 'udp'].flatMap((protocol) => [49_152, 53_248, 57_344, 61_440].map((port) => `${port}/${protocol}`)),
    ])
  })

  it('are tried once each, and what is named in place of what stands for a knock', () => {
    const probes = probesOf(
      POOL,
      [
        { protocol: 'tcp', port: 443 },
        { protocol: 'tcp', port: 49_152 },
      ],
      () => 0,
    )
    expect(namesOf(probes)).toEqual([...new Set(namesOf(probes))])
    expect(probes.find(({ port }) => port === 49_152)?.isHigh).toBe(false)
  })

  it('leave out what is beyond the bound, and what stands for all ports', () => {
    const named = [{ protocol: null, port: 0 }, ...services(MAX_NAMED + 5)]
    expect(probesOf(POOL, named, () => 0).filter(({ port, isHigh }) => port >= 60_000 && !isHigh)).toHaveLength(MAX_NAMED)
  })
})
