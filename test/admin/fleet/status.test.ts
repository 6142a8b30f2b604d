import { describe, expect, it } from 'vitest'
import { init } from '../../../src/admin/fleet/begin'
import { differencesOf, lookAtStatus } from '../../../src/admin/fleet/status'
import { documentOf, linesOf } from '../../../src/cli/admin/fleet-words'
import { BASE, type Base, formatBase } from '../../../src/daemon/fleet/rows'
import { type Beside, NOW, placeOf, set, speak, word } from './place'

const [ONE, TWO] = ['1'.repeat(32), '2'.repeat(32)]
type Said = Parameters<typeof speak>[2]
const both = { keys: { count: 1, digest: 'd1' } }

/** A fleet of two gateways that speak, with one key each. @param second what the other one says, besides */
async function fleet(second: Said = {}, keys: readonly string[] = [ONE]): Promise<Beside> {
  const place = await placeOf()
  await init(place)
  speak(place.etcd, 'gw1', both, [ONE])
  speak(place.etcd, 'gw2', { ...both, ...second }, keys)
  place.meanwhile = () => {
    speak(place.etcd, 'gw1', both)
    speak(place.etcd, 'gw2', { ...both, ...second })
  }
  return place
}
const faultsOf = async (place: Beside) => (await lookAtStatus(place)).faults.map(({ message }) => message)

describe('a fleet', () => {
  it('in which all speak and have the same keys is well', async () => {
    const status = await lookAtStatus(await fleet())
    expect(status.faults).toEqual([])
    expect(status.shared?.gateways.map(({ name, speaks, offset }) => [name, speaks, offset])).toEqual([
      ['gw1', true, 0],
      ['gw2', true, 0],
    ])
  })

  it.each<[string, Said, RegExp]>([
    ['has found etcd restored', { restored: true }, /^gateway "gw2" opens nothing: it has found an etcd that knows less/],
    ['has another skew', { skew: 3 }, /^gateway "gw2" has skew = 3, and this one 1$/],
    ['has another clock', { wall: NOW - 4_000 }, /^the clock of gateway "gw2" and this one differ by 4.0 s$/],
    ['has other keys', { keys: { count: 1, digest: 'd2' } }, /^the gateways have different keys$/],
  ])('in which a gateway %s is not well', async (_, second, message) => {
    expect(await faultsOf(await fleet(second))).toEqual([expect.stringMatching(message)])
  })

  it('in which the clocks are off by less than two seconds is well', async () => {
    expect(await faultsOf(await fleet({ wall: NOW + 1_900 }))).toEqual([])
  })

  it('names the keys that not all have', async () => {
    const place = await fleet({ keys: { count: 2, digest: 'd2' } }, [ONE, TWO])
    expect(await faultsOf(place)).toEqual(['the gateways have different keys: 22222222 not at gw1'])
  })

  it('in which a gateway is silent is not well', async () => {
    const place = await fleet()
    place.meanwhile = () => speak(place.etcd, 'gw1', both)
    expect(await faultsOf(place)).toEqual(['gateway "gw2" does not speak'])
  })

  it('with a gateway whose word is of a later version is not well', async () => {
    const place = await fleet()
    set(place.etcd, 'shared/gateway/gw3', '{"form":2}')
    const listen = place.meanwhile
    place.meanwhile = () => {
      listen()
      set(place.etcd, 'shared/gateway/gw3', '{"form":2,"beat":1}')
    }
    expect(await faultsOf(place)).toEqual(['gateway "gw3" says what this program cannot read'])
  })

  it.each<[string, (place: Beside) => unknown, RegExp]>([
    [
      'this gateway has joined another',
      (place) => set(place.etcd, BASE, base({ fleet: '0'.repeat(16) })),
      /^this gateway has joined fleet/,
    ],
    [
      'it is of another server',
      (place) => set(place.etcd, BASE, base({ fleet: fleetOf(place), server: 'x' })),
      /^the fleet is of server "x"/,
    ],
    [
      'its base is of a later version',
      (place) => set(place.etcd, BASE, '{}'),
      /^the base of the fleet below "knockturn\/" cannot be read$/,
    ],
    [
      'etcd was made anew',
      (place) => place.etcd.store.transact({ if: [], do: [{ remove: BASE }], else: [] }),
      /^there is no fleet below/,
    ],
    ['etcd is more than half full', (place) => (place.etcd.store.quota = 1_000), /^http:.*: etcd has used half of its quota$/],
  ])('is not well where %s', async (_, plant, message) => {
    const place = await fleet()
    plant(place)
    expect(await faultsOf(place)).toEqual([expect.stringMatching(message)])
  })
  const base = (more: object) =>
    formatBase({ fleet: '', server: 'gate.example', epoch: 1, seconds: NOW / 1_000, ahead: 2, ...more })
  const fleetOf = ({ etcd }: Beside) => JSON.parse(etcd.store.rows.find(({ row }) => row === BASE)?.value ?? '{}').fleet

  it('whose etcd is full is not well, and who cannot speak then is silent', async () => {
    const place = await fleet()
    place.etcd.store.isFull = true
    place.meanwhile = () => {}
    expect(await faultsOf(place)).toEqual([
      expect.stringMatching(/^http:.*: etcd complains: NOSPACE$/),
      'gateway "gw1" does not speak',
      'gateway "gw2" does not speak',
    ])
  })

  it('that this gateway has not joined is not well', async () => {
    const place = await fleet()
    const stranger = await placeOf({ etcd: place.etcd, gateway: 'gw3' })
    stranger.meanwhile = place.meanwhile
    expect(await faultsOf(stranger)).toEqual(['this gateway has not joined the fleet: its daemon does not start'])
  })

  it.each(['unreachable', 'no-quorum', 'login', 'tls', 'timeout'] as const)(
    'whose etcd is in trouble (%s) is not known to be well',
    async (trouble) => {
      const place = await fleet()
      place.etcd.trouble = trouble
      const { shared, faults } = await lookAtStatus(place)
      expect(shared).toBeNull()
      expect(faults.map(({ message }) => message)).toContain(`etcd cannot be asked: etcd: ${trouble}`)
      expect(faults.every(({ hint }) => hint)).toBe(true)
    },
  )

  it('that falls silent while it is listened to is not known to be well, and no gateway is called silent', async () => {
    const place = await fleet()
    place.meanwhile = () => place.etcd.cut()
    expect(await faultsOf(place)).toEqual(['etcd fell silent while the gateways were listened to: the connection is gone'])
  })
})

