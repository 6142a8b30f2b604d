import { describe, expect, it } from 'vitest'
import type { Entry, Lease, Lock } from '../../src/gate/firewall'
import { Leases, MAX_KEY_LEASES, MAX_KEY_LOCKS } from '../../src/gate/leases'
import { sharedRuling } from '../../src/gate/policy'
import type { GrantRules } from '../../src/gate/server-key'
import { cidrs, serverKey } from '../replay/world'

/* What a gateway takes over from another one: whether its grants allow it, and its life among its own. */

const NOW = 1_770_000_000
const at = (steady = 0) => ({ wall: (NOW + steady) * 1000, steady: 5_000_000 + steady * 1000 })
const { fingerprint } = serverKey(1)
const WHOSE = { id: 'abcdef01', key: 'user1', fingerprint, address: '198.51.100.2' }
const lease = (until: number | null = NOW + 60, more: Partial<Lease> = {}): Lease => ({
  ...{ ...WHOSE, protocol: 'tcp', port: 22, once: false, until },
  ...more,
})
const lock = (until = NOW + 60, more: Partial<Lock> = {}): Lock => ({ ...WHOSE, until, ...more })

describe('a lease or a ban of another gateway', () => {
  const ruling = (entry: Entry, grant: Partial<GrantRules> = {}, seconds: number | null = 60, more = {}) =>
    sharedRuling(entry, seconds, serverKey(1, grant, more), cidrs('203.0.113.0/24'), NOW * 1000)

  it.each<[string, Entry, Partial<GrantRules>, number | null, object, string | null]>([
    ['within the grant', lease(), {}, 60, {}, null],
    ['by a key that is revoked', lease(), {}, 60, { revoked: 1 }, 'revoked'],
    ['by a key that is over', lease(), {}, 60, { expires: NOW * 1000 }, 'expires'],
    ['for another address', lease(), { addresses: cidrs('10.0.0.0/8') }, 60, {}, 'addresses'],
    [
      'for a block that goes beyond the addresses',
      lease(null, { address: '198.51.100.0/24' }),
      { addresses: cidrs('198.51.100.0/25'), openPrefix: 24, allowUntilClosed: true },
      null,
      {},
      'addresses',
    ],
    ['for nobody’s address', lease(NOW, { address: '224.0.0.1' }), {}, 60, {}, 'nobody'],
    ['for everybody', lease(NOW, { address: '0.0.0.0/0' }), { openPrefix: 16 }, 60, {}, 'nobody'],
    ['for the machine itself', lease(NOW, { address: '127.0.0.1' }), {}, 60, {}, 'loopback'],
    ['for a block with the machine itself', lease(NOW, { address: '127.0.0.0/16' }), { openPrefix: 16 }, 60, {}, 'loopback'],
    ['for the longest time, and a part of a second', lease(), { max: 60 }, 61, {}, null],
    ['for longer', lease(), { max: 60 }, 62, {}, 'max'],
    ['until closed', lease(null), { allowUntilClosed: true }, null, {}, null],
    ['until closed, which the grant does not allow', lease(null), {}, null, {}, 'allow_until_closed'],
    ['for another port', lease(NOW, { port: 23 }), {}, 60, {}, 'services'],
    ['for another protocol', lease(NOW, { protocol: 'udp' }), {}, 60, {}, 'services'],
    ['for as wide a block', lease(NOW, { address: '198.51.100.0/24' }), { openPrefix: 24 }, 60, {}, null],
    ['for a wider block', lease(NOW, { address: '198.51.0.0/16' }), { openPrefix: 24 }, 60, {}, 'open_prefix'],
    ['for a wider block of IPv6', lease(NOW, { address: '2001:db8::/56' }), { openPrefix6: 64 }, 60, {}, 'open_prefix6'],
    ['that is a ban', lock(), { lock: true }, 60, {}, null],
    ['that is a ban, which the grant does not allow', lock(), {}, 60, {}, 'lock'],
    ['that is a ban of who is spared', lock(NOW, { address: '203.0.113.9' }), { lock: true }, 60, {}, 'never_lock'],
    ['that is a ban for longer', lock(), { lock: true, max: 60 }, 62, {}, 'max'],
  ])('%s', (_, entry, grant, seconds, more, rule) => {
    expect(ruling(entry, grant, seconds, more)).toBe(rule)
  })
})

