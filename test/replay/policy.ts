import { decide, type Refusal } from '../../src/gate/policy'
import type { GrantRules, ServerKey } from '../../src/gate/server-key'
import type { Request } from '../../src/protocol/request'
import type { Service } from '../../src/protocol/service'
import { MIDDLE, requestOf } from '../gate/listener/ear'
import type { Attack, Outcome, Scale } from './attack'
import { Tally } from './tally'
import { ATTACKER, cidrs, SERVER, serverKey, USER, World, type WorldOptions } from './world'

/* Policy: the holder of a key asks for more than its grant, or tries to harm another user. */

/** Most leases of one key. */
const KEY_LEASES = 256
const IPV6_SERVER = '2001:db8::1'
const UNBOUND: Partial<GrantRules> = { bindSource: false }

interface Ask {
  readonly request: Partial<Request>
  readonly grant?: Partial<GrantRules>
  readonly source?: string
  readonly destination?: string
  readonly says?: Refusal
}

/** Each is asked of a server of its own; afterwards another key's user can still knock. */
const asked =
  (asks: readonly Ask[], options: WorldOptions = {}) =>
  async ({ times }: Scale): Promise<Outcome> => {
    const tally = new Tally()
    for (let seed = 1; seed <= times(3, 30); seed++) {
      for (const { request, grant = {}, source = ATTACKER, destination = SERVER, says = 'not-granted' } of asks) {
        const [key, other] = [serverKey(1, grant), serverKey(2)]
        const world = await World.begin({ seed, ...options, keys: [key, other] })
        const ask = async () => {
          await world.taps(world.compose(request, key.key), { source, destination })
          await world.pass(200)
        }
        await tally.attack(world, ask, says)
        tally.promise(world.rules.size === 0, `${JSON.stringify(request)} changed the firewall`)
        await tally.knock(world, () => world.knock({ key: other.key }))
      }
    }
    return tally
  }

/** Every port and protocol, of a grant of two services. */
async function everyPort(): Promise<Outcome> {
  const tally = new Tally()
  const key = serverKey(1, {
    services: [
      { port: 22, protocol: 'tcp' },
      { port: 53, protocol: 'udp' },
    ],
  })
  const nameOf = (service: Service): string => `${service.port}/${service.protocol}`
  for (let port = 0; port <= 65535; port++) {
    for (const protocol of ['any', 'tcp', 'udp'] as const) {
      const grant = decide({ ...requestOf(1), port, protocol }, USER, USER, SERVER, key, [], MIDDLE * 1000)
      const opened = 'refusal' in grant ? [] : grant.services.map(nameOf)
      const wanted = key.grant.services
        .filter((service) => [0, service.port].includes(port) && ['any', service.protocol].includes(protocol))
        .map(nameOf)
      tally.tried++
      if (opened.some((service) => !wanted.includes(service))) tally.opened++
      tally.promise(opened.join() === wanted.join(), `expected ${port}/${protocol} to open "${wanted}", got "${opened}"`)
    }
  }
  return tally
}