describe('differences of keyrings', () => {
  const gateway = (name: string, keys: string[] | null, more: object = {}) => ({
    ...{ name, keys, speaks: true },
    said: word({ keys: { count: keys?.length ?? 5, digest: '' } }),
    ...more,
  })
  it.each([
    ['are none where all have the same', [gateway('a', [ONE]), gateway('b', [ONE])], []],
    [
      'name who has a key, and who has not',
      [gateway('a', [ONE, TWO]), gateway('b', [TWO])],
      [{ fingerprint: ONE, at: ['a'], notAt: ['b'] }],
    ],
    ['leave out who has told none', [gateway('a', [ONE]), gateway('b', null)], []],
    [
      'leave out who has more than it has told',
      [gateway('a', [ONE]), gateway('b', [TWO], { said: word({ keys: { count: 9, digest: '' } }) })],
      [],
    ],
    ['leave out who does not speak', [gateway('a', [ONE]), gateway('b', [TWO], { speaks: false })], []],
  ])('%s', (_, gateways, wanted) => {
    expect(differencesOf(gateways)).toEqual(wanted)
  })
})

describe('a status in words', () => {
  it('has a line for each gateway and each member', async () => {
    const place = await fleet({ leases: 3, lastTap: NOW - 60_000 })
    const lines = linesOf(await lookAtStatus(place), place, NOW)
    expect(lines.find((line) => line.startsWith('gw2'))).toMatch(
      /^gw2 +speaks +0\.0 s ahead +1 \(d1\) +3 +0 +1 min ago .* +1\.0$/,
    )
    expect(lines.find((line) => line.startsWith('http://127.0.0.1:2379'))).toMatch(/3\.5\.16 +has a leader/)
  })

  it('lets no gateway play tricks on a terminal', async () => {
    const place = await fleet({ program: '\x1b[2J' })
    const status = await lookAtStatus(place)
    expect(linesOf(status, place, NOW).join('')).not.toContain('\x1b[2J')
    expect(JSON.stringify(documentOf(status, place, NOW))).toContain('"well":true')
  })

  it('lets no base play tricks on a terminal', async () => {
    const place = await fleet()
    const { shared } = await lookAtStatus(place)
    const base = { ...shared?.base?.base, server: '\x1b]0;tricks\x07' } as Base
    set(place.etcd, BASE, formatBase(base))
    expect(linesOf(await lookAtStatus(place), place, NOW).join('')).not.toContain('\x1b]0;')
  })
})
