import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadServerKeys } from '../../src/daemon/server-keys'
import type { Refusal } from '../../src/gate/policy'
import type { ServerKey } from '../../src/gate/server-key'
import { formatKeyFile } from '../../src/keys/key-file'
import { revokeKey } from '../../src/keys/keyring'
import { codebook, MAX_PAGES, PAGE, symbolPort } from '../../src/protocol/codebook'
import { encode } from '../../src/protocol/erasure'
import { deriveKey, type Key } from '../../src/protocol/key'
import { open, PARITY, symbolPorts } from '../../src/protocol/knock'
import { encodeRequest, type Request } from '../../src/protocol/request'
import { seal } from '../../src/protocol/seal'
import { keyOf, knockOf, MIDDLE, requestOf, WINDOW } from '../gate/listener/ear'
import type { Attack, Outcome, Scale } from './attack'
import { MAX_KEY_FILE, revocations } from './revocations'
import { Tally } from './tally'
import { anyOf } from './traffic'
import { ATTACKER, SERVER, serverKey, USER, World } from './world'

/* Forgery: knocks that no holder of the key has made. In some attacks the attacker is given more than they can have, as stated there. */

const RENDEZVOUS = 8
/** Symbols that rebuild an IPv4 request, and those of a knock. */
const ENOUGH = 28
const WHOLE = ENOUGH + PARITY

const KEY = keyOf(1)
const BOOK = codebook(KEY, WINDOW)

/** Another address for each try, so that no try suffers from earlier ones. */
const addressOf = (n: number): string => `10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`

/** The ports for sealed bytes, with the default parity: only someone with the window's codebook can send them. */
const portsOf = (sealed: Uint8Array, book = BOOK): number[] => [
  ...book.ports.subarray(0, RENDEZVOUS),
  ...symbolPorts(book, sealed).slice(0, sealed.length + PARITY),
]

async function send(world: World, ports: readonly number[], source = ATTACKER): Promise<void> {
  await world.taps(ports, { source })
  await world.pass(120)
}

/** A whole number below n. */
const below = (world: World, n: number): number => Math.floor(world.random() * n)