/** Port 0 opens what the grant lists and nothing else; of one protocol, only that. */
async function portZero({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  const services = [
    { port: 22, protocol: 'tcp' },
    { port: 443, protocol: 'tcp' },
    { port: 53, protocol: 'udp' },
  ] as const
  for (let seed = 1; seed <= times(10, 100); seed++) {
    for (const protocol of ['any', 'tcp', 'udp'] as const) {
      const world = await World.begin({ seed, keys: [serverKey(1, { services })] })
      await tally.knock(world, () => world.knock({ request: { port: 0, protocol } }))
      const wanted = services.filter((service) => protocol === 'any' || service.protocol === protocol)
      const opened = world.openings.map(({ lease }) => `${lease.port}/${lease.protocol}`)
      tally.tried++
      if (opened.join() !== wanted.map((service) => `${service.port}/${service.protocol}`).join()) tally.opened++
    }
  }
  return tally
}

/** One key asks for doors for hundreds of addresses: it gets 256 at most, and the others still get theirs. */
async function manyDoors(): Promise<Outcome> {
  const tally = new Tally()
  const [key, other] = [serverKey(1, UNBOUND), serverKey(2)]
  const world = await World.begin({ keys: [key, other] })
  for (let n = 0; n < KEY_LEASES + 44; n++) {
    const ask = () => world.knock({ source: ATTACKER, request: { address: `203.0.${n >> 8}.${n & 255}`, seconds: 3_600 } })
    if (n < KEY_LEASES) await tally.knock(world, ask)
    else await tally.attack(world, ask, 'not-granted')
    await world.pass(800)
  }
  await tally.knock(world, () => world.knock({ key: other.key }))
  return tally
}

/** Beside an address that no lease may name, the block is reduced to the address that was asked for. */
async function forbiddenBlocks({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  const beside = [ATTACKER, '255.255.255.7', '127.0.0.9', '::9', '2001:db8::9']
  for (let seed = 1; seed <= times(3, 30); seed++) {
    for (const source of beside) {
      const world = await World.begin({ seed, keys: [serverKey(1, { openPrefix: 16 + (seed % 9), openPrefix6: 48 + seed })] })
      const destination = source.includes(':') ? IPV6_SERVER : SERVER
      tally.tried++
      await tally.knock(world, async () => {
        await world.taps(world.compose(), { source, destination })
        await world.pass(200)
      })
      if (world.openings.some(({ lease }) => lease.address !== source)) tally.opened++
    }
  }
  return tally
}

/** What someone without the right asks must not affect another user, whose door is open and who can still knock. */
const abused =
  (
    { request, grant = {}, source = ATTACKER, says }: { request: Partial<Request>; says: Refusal | null } & Omit<Ask, 'says'>,
    options: WorldOptions = {},
  ) =>
  async ({ times }: Scale): Promise<Outcome> => {
    const tally = new Tally()
    for (let seed = 1; seed <= times(20, 200); seed++) {
      const [low, victim] = [serverKey(1, grant), serverKey(2)]
      const world = await World.begin({ seed, ...options, keys: [low, victim] })
      await tally.knock(world, () => world.knock({ key: victim.key }))
      const ask = async () => {
        await world.taps(world.compose(request, low.key), { source })
        await world.pass(1_500)
      }
      // What is not refused is within the key's right, and does not harm the user.
      await tally.attack(world, ask, says, says === null)
      tally.promise(world.isOpen(), "the user's door has been closed")
      await tally.knock(world, () => world.knock({ key: victim.key }))
    }
    return tally
  }

/** A lock on an address is lifted when that address is added to never_lock. */
async function lockLifted({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  for (let seed = 1; seed <= times(10, 100); seed++) {
    const [key, victim] = [serverKey(1, { ...UNBOUND, lock: true }), serverKey(2)]
    const world = await World.begin({ seed, keys: [key, victim] })
    await tally.knock(world, () => world.knock({ source: ATTACKER, request: { action: 'lock', address: USER } }))
    await tally.attack(world, () => world.knock({ key: victim.key }), 'locked')
    await world.daemon.setKeys(world.keys, cidrs(USER))
    await world.pass(500)
    await tally.knock(world, () => world.knock({ key: victim.key }))
  }
  return tally
}

/**
 * The known limit: nothing answers a knock, so that the holder of a key can send it from any address, as far as networks allow this, and
 * that is then "the address that you see me come from". Bound to its source or not, a key that may lock can lock anyone out. What
 * counts is that never_lock protects the addresses in it, and that a key without the right cannot lock.
 */
async function lockFromForgedSource({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  let locked = 0
  for (let seed = 1; seed <= times(20, 200); seed++) {
    for (const [rights, neverLock] of [
      [{ lock: true }, []],
      [{ lock: true, requireAddress: true }, []],
      [{ lock: true }, [USER]],
      [{ lock: false }, []],
    ] as const) {
      const [low, victim] = [serverKey(1, rights), serverKey(2)]
      const world = await World.begin({ seed, keys: [low, victim], neverLock })
      await tally.knock(world, () => world.knock({ key: victim.key }))
      // Named or not: the source that the key is bound to is the forged one.
      const address = 'requireAddress' in rights ? USER : '0.0.0.0'
      const ask = () => world.knock({ key: low.key, source: USER, request: { ...lock, address, seconds: 5 } })
      const isSpared = neverLock.length > 0 || !rights.lock
      await tally.attack(world, ask, isSpared ? 'not-granted' : null, !isSpared)
      tally.promise(world.isOpen(), "the user's door has been closed")
      if (!isSpared) {
        await tally.attack(world, () => world.knock({ key: victim.key }), 'locked')
        locked++
        await world.pass(7_000)
      }
      await tally.knock(world, () => world.knock({ key: victim.key }))
    }
  }
  tally.note = `known limit: a lock from a forged source address locked the user out, ${locked} of ${locked}; see never_lock`
  return tally
}

/** A lock ends when the key that made it is revoked, expires or is removed, even if the daemon was not running at that moment. */
async function lockOutlivesKey({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  const ends: ((key: ServerKey, world: World) => ServerKey[])[] = [
    (key, world) => [{ ...key, revoked: world.wall }],
    (key, world) => [{ ...key, expires: world.wall }],
    () => [],
  ]
  for (let seed = 1; seed <= times(5, 50); seed++) {
    for (const end of ends) {
      for (const isDown of [false, true]) {
        const [key, victim] = [serverKey(1, { ...UNBOUND, lock: true }), serverKey(2)]
        const world = await World.begin({ seed, keys: [key, victim] })
        await tally.knock(world, () => world.knock({ key: key.key, source: ATTACKER, request: { ...lock, address: USER } }))
        await tally.attack(world, () => world.knock({ key: victim.key }), 'locked')
        const left = [...end(key, world), victim]
        if (isDown) {
          world.kill()
          world.keys = left
          await world.start()
        } else {
          await world.setKeys(left)
          await world.pass(500)
        }
        tally.promise(world.rules.size === 0, 'a lock has outlived its key')
        await tally.knock(world, () => world.knock({ key: victim.key }))
      }
    }
  }
  return tally
}

/** A user who is locked out for long has a friend lock them for a second, which would end the longer lock; the daemon is restarted or not. */
async function shorterLock({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  for (let seed = 1; seed <= times(10, 100); seed++) {
    for (const isRestarted of [false, true]) {
      const keys = [serverKey(1, { ...UNBOUND, lock: true }), serverKey(2, { ...UNBOUND, lock: true }), serverKey(3)]
      const world = await World.begin({ seed, keys })
      for (const [n, seconds] of [60, 1].entries())
        await tally.knock(world, () => world.knock({ key: keys[n].key, request: { ...lock, address: ATTACKER, seconds } }))
      if (isRestarted) await world.restart()
      await world.pass(5_000)
      await tally.attack(world, () => world.knock({ key: keys[2].key, source: ATTACKER }), 'locked')
      tally.promise(
        [...world.rules].some((rule) => !('port' in rule) && rule.address === ATTACKER),
        'the lock is no longer in the firewall',
      )
      // Nor does the longer one last longer than it should.
      await world.pass(60_000)
      await tally.knock(world, () => world.knock({ key: keys[2].key, source: ATTACKER }))
    }
  }
  return tally
}

/** A user who is locked out has a friend lock them for longer with a key that expires soon; the daemon is restarted or not. */
async function lockByEndingKey({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  for (let seed = 1; seed <= times(10, 100); seed++) {
    for (const isRestarted of [false, true]) {
      const [key, low, victim] = [1, 2, 3].map((n) => serverKey(n, { ...UNBOUND, lock: true })) as [
        ServerKey,
        ServerKey,
        ServerKey,
      ]
      const world = await World.begin({ seed, keys: [key, low, victim] })
      const ending = { ...low, expires: world.wall + 5_000 }
      await world.setKeys([key, ending, victim])
      for (const [{ key: by }, seconds] of [[key, 60] as const, [ending, 90] as const])
        await tally.knock(world, () => world.knock({ key: by, request: { ...lock, address: ATTACKER, seconds } }))
      if (isRestarted) await world.restart()
      await world.pass(10_000)
      await tally.attack(world, () => world.knock({ key: victim.key, source: ATTACKER }), 'locked')
    }
  }
  return tally
}

/** The holder of a key that may lock locks as many addresses as possible, so that nobody else can lock one. */
async function manyLocks(): Promise<Outcome> {
  const tally = new Tally()
  const [key, other] = [serverKey(1, { ...UNBOUND, lock: true }), serverKey(2, { ...UNBOUND, lock: true })]
  const world = await World.begin({ keys: [key, other] })
  for (let n = 0; n < KEY_LEASES + 44; n++) {
    const address = `203.0.${n >> 8}.${n & 255}`
    const ask = () => world.knock({ source: ATTACKER, request: { ...lock, address, seconds: 3_600 } })
    if (n < KEY_LEASES) await tally.knock(world, ask)
    else await tally.attack(world, ask, 'not-granted')
    await world.pass(800)
  }
  await tally.knock(world, () => world.knock({ key: other.key, request: { ...lock, address: ATTACKER } }))
  return tally
}

const lock = { action: 'lock', port: 0 } as const

export const attacks: Attack[] = [
  {
    kind: 'policy',
    name: 'every port and protocol',
    what: 'The holder of a key for 22/tcp and 53/udp asks for each of the 65,536 ports over TCP, over UDP and over either.',
    run: everyPort,
  },
  {
    kind: 'policy',
    name: 'port 0',
    what: 'The holder of a key asks for port 0, to get more than the grant lists.',
    run: portZero,
  },
  {
    kind: 'policy',
    name: 'outside the grant',
    what: 'The holder of a key asks for ports, protocols, lifetimes and addresses outside the grant, among them seconds 0.',
    run: asked([
      ...[21, 23, 80, 443, 65_535].map((port): Ask => ({ request: { port } })),
      { request: { port: 22, protocol: 'udp' } },
      { request: { port: 0, protocol: 'udp' } },
      ...[3_601, 86_400, 0xffffff, 0].map((seconds): Ask => ({ request: { seconds } })),
      { request: { seconds: 0, once: true } },
      { request: { seconds: 3_601, once: true } },
      { request: {}, grant: { addresses: cidrs('192.0.2.0/24') } },
      { request: { address: '203.0.113.9' }, grant: { ...UNBOUND, addresses: cidrs('192.0.2.0/24') } },
      { request: { address: '192.0.3.1' }, grant: { ...UNBOUND, addresses: cidrs('192.0.2.0/24') } },
      { request: { address: '0.0.0.0' }, grant: { requireAddress: true } },
      { request: { address: '::' }, grant: { requireAddress: true } },
      { request: { address: '::ffff:0.0.0.0' }, grant: { requireAddress: true } },
    ]),
  },
  {
    kind: 'policy',
    name: 'IPv4-mapped addresses',
    what: 'The holder of a key writes an address that they may not name as an IPv4-mapped one, to get past the grant.',
    run: asked([
      { request: { address: `::ffff:${USER}` }, says: 'address-mismatch' },
      { request: { address: '::ffff:203.0.113.9' }, grant: { ...UNBOUND, addresses: cidrs('::/0') } },
      { request: { address: '::ffff:203.0.113.9' }, grant: { ...UNBOUND, addresses: cidrs('192.0.2.0/24') } },
      ...['127.0.0.1', '224.0.0.1', '255.255.255.255', SERVER].map(
        (address): Ask => ({ request: { address: `::ffff:${address}` }, grant: UNBOUND }),
      ),
    ]),
  },
  {
    kind: 'policy',
    name: 'the other family',
    what: 'The holder of a key with addresses of one family asks for one of the other, or knocks from there.',
    run: asked([
      { request: { address: '2001:db8::9' }, says: 'address-mismatch' },
      { request: { address: '2001:db8::9' }, grant: { ...UNBOUND, addresses: cidrs('0.0.0.0/0') } },
      { request: { address: '203.0.113.9' }, grant: { ...UNBOUND, addresses: cidrs('::/0') } },
      { request: {}, grant: { addresses: cidrs('0.0.0.0/0') }, source: '2001:db8::66', destination: IPV6_SERVER },
      { request: { address: '::' }, grant: { addresses: cidrs('::/0') } },
      {
        request: { address: USER },
        source: '2001:db8::66',
        destination: IPV6_SERVER,
        says: 'address-mismatch',
      },
    ]),
  },
  {
    kind: 'policy',
    name: "broadcast, loopback and the server's own addresses",
    what: 'The holder of a key for any address names one that no packet comes from, loopback or the address that they knock at.',
    run: asked([
      ...[
        '0.0.0.1',
        '0.255.255.255',
        '127.0.0.1',
        '127.255.255.254',
        '224.0.0.1',
        '239.255.255.255',
        '255.255.255.255',
        '::1',
        'ff02::1',
      ].map((address): Ask => ({ request: { address }, grant: UNBOUND })),
      { request: { address: SERVER }, grant: UNBOUND },
      { request: { address: IPV6_SERVER }, grant: UNBOUND, source: '2001:db8::66', destination: IPV6_SERVER },
      { request: { address: '127.0.0.1' }, says: 'address-mismatch' },
    ]),
  },
  {
    kind: 'policy',
    name: 'hundreds of doors for one key',
    what: 'The holder of a key for any address asks for a door for each of 300, to use up the room of the others.',
    run: manyDoors,
  },
  {
    kind: 'policy',
    name: 'hundreds of locks for one key',
    what: 'The holder of a key that may lock any address locks each of 300, to use up the room of the others.',
    run: manyLocks,
  },
  {
    kind: 'policy',
    name: 'a longer lock by a key that expires first',
    what: 'A user who is locked out has a friend lock them for longer, with a key that expires before the first lock.',
    run: lockByEndingKey,
  },
  {
    kind: 'policy',
    name: 'a lock by a key without the right',
    what: 'The holder of a key that may not lock asks to lock the address that they share with a user.',
    run: abused({ request: lock, source: USER, says: 'not-granted' }),
  },
  {
    kind: 'policy',
    name: "a lock of another user's address",
    what: "The holder of a key that may lock, and is bound to its source, names a user's address.",
    run: abused({ request: { ...lock, address: USER }, grant: { lock: true }, says: 'address-mismatch' }),
  },
  {
    kind: 'policy',
    name: 'a lock of what is never locked',
    what: 'The holder of a key that may lock any address names one of never_lock.',
    run: abused(
      { request: { ...lock, address: USER }, grant: { ...UNBOUND, lock: true }, says: 'not-granted' },
      { neverLock: ['198.51.100.0/29'] },
    ),
  },
  {
    kind: 'policy',
    name: 'a lock of what is never locked, IPv4-mapped',
    what: 'The holder of a key that may lock any address names one of never_lock as an IPv4-mapped one.',
    run: abused(
      { request: { ...lock, address: `::ffff:${USER}` }, grant: { ...UNBOUND, lock: true }, says: 'not-granted' },
      { neverLock: [USER] },
    ),
  },
  {
    kind: 'policy',
    name: 'a lock for longer than granted',
    what: 'The holder of a key that may lock any address asks to lock a user out for longer than the grant allows.',
    run: abused({ request: { ...lock, address: USER, seconds: 3_601 }, grant: { ...UNBOUND, lock: true }, says: 'not-granted' }),
  },
  {
    kind: 'policy',
    name: 'a lock of an address outside the grant',
    what: 'The holder of a key that may lock the addresses of one block names a user of another.',
    run: abused({
      request: { ...lock, address: USER },
      grant: { ...UNBOUND, lock: true, addresses: cidrs('203.0.113.0/24') },
      says: 'not-granted',
    }),
  },
  {
    kind: 'policy',
    name: "a lock of one's own address",
    what: 'The holder of a key that may lock locks themselves out: this affects no other user.',
    run: abused({ request: lock, grant: { lock: true }, says: null }),
  },
  {
    kind: 'policy',
    name: "closing another user's door",
    what: "The holder of a key for any address closes a user's door, which another key has opened.",
    run: abused({ request: { action: 'close', port: 0, address: USER }, grant: UNBOUND, says: null }),
  },
  {
    kind: 'policy',
    name: 'a lock lifted by never_lock',
    what: "The holder of a key that may lock any address has locked a user out, until the administrator adds the user's address to never_lock.",
    run: lockLifted,
  },
  {
    kind: 'policy',
    name: 'a block beyond the grant',
    what: 'The holder of a key that opens for the block around an address asks for it when the block is wider than what the key may open for.',
    run: asked([
      { request: {}, grant: { openPrefix: 24, addresses: cidrs('198.51.100.64/26') } },
      { request: {}, grant: { openPrefix: 16, addresses: cidrs('198.51.100.0/24') } },
      {
        ...{ request: {}, source: '2001:db8::66', destination: IPV6_SERVER },
        grant: { openPrefix6: 48, addresses: cidrs('2001:db8::/64') },
      },
    ]),
  },
  {
    kind: 'policy',
    name: 'a block of forbidden addresses',
    what: "The holder of a key that opens for a block knocks from next to broadcast, loopback or the server's own address: it opens for them alone.",
    run: forbiddenBlocks,
  },
  {
    kind: 'policy',
    name: 'a lock from a forged source address',
    what: "The holder of a key that may lock, bound to its source or not, knocks from a user's address, which they forge, and locks it out.",
    run: lockFromForgedSource,
  },
  {
    kind: 'policy',
    name: 'a lock that outlives its key',
    what: 'The holder of a key has locked a user out, and the key is then revoked, expires or is removed.',
    run: lockOutlivesKey,
  },
  {
    kind: 'policy',
    name: 'a shorter lock over a longer one',
    what: 'A user who is locked out has a friend, who may lock, lock them for a second, to get in after that.',
    run: shorterLock,
  },
]