describe('what is taken over', () => {
  const said = (leases: Leases) => leases.takeChanges().map(({ entry, why }) => `${entry.id} ${entry.until} ${why}`)

  it('is in force, and has the time that it is given, whatever its end says', () => {
    const leases = new Leases()
    const adopted = leases.adopt(lease(), 20_000, at())
    expect(adopted).toEqual(lease())
    expect([leases.left(adopted as Lease, at()), leases.all(), said(leases)]).toEqual([
      20_000,
      [lease()],
      [`abcdef01 ${NOW + 60} wanted`],
    ])
    leases.expire(
      () => true,
      () => false,
      at(20),
    )
    expect(said(leases)).toEqual([`abcdef01 ${NOW + 60} expired`])
  })

  it('makes what is there longer, which keeps its name, and never shorter', () => {
    const leases = new Leases()
    const own = leases.adopt(lease(NOW + 60, { id: '00000001' }), 60_000, at())
    expect(leases.adopt(lease(NOW + 30), 30_000, at())).toBe(own)
    expect(leases.adopt(lease(NOW + 60), 90_000, at())).toBe(own)
    expect(leases.left(own as Lease, at())).toBe(60_000)
    expect(leases.adopt(lease(NOW + 90), 50_000, at())).toEqual(lease(NOW + 90, { id: '00000001' }))
    expect(leases.all()).toEqual([lease(NOW + 90, { id: '00000001' })])
  })

  it('of a ban takes the place of a shorter one', () => {
    const leases = new Leases()
    leases.lock(lock(NOW + 60), at())
    leases.adopt(lock(NOW + 90), 90_000, at())
    expect([leases.locks, leases.locked(WHOSE.address)?.until]).toEqual([1, NOW + 90])
    expect(leases.unlock(WHOSE.address).length).toBe(1)
    expect(leases.locked(WHOSE.address)).toBeUndefined()
  })

  it('is not more than fits of one key', () => {
    const leases = new Leases()
    const address = (i: number) => `10.0.${i >> 8}.${i & 255}`
    for (let i = 0; i < MAX_KEY_LEASES; i++) leases.adopt(lease(NOW + 60, { address: address(i) }), 60_000, at())
    for (let i = 0; i < MAX_KEY_LOCKS; i++) leases.adopt(lock(NOW + 60, { address: address(i) }), 60_000, at())
    expect(leases.adopt(lease(), 60_000, at())).toBeNull()
    expect(leases.adopt(lock(), 60_000, at())).toBeNull()
    expect(leases.adopt(lease(NOW + 90, { address: address(0) }), 90_000, at())).not.toBeNull()
    expect([leases.size, leases.locks]).toEqual([MAX_KEY_LEASES, MAX_KEY_LOCKS])
  })

  it('ends for the fleet, in the place where it is now', () => {
    const leases = new Leases()
    leases.adopt(lease(NOW + 60), 60_000, at())
    leases.adopt(lease(NOW + 90), 90_000, at())
    leases.takeChanges()
    leases.drop(lease(NOW + 60))
    expect([leases.all(), said(leases)]).toEqual([[], [`abcdef01 ${NOW + 90} closed for the fleet`]])
    leases.drop(lease())
    expect(said(leases)).toEqual([])
  })
})

describe('who subscribes', () => {
  it('is told of each change in its moment, and of what is given up, until somebody else does', () => {
    const leases = new Leases()
    const heard: string[] = []
    leases.subscribe((entry, why) => heard.push(`${entry.until} ${why}`))
    const [own] = leases.open('abcdef01', 'user1', fingerprint, { ...grant(60) }, at()) ?? []
    leases.open('abcdef02', 'user1', fingerprint, { ...grant(90) }, at())
    expect(heard).toEqual([`${NOW + 60} wanted`, `${NOW + 60} replaced`, `${NOW + 90} wanted`])
    leases.giveUp(leases.current(own as Lease) as Lease, () => false, at())
    leases.subscribe(null)
    leases.endAll(() => true)
    expect(heard.slice(3)).toEqual([`${NOW + 90} given up`])
  })

  const grant = (seconds: number) => ({
    ...{ action: 'open' as const, address: WHOSE.address, services: [{ port: 22, protocol: 'tcp' as const }] },
    ...{ once: false, until: NOW + seconds },
  })
})