/** One symbol is changed, of a knock without parity: with parity it would be repaired, and be the user's own request again. */
async function oneSymbol({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  const sealed = seal(KEY, WINDOW, encodeRequest(requestOf(1)))
  const places = Uint8Array.from({ length: ENOUGH }, (_, i) => i)
  for (let place = 0; place < ENOUGH; place++) {
    for (let change = 1; change < 256; change++) {
      tally.tried++
      if (open(KEY, WINDOW, places, sealed.with(place, sealed[place] ^ change), ENOUGH)) tally.opened++
    }
  }
  tally.promise(open(KEY, WINDOW, places, sealed, ENOUGH) !== null, 'the knock does not open when no symbol is changed')
  for (let n = 1; n <= times(100, 5_000); n++) {
    const world = await World.begin({ seed: n })
    const knock = knockOf(KEY, 60_000 + n, WINDOW, requestOf(60_000 + n), 0)
    const place = below(world, ENOUGH)
    const [byte] = anyOf(
      world,
      Array.from({ length: PAGE }, (_, i) => i).filter((byte) => symbolPort(BOOK, place, byte) !== knock[RENDEZVOUS + place]),
    )
    await tally.attack(world, () => send(world, knock.with(RENDEZVOUS + place, symbolPort(BOOK, place, byte)), USER), null)
    await tally.knock(world, () => send(world, knock, addressOf(1)))
  }
  return tally
}

/** Two spent knocks are spliced at every place, and by turns; if that can be repaired, the result is one of the two, and spent. */
const spliced =
  (other: (world: World) => number[]) =>
  async ({ times }: Scale): Promise<Outcome> => {
    const tally = new Tally()
    for (let seed = 1; seed <= times(2, 20); seed++) {
      const world = await World.begin({ seed, keys: [serverKey(1), serverKey(2)] })
      const knocks = [world.compose(), other(world)]
      for (const knock of knocks) await tally.knock(world, () => send(world, knock, USER))
      const splices: ((i: number) => number)[] = [(i) => i & 1, (i) => (i >> 1) & 1]
      for (let cut = 1; cut < RENDEZVOUS + WHOLE; cut++) splices.push((i) => (i < cut ? 0 : 1))
      for (let n = 0; n < 50; n++) splices.push(() => below(world, 2))
      for (const [n, pick] of splices.entries()) {
        for (const [a, b] of [knocks, knocks.toReversed()])
          await tally.attack(world, () =>
            send(
              world,
              a.map((port, i) => [port, b[i]][pick(i)]),
              addressOf(2 * n + (a === knocks[0] ? 0 : 1)),
            ),
          )
      }
      await tally.knock(world)
    }
    return tally
  }

/** Symbols of two knocks, mixed at random: whatever is decoded must be one of the two. */
async function splicedSymbols({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  const world = await World.begin()
  const sealed = [1, 2].map((n) => seal(KEY, WINDOW, encodeRequest(requestOf(n))))
  const words = sealed.map((bytes) => encode(bytes, MAX_PAGES))
  const salts = new Set([1, 2])
  for (let n = 0; n < times(5_000, 500_000); n++) {
    const places = Uint8Array.from(
      anyOf(
        world,
        Array.from({ length: MAX_PAGES }, (_, page) => page),
        ENOUGH + below(world, PARITY + 1),
      ),
    )
    const share = world.random()
    const symbols = places.map((page) => words[world.random() < share ? 1 : 0][page])
    const opened = open(KEY, WINDOW, places, symbols, ENOUGH)
    tally.tried++
    if (opened && !salts.has(opened.request.salt)) tally.opened++
  }
  return tally
}

/** What an attacker who knows every byte of a request would change in it. */
const TARGETS: Partial<Request>[] = [
  { address: ATTACKER },
  { port: 0 },
  { port: 443 },
  { seconds: 0 },
  { seconds: 0xffffff },
  { once: true },
  { protocol: 'any' },
  { protocol: 'udp' },
  { action: 'close' },
  { action: 'lock', address: USER },
  { salt: 2 },
]

/** The attacker is given the codebook and all that a user asks; they change the encrypted bytes to what they want, or any bit. */
async function retargeted({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  const rights = { lock: true, allowUntilClosed: true, bindSource: false }
  for (let seed = 1; seed <= times(2, 50); seed++) {
    const world = await World.begin({ seed, keys: [serverKey(1, rights)] })
    const request = { ...requestOf(below(world, 60_000)), address: USER }
    const plain = encodeRequest(request)
    const sealed = seal(KEY, WINDOW, plain)
    const bits = Array.from({ length: 8 * sealed.length }, (_, bit) => sealed.with(bit >> 3, sealed[bit >> 3] ^ (1 << (bit & 7))))
    const altered = TARGETS.map((target) => {
      const wanted = encodeRequest({ ...request, ...target })
      return sealed.map((byte, i) => (i < 16 ? byte : byte ^ plain[i - 16] ^ wanted[i - 16]))
    })
    // Also V of one knock with the request's bytes of another of the same user.
    const second = seal(KEY, WINDOW, encodeRequest({ ...request, ...TARGETS[0] }))
    const mixed = [...sealed.subarray(0, 16), ...second.subarray(16)]
    for (const [n, forged] of [...bits, ...altered, Uint8Array.from(mixed)].entries())
      await tally.attack(world, () => send(world, portsOf(forged), addressOf(n)), null)
    tally.promise(world.rules.size === 0, 'the firewall has been changed')
    await tally.knock(world, () => send(world, portsOf(sealed), USER))
  }
  return tally
}

/**
 * A listener has heard too few symbols of a knock to open it, and guesses the rest; they are given the pages. With 24 of 28 a try has one chance
 * in 2^32, with 27 one in 256: what opens then is the user's own request, of which the listener has heard nearly all.
 */
async function truncated({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  const world = await World.begin()
  const word = encode(seal(KEY, WINDOW, encodeRequest(requestOf(1))), WHOLE)
  const pages = Array.from({ length: WHOLE }, (_, page) => page)
  const most = 24
  for (let n = 0, count = times(100_000, 1_000_000); n < count; n++) {
    const places = Uint8Array.from(anyOf(world, pages, ENOUGH))
    const known = n % (most + 1)
    const symbols = places.map((page, i) => (i < known ? word[page] : below(world, 256)))
    tally.tried++
    if (open(KEY, WINDOW, places, symbols, ENOUGH)) tally.opened++
  }
  tally.note = `0 to ${most} of ${ENOUGH} symbols heard, the others random`
  return tally
}

/** The same as packets: the rendezvous and some of the symbols, and random ports of the pool. */
async function truncatedTaps({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  const world = await World.begin()
  let knock: number[] = []
  for (let n = 0; n < times(200, 20_000); n++) {
    if (n % 200 === 0) knock = world.compose()
    const known = knock.slice(0, RENDEZVOUS + (n % 25))
    await tally.attack(world, () => send(world, [...known, ...anyOf(world, KEY.pool, 28 + (n % 40))], addressOf(n)), null)
  }
  await tally.knock(world, () => send(world, knock, USER))
  return tally
}

/** The sealed bytes of a spent knock are sent in the codebook of another accepted window: they are sealed for their own. */
async function inOtherBook({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  const books = [-1, 1].map((step) => codebook(KEY, WINDOW + step))
  for (let n = 1; n <= times(30, 300); n++) {
    const world = await World.begin({ seed: n })
    const sealed = seal(KEY, WINDOW, encodeRequest(requestOf(60_000 + n)))
    await tally.knock(world, () => send(world, portsOf(sealed), USER))
    for (const book of books)
      for (const source of [ATTACKER, USER]) await tally.attack(world, () => send(world, portsOf(sealed, book), source), null)
    await world.pass(12_000)
    await tally.knock(world)
  }
  return tally
}

/** One part of a knock is sent to one address of the server, the rest to another: neither is a knock until one address has received all of it. */
async function atTwoAddresses({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  const addresses = [SERVER, '198.51.100.9']
  const half = (RENDEZVOUS + WHOLE) / 2
  const splits: ((i: number) => number)[] = [
    (i) => Number(i >= half),
    (i) => i & 1,
    (i) => (i < RENDEZVOUS ? i & 1 : (i >> 1) & 1),
    (i) => Number(i >= RENDEZVOUS),
  ]
  for (let seed = 1; seed <= times(10, 100); seed++) {
    for (const split of splits) {
      const world = await World.begin({ seed })
      const ports = world.compose()
      const parts = addresses.map((destination, at) => ({ destination, ports: ports.filter((_, i) => split(i) === at) }))
      const inTurn = async () => {
        for (const { destination, ports } of parts) await world.taps(ports, { source: USER, destination })
        await world.pass(200)
      }
      const mixed = async () => {
        for (const [i, port] of ports.entries()) world.tap(port, { destination: addresses[split(i)] })
        await world.pass(200)
      }
      for (const say of [inTurn, mixed]) await tally.attack(world, say, null)
      await tally.knock(world, () => send(world, ports, USER))
    }
  }
  return tally
}

/** The listener lacks one symbol of a knock that has arrived, and sends all that it can be: the completed knock is spent. */
async function completed(): Promise<Outcome> {
  const tally = new Tally()
  const world = await World.begin()
  const knock = world.compose()
  await tally.knock(world, () => send(world, knock, USER))
  const heard = knock.slice(0, RENDEZVOUS + ENOUGH - 1)
  for (let byte = 0; byte < PAGE; byte++)
    await tally.attack(world, () => send(world, [...heard, symbolPort(BOOK, ENOUGH - 1, byte)], addressOf(byte)))
  tally.promise(tally.said.replayed === 1, `expected "replayed" once in the log, got it ${tally.said.replayed ?? 0} times`)
  return tally
}

/** Knocks of keys that the server does not have. */
const strangers =
  (keyFor: (n: number) => Key) =>
  async ({ times }: Scale): Promise<Outcome> => {
    const tally = new Tally()
    const world = await World.begin()
    for (let n = 0; n < times(200, 5_000); n++)
      await tally.attack(world, () => send(world, world.compose({}, keyFor(n)), addressOf(n)), null)
    await tally.knock(world)
    return tally
  }

const LABELS = [
  'other.example',
  'Door.example',
  'door.example.',
  ' door.example',
  'door.example ',
  'door',
  'door.exampl\u0435',
  '',
]
const otherLabel = (n: number): Key => {
  const { secret, period, pool } = KEY
  return deriveKey({ secret, server: LABELS[n % LABELS.length], period, pool })
}

/** Another key's knock opens; then the user's key loses its rights, and its knocks open nothing more, from any address. */
const withoutRight =
  (says: Refusal | null, lose: (world: World, key: ServerKey) => Promise<void>) =>
  async ({ times }: Scale): Promise<Outcome> => {
    const tally = new Tally()
    for (let seed = 1; seed <= times(20, 200); seed++) {
      const [key, other] = [serverKey(1), serverKey(2)]
      const world = await World.begin({ seed, keys: [key, other] })
      await tally.knock(world)
      await lose(world, key)
      await world.pass(500)
      tally.promise(world.rules.size === 0, 'a lease has outlived its key')
      await tally.attack(world, () => send(world, world.compose({}, key.key), USER), says)
      await tally.attack(world, () => send(world, world.compose({}, key.key)), says)
      await tally.knock(world, () => send(world, world.compose({}, other.key), USER))
    }
    return tally
  }

/** The key is revoked while the ledger is being written: what is not yet open does not open. */
async function revokedMeanwhile({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  for (let seed = 1; seed <= times(20, 200); seed++) {
    const [key, other] = [serverKey(1), serverKey(2)]
    const world = await World.begin({ seed, keys: [key, other] })
    for (const gone of [[other], [{ ...key, revoked: world.wall }, other]]) {
      await tally.attack(
        world,
        async () => {
          world.disk.slow = true
          for (const port of world.compose({}, key.key)) world.tap(port)
          await world.setKeys(gone)
          world.disk.slow = false
          world.disk.sync()
          await world.pass(200)
        },
        'revoked',
      )
      await world.setKeys([key, other])
    }
    await tally.knock(world, () => send(world, world.compose({}, other.key), USER))
  }
  return tally
}

/** What has been done to a key's file, from which the daemon reads its keys again: at once, and `wait` milliseconds later. */
interface Spoiled {
  readonly spoil: (folder: string, path: string, text: string) => unknown
  readonly says: Refusal | null
  readonly wait?: number
}

/** The file of a user's key, whose door is open, is changed: the door closes, and nothing more opens. Another key still opens. */
async function withFile({ spoil, says, wait = 0 }: Spoiled, tally: Tally): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'knockturn-attack-'))
  try {
    const texts = [1, 2].map((n) => formatKeyFile({ ...serverKey(n), created: 0, host: null }))
    const paths = [1, 2].map((n) => join(folder, `user${n}.key`))
    for (const [i, path] of paths.entries()) writeFileSync(path, texts[i], { mode: 0o600 })
    const first = await loadServerKeys(folder, KEY.server)
    const world = await World.begin({ keys: first.keys })
    await tally.knock(world)
    await spoil(folder, paths[0], texts[0])
    const again = await loadServerKeys(folder, KEY.server, { before: first, now: world.steady })
    await world.setKeys(again.keys)
    await world.pass(wait)
    if (wait > 0) {
      tally.promise(world.isOpen(), 'the door is closed before the time for a faulty file has ended')
      await world.setKeys((await loadServerKeys(folder, KEY.server, { before: again, now: world.steady })).keys)
    }
    await world.pass(500)
    tally.promise(world.rules.size === 0, 'a lease has outlived its key')
    for (const source of [USER, ATTACKER]) await tally.attack(world, () => send(world, world.compose({}, KEY), source), says)
    await tally.knock(world, () => send(world, world.compose({}, keyOf(2)), USER))
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** Every way in which a file can contain the word "revoked" and be no valid key file. */
async function revokedInSomeWay(): Promise<Outcome> {
  const tally = new Tally()
  for (const form of Object.values(revocations))
    await withFile({ spoil: (_, path, text) => writeFileSync(path, form(text)), says: 'revoked' }, tally)
  tally.note = `${Object.keys(revocations).length} forms of the file`
  return tally
}

/** `knockturn key revoke` on files of the maximum length, or nearly. */
async function revokedAtTheLimit(): Promise<Outcome> {
  const tally = new Tally()
  for (const room of [0, 1, 30, 31]) {
    const spoil = async (folder: string, path: string, text: string) => {
      writeFileSync(path, text.padEnd(MAX_KEY_FILE - room, '\n'))
      await revokeKey(folder, 'user1', MIDDLE * 1_000)
    }
    await withFile({ spoil, says: 'revoked' }, tally)
  }
  return tally
}

/** Files that are not valid and not marked as revoked: too long a file counts at once, the others after ten seconds. */
async function spoiledFiles(): Promise<Outcome> {
  const tally = new Tally()
  const long = (_: string, path: string, text: string) => writeFileSync(path, text.padEnd(MAX_KEY_FILE + 1, '\n'))
  await withFile({ spoil: long, says: null }, tally)
  const spoils: Spoiled['spoil'][] = [
    (_, path, text) => writeFileSync(path, `${text}[[[`),
    (_, path, text) => writeFileSync(path, text.slice(0, text.length / 2)),
    (_, path) => writeFileSync(path, ''),
    (_, path) => writeFileSync(path, Uint8Array.of(0xff)),
    (_, path) => chmodSync(path, 0o644),
  ]
  for (const spoil of spoils) await withFile({ spoil, says: null, wait: 10_000 }, tally)
  return tally
}

/** Two key files contain the same secret, another has another label: the daemon's own loader takes none of them, and reports it. */
async function doubled(): Promise<Outcome> {
  const tally = new Tally()
  const folder = mkdtempSync(join(tmpdir(), 'knockturn-attack-'))
  try {
    const file = (key: ServerKey) => ({ ...key, created: 0, host: null })
    const elsewhere = deriveKey({ ...keyOf(3), server: 'other.example' })
    const generous = serverKey(1, { services: [{ port: 1, protocol: 'tcp' }], bindSource: false })
    for (const key of [serverKey(1), { ...generous, id: 'twin' }, serverKey(2), { ...serverKey(3), key: elsewhere }])
      writeFileSync(join(folder, `${key.id}.key`), formatKeyFile(file(key)), { mode: 0o600 })
    const { keys, faults } = await loadServerKeys(folder, KEY.server)
    const world = await World.begin({ keys })
    for (const key of [KEY, keyOf(3), elsewhere])
      for (const port of [22, 1, 0]) await tally.attack(world, () => send(world, world.compose({ port }, key)), null)
    await tally.knock(world, () => world.knock({ key: keys[0].key }))
    tally.promise(keys.map(({ id }) => id).join() === 'user2', `expected the keys user2, got ${keys.map(({ id }) => id)}`)
    tally.note = faults.map(({ message }) => message.replaceAll(`${folder}/`, '')).join('; ')
  } finally {
    rmSync(folder, { recursive: true })
  }
  return tally
}

/** The holder of a key that may do everything sends what no client sends: every first byte of a request, and requests of other lengths. */
async function reserved(): Promise<Outcome> {
  const tally = new Tally()
  const world = await World.begin({ keys: [serverKey(1, { lock: true, allowUntilClosed: true, bindSource: false })] })
  const plain = encodeRequest({ ...requestOf(1), address: '203.0.113.9' })
  let valid = 0
  for (let head = 0; head < 256; head++) {
    const bytes = plain.with(0, head)
    const isMeant = head >> 6 === 1 && ((head >> 4) & 3) < 3 && ((head >> 2) & 3) < 3 && (head & 1) === 0
    if (isMeant) valid++
    else await tally.attack(world, () => send(world, portsOf(seal(KEY, WINDOW, bytes)), addressOf(head)), null)
  }
  for (let length = 1; length <= 30; length++) {
    if (length === 12 || length === 24) continue
    const bytes = Uint8Array.from({ length }, (_, i) => plain[i % plain.length])
    await tally.attack(world, () => send(world, portsOf(seal(KEY, WINDOW, bytes)), addressOf(256 + length)), null)
  }
  tally.promise(world.rules.size === 0, 'the firewall has been changed')
  await tally.knock(world, () => send(world, portsOf(seal(KEY, WINDOW, plain)), USER))
  tally.note = `${256 - valid} of 256 first bytes, and 28 lengths`
  return tally
}

export const attacks: Attack[] = [
  {
    kind: 'forgery',
    name: 'one symbol changed',
    what: 'The attacker changes one symbol of a knock of 28: every place and every byte of it, and some of them as packets.',
    run: oneSymbol,
  },
  {
    kind: 'forgery',
    name: 'two knocks spliced, of one key',
    what: 'A listener sends a part of one spent knock and the rest of another: at every cut, by turns, and at random.',
    run: spliced((world) => world.compose()),
  },
  {
    kind: 'forgery',
    name: 'two knocks spliced, of two keys',
    what: "A listener sends a part of one user's spent knock and the rest of another user's.",
    run: spliced((world) => world.compose({}, world.keys[1].key)),
  },
  {
    kind: 'forgery',
    name: 'two knocks spliced, of two windows',
    what: 'A listener sends a part of a spent knock and the rest of another, from the window before.',
    run: spliced((world) => world.compose({}, undefined, WINDOW - 1)),
  },
  {
    kind: 'forgery',
    name: 'two knocks spliced, symbol by symbol',
    what: 'An attacker who is given the codebook mixes the symbols of two knocks at random, to make a third.',
    run: splicedSymbols,
  },
  {
    kind: 'forgery',
    name: 'a retargeted request',
    what: 'An attacker who is given the codebook and the request changes encrypted bytes: another address, port, lifetime, action, any bit.',
    run: retargeted,
  },
  {
    kind: 'forgery',
    name: 'a truncated knock with random symbols',
    what: 'A listener has heard too few symbols of a knock that did not arrive and guesses the rest; they are given its pages.',
    run: truncated,
  },
  {
    kind: 'forgery',
    name: 'a truncated knock with random packets',
    what: 'A listener sends the rendezvous ports and some symbols of a knock that did not arrive, and random ports, each try from its own address.',
    run: truncatedTaps,
  },
  {
    kind: 'forgery',
    name: 'a spent knock completed',
    what: 'A listener lacks one symbol of a knock that has arrived, and sends all 256 that it can be.',
    run: completed,
  },
  {
    kind: 'forgery',
    name: 'a spent knock in the codebook of another window',
    what: 'An attacker who has the codebooks, but not the seal, sends what was sealed for one window on the ports of the windows beside it.',
    run: inOtherBook,
  },
  {
    kind: 'forgery',
    name: 'half a knock at each of two addresses',
    what: 'A part of a knock is sent to one address of the server and the rest to another: only taps to one destination count together.',
    run: atTwoAddresses,
  },
  {
    kind: 'forgery',
    name: 'keys of another server label',
    what: "A user's knocks for another server are sent here, with the same secret; or with a label that looks the same.",
    run: strangers(otherLabel),
  },
  {
    kind: 'forgery',
    name: 'guessed keys',
    what: 'The attacker guesses secrets and knocks with them.',
    run: strangers((n) => keyOf(100_000 + n)),
  },
  {
    kind: 'forgery',
    name: 'a revoked key',
    what: 'Someone goes on knocking with a key that has been revoked.',
    run: withoutRight('revoked', (world, key) => world.setKeys([{ ...key, revoked: world.wall }, world.keys[1]])),
  },
  {
    kind: 'forgery',
    name: 'a key revoked in an invalid key file',
    what: 'Someone goes on knocking with a key whose file says that it is revoked, but has the wrong encoding, form or length for a key file.',
    run: revokedInSomeWay,
  },
  {
    kind: 'forgery',
    name: 'a key revoked in a file of the maximum length',
    what: 'Someone goes on knocking with a key whose file became too long when it was revoked.',
    run: revokedAtTheLimit,
  },
  {
    kind: 'forgery',
    name: 'a key whose file is faulty',
    what: 'Someone goes on knocking with a key whose file can be read and is faulty: this is allowed for ten seconds, because an editor may leave it so.',
    run: spoiledFiles,
  },
  {
    kind: 'forgery',
    name: 'an expired key',
    what: 'Someone goes on knocking with a key that expired while their door was open.',
    run: withoutRight('revoked', async (world, key) => {
      await world.setKeys([{ ...key, expires: MIDDLE * 1000 + 5_000 }, world.keys[1]])
      await world.pass(6_000)
    }),
  },
  {
    kind: 'forgery',
    name: 'a removed key',
    what: 'Someone goes on knocking with a key whose file has been removed.',
    run: withoutRight(null, (world) => world.setKeys([world.keys[1]])),
  },
  {
    kind: 'forgery',
    name: 'a key revoked while the ledger is written',
    what: 'Someone knocks with a key that is revoked or removed while their knock is being written to the disk.',
    run: revokedMeanwhile,
  },
  {
    kind: 'forgery',
    name: 'a duplicate key',
    what: 'The keyring contains a copy of a key with a wider grant, and a key of another server.',
    run: doubled,
  },
  {
    kind: 'forgery',
    name: 'reserved values',
    what: 'The holder of a key seals what no client sends: other versions, actions, protocols and lengths.',
    run: reserved,
  },
]
