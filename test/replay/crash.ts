import { mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openLedger } from '../../src/daemon/ledger/disk'
import { readLedger } from '../../src/daemon/ledger/record'
import type { Attack, Outcome, Scale } from './attack'
import { Tally } from './tally'
import { ATTACKER, USER, World } from './world'

/* Crash: the daemon is killed at every point between tap and rule, and its ledger is torn, cut, damaged, lost or cannot be written. */

/** Bytes of a ledger's first line. */
const HEADER = 36
/** Steps of the event loop between a synced claim and the log line: some ten. More than this would be an endless loop. */
const MAX_STEPS = 100
/** How long a daemon without a ledger opens nothing, in milliseconds: about a minute. */
const WAIT = 60_000

/** From where a knock is first replayed after the wait: a source that has sent a knock before is known for it. */
const lateOf = (knock: number): string => `203.0.113.${knock}`

/** Replays a knock a little later, so that another acceptance would make a lease longer and be seen. */
const play = async (world: World, ports: number[], source: string): Promise<void> => {
  await world.pass(1_100)
  await world.taps(ports, { source })
  await world.pass(1_000)
}

// ---- killed

/** Brings a daemon to some point between tap and rule, on a disk that syncs nothing by itself, and kills it there. */
type Moment = (world: World, ports: number[]) => Promise<void>

const hear = (world: World, ports: number[]): void => {
  for (const port of ports) world.tap(port)
}

/** Before all of the knock is heard; or, once it has been, when it is claimed and nothing of it is on the disk. */
const afterTaps =
  (count: number): Moment =>
  async (world, ports) => {
    hear(world, ports.slice(0, count))
    world.kill()
  }

/** When this many characters of its line are on the disk, because the kernel wrote them, and it is not synced. */
const whileWriting =
  (reached: number): Moment =>
  async (world, ports) => {
    hear(world, ports)
    world.kill(reached)
  }

/** This many steps after it is synced: before policy, before the firewall, in the middle of its change, before the log. */
const afterSync =
  (steps: number): Moment =>
  async (world, ports) => {
    hear(world, ports)
    world.disk.sync()
    for (let i = 0; i < steps; i++) await undefined
    world.kill()
  }

/** Every point between the first tap and the line in the log. */
async function everyMoment(): Promise<Moment[]> {
  const world = await World.begin()
  const ports = world.compose()
  world.disk.slow = true
  hear(world, ports)
  const line = world.disk.written.length
  world.disk.sync()
  let steps = 0
  while (world.said().accepted === undefined && steps < MAX_STEPS) {
    await undefined
    steps++
  }
  return [
    ...Array.from({ length: ports.length + 1 }, (_, count) => afterTaps(count)),
    ...Array.from({ length: line + 1 }, (_, reached) => whileWriting(reached)),
    ...Array.from({ length: steps + 1 }, (_, step) => afterSync(step)),
  ]
}

/** After a kill -9 and after a power cut. */
const RESTARTS = [(world: World) => world.start(), (world: World) => world.reboot()]

/** The daemon is killed with a user's knock; a listener replays the knock, and the user goes on. */
async function killed({ isLong }: Scale): Promise<Outcome> {
  const tally = new Tally()
  const moments = await everyMoment()
  const ends = { heard: 0, spent: 0, open: 0 }
  for (const [i, moment] of moments.entries()) {
    for (const [r, restart] of RESTARTS.entries()) {
      // When time is short they take turns.
      if (!isLong && (i + r) % RESTARTS.length !== 0) continue
      // If the request names an address, a listener cannot use it first, whatever the crash has lost.
      for (const request of [{}, { address: USER }]) {
        const world = await World.begin({ seed: i + 1 })
        const ports = world.compose(request)
        world.disk.slow = true
        await moment(world, ports)
        world.disk.slow = false
        const isOpen = world.openings.length > 0
        const isSpent = readLedger(world.disk.bytes).records.some(({ kind }) => kind === 'spent')
        ends[isOpen ? 'open' : isSpent ? 'spent' : 'heard']++
        tally.promise(isSpent || !isOpen, 'a door opened before its knock was on the disk')
        await restart(world)
        const isNamed = 'address' in request
        if (isSpent || isOpen || isNamed)
          await tally.attack(world, () => play(world, ports, ATTACKER), isNamed ? 'address-mismatch' : 'replayed')
        // A knock that had no effect is still the user's: the second pass opens.
        if (!isSpent && !isOpen) await tally.knock(world, () => play(world, ports, USER))
        for (const source of [USER, ATTACKER]) await tally.attack(world, () => play(world, ports, source))
        await world.pass(30_000)
        for (const source of [USER, ATTACKER]) await tally.attack(world, () => play(world, ports, source))
        await tally.knock(world)
      }
    }
  }
  for (const [how, count] of Object.entries(ends)) tally.promise(count > 0, `no daemon was killed when its knock was ${how}`)
  tally.note = `${moments.length} moments: killed ${ends.heard} times after the knock was heard, ${ends.spent} after it was spent, ${ends.open} with its door open`
  return tally
}

// ---- the ledger

/**
 * Replays every knock, from the attacker's address and from the user's, at once and after the wait.
 * Then the user knocks; if nothing is lost, they need not wait.
 */
async function playAll(tally: Tally, world: World, knocks: readonly number[][], isWhole: boolean): Promise<void> {
  if (isWhole) await tally.knock(world)
  for (const wait of [0, WAIT]) {
    await world.pass(wait)
    const since = world.log.length
    for (const [i, ports] of knocks.entries())
      for (const source of wait > 0 ? [lateOf(i), ATTACKER, USER] : [ATTACKER, USER])
        await tally.attack(world, () => world.taps(ports, { source }).then(() => world.pass(60)))
    // A knock whose window has passed by now is logged when its session has ended.
    if (wait > 0) await world.pass(12_000)
    const { replayed = 0, stale = 0 } = world.said(since)
    tally.promise(replayed + stale >= knocks.length, `nothing was logged for a knock that was replayed after ${wait} ms`)
  }
  await tally.knock(world)
}

/** Every way in which writing one more line may end, with and without its new header. */
function* tears(before: Buffer, after: Buffer): Generator<Buffer> {
  for (const header of [before, after].map((bytes) => bytes.subarray(0, HEADER))) {
    for (let end = before.length; end <= after.length; end++) {
      const written = Buffer.concat([header, after.subarray(HEADER, end)])
      yield written
      // The file has its new length, and its last blocks have not been written.
      yield Buffer.concat([written, Buffer.alloc(after.length - end)])
    }
  }
  for (let at = 0; at <= HEADER; at++) {
    const header = Buffer.concat([after.subarray(0, at), before.subarray(at, HEADER)])
    for (const end of [before.length, after.length]) yield Buffer.concat([header, after.subarray(HEADER, end)])
  }
}

/** The power is cut while a second knock is written: the first, whose door is open, stays spent, however the second is torn. */
async function torn({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  const world = await World.begin()
  const [first, second] = [world.compose({ seconds: 90 }), world.compose({ seconds: 120 })]
  await tally.knock(world, () => world.taps(first))
  const before = world.disk.bytes
  await tally.knock(world, () => world.taps(second))
  return eachSpoiled(tally, [first], [...tears(before, world.disk.bytes)], times(3, 1))
}

/** A server's ledger that contains a knock of every accepted window. */
async function accepted(tally: Tally): Promise<{ knocks: number[][]; bytes: Buffer }> {
  const world = await World.begin()
  const knocks = [-1, 0, 1].map((step, i) => world.compose({ seconds: 90 + i }, world.keys[0].key, world.window() + step))
  for (const ports of knocks) await tally.knock(world, () => world.taps(ports))
  return { knocks, bytes: world.disk.bytes }
}

/** A daemon starts with each of these as its ledger (null: with none), and every accepted knock is replayed to it. */
async function eachSpoiled(tally: Tally, knocks: number[][], variants: (Buffer | null)[], step = 1): Promise<Outcome> {
  for (let i = 0; i < variants.length; i += step) {
    const bytes = variants[i]
    const world = await World.begin()
    world.kill()
    if (bytes) world.disk.bytes = bytes
    else world.disk.delete()
    await world.start()
    await playAll(tally, world, knocks, bytes !== null && readLedger(bytes).state === 'whole')
  }
  return tally
}

async function cut({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  const { knocks, bytes } = await accepted(tally)
  return eachSpoiled(tally, knocks, everyCut(bytes), times(3, 1))
}

async function flipped({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  const { knocks, bytes } = await accepted(tally)
  return eachSpoiled(tally, knocks, everyFlip(bytes), times(23, 1))
}

const everyCut = (bytes: Buffer): Buffer[] => [...bytes.keys()].map((length) => bytes.subarray(0, length))

function everyFlip(bytes: Buffer): Buffer[] {
  return Array.from({ length: 8 * bytes.length }, (_, bit) => {
    const spoiled = Buffer.from(bytes)
    spoiled[bit >> 3] ^= 1 << (bit & 7)
    return spoiled
  })
}

/** No ledger, an empty one, and other files in its place. */
async function lost(): Promise<Outcome> {
  const tally = new Tally()
  const { knocks, bytes } = await accepted(tally)
  const headless = bytes.subarray(HEADER)
  const texts = ['', '\n', '\0'.repeat(bytes.length), 'knockturn-ledger 2 0000000000000036\n', '{"knocks":[]}\n']
  return eachSpoiled(tally, knocks, [null, headless, ...texts.map((text) => Buffer.from(text))])
}

// ---- a file on a disk

/** Runs in a folder of its own. */
async function inFolder<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'knockturn-crash-'))
  try {
    return await work(folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** Starts a daemon with a ledger in a file, as knockdaemon does. @returns its warnings, and how to end it */
async function startOnFile(world: World, path: string): Promise<{ warnings: string[]; end: () => Promise<void> }> {
  const warnings: string[] = []
  const { ledger, disk } = await openLedger(path, world.skew, world.wall, false, (message) => {
    // The test's folder may be on tmpfs, which is not the ledger's fault.
    if (!message.includes('tmpfs')) warnings.push(message)
  })
  await world.start(false, ledger)
  const end = async (): Promise<void> => {
    world.kill()
    await disk.close()
  }
  return { warnings, end }
}

/** What the daemon's own file code does with a damaged ledger: it reports it in one line, and keeps the damaged file. */
function spoiledFile({ times }: Scale): Promise<Outcome> {
  return inFolder(async (folder) => {
    const tally = new Tally()
    const { knocks, bytes } = await accepted(tally)
    const path = join(folder, 'ledger')
    const variants = [...everyCut(bytes), ...everyFlip(bytes)]
    const step = times(151, 7)
    for (let i = 0; i < variants.length; i += step) {
      writeFileSync(path, variants[i], { mode: 0o600 })
      const isWhole = readLedger(variants[i]).state === 'whole'
      const world = await World.begin()
      world.kill()
      const { warnings, end } = await startOnFile(world, path)
      const isTold = warnings.length === 1 && warnings[0].startsWith(`${path}: the ledger is damaged: no knock opens anything`)
      tally.promise(isWhole ? warnings.length === 0 : isTold, `warnings about a damaged ledger: ${warnings.join('; ')}`)
      tally.promise(isWhole || readFileSync(`${path}.damaged`).equals(variants[i]), 'the damaged ledger is not kept')
      await playAll(tally, world, knocks, isWhole)
      await end()
    }
    return tally
  })
}

/**
 * A ledger that cannot be written: what it has accepted stays spent. What is sent meanwhile opens nothing, is logged, and stays spent
 * when the disk works again. (A folder where the new file should go: that stops root as well. Full and read-only disks: hosts-crash.ts.)
 */
function stuckFile({ times }: Scale): Promise<Outcome> {
  return inFolder(async (folder) => {
    const tally = new Tally()
    for (let n = 1; n <= times(10, 100); n++) {
      const path = join(folder, `ledger-${n}`)
      const world = await World.begin({ seed: n })
      const [before, meanwhile] = [world.compose(), world.compose()]
      await tally.knock(world, () => world.taps(before))
      writeFileSync(path, world.disk.bytes, { mode: 0o600 })
      mkdirSync(`${path}.new`)
      world.kill()
      const first = await startOnFile(world, path)
      await tally.attack(world, () => play(world, before, ATTACKER), 'replayed')
      await tally.attack(world, () => play(world, meanwhile, USER), 'ledger-unavailable')
      await tally.attack(world, () => play(world, meanwhile, ATTACKER), 'replayed')
      rmdirSync(`${path}.new`)
      for (const source of [ATTACKER, USER]) await tally.attack(world, () => play(world, meanwhile, source))
      await tally.knock(world)
      await first.end()
      const last = await startOnFile(world, path)
      for (const ports of [before, meanwhile]) await tally.attack(world, () => play(world, ports, ATTACKER), 'replayed')
      await tally.knock(world)
      await last.end()
      const told = [...first.warnings, ...last.warnings].map((line) => line.replace(`${path}: `, '').replace(/:.*/, ''))
      const expected = ['cannot write the ledger, nothing opens until this works again', 'the ledger is writable again']
      tally.promise(told.join() === expected.join(), `warnings about a ledger that cannot be written: ${told.join('; ')}`)
    }
    return tally
  })
}

/** A disk that refuses writes, for whatever reason, under a running daemon. Real disks that are full or read-only are in hosts-crash.ts. */
async function failing({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  for (let n = 1; n <= times(30, 300); n++) {
    const world = await World.begin({ seed: n })
    const [before, meanwhile] = [world.compose(), world.compose()]
    await tally.knock(world, () => world.taps(before))
    world.disk.fault = new Error('EIO: i/o error, write')
    await tally.attack(world, () => play(world, before, ATTACKER), 'replayed')
    await tally.attack(world, () => play(world, meanwhile, USER), 'ledger-unavailable')
    // Every knock fails in the same way: that is logged once for each key.
    await tally.attack(world, () => play(world, world.compose(), USER), null)
    await tally.attack(world, () => play(world, meanwhile, ATTACKER), 'replayed')
    world.disk.fault = null
    for (const ports of [before, meanwhile])
      for (const source of [ATTACKER, USER]) await tally.attack(world, () => play(world, ports, source))
    await tally.knock(world)
    world.kill()
    await world.start()
    await tally.attack(world, () => play(world, before, ATTACKER), 'replayed')
    await tally.knock(world)
  }
  return tally
}

export const attacks: Attack[] = [
  {
    kind: 'crash',
    name: 'a crash between tap and rule',
    what: 'A listener replays a knock to a daemon that was killed while it received, recorded or enforced it: it opens twice for nobody.',
    run: killed,
  },
  {
    kind: 'crash',
    name: 'a ledger torn by a crash',
    what: 'A listener replays a knock that was accepted just before the power was cut while the next line was being written.',
    run: torn,
  },
  {
    kind: 'crash',
    name: 'a ledger cut anywhere',
    what: 'A listener replays every knock of the last windows to a daemon whose ledger has been cut off somewhere.',
    run: cut,
  },
  {
    kind: 'crash',
    name: 'a ledger with a bit flipped',
    what: 'A listener replays every knock of the last windows to a daemon in whose ledger the disk has flipped a bit.',
    run: flipped,
  },
  {
    kind: 'crash',
    name: 'a lost ledger',
    what: 'A listener replays every knock of the last windows to a daemon that finds no ledger, an empty one or some other file.',
    run: lost,
  },
  {
    kind: 'crash',
    name: 'a damaged ledger in a file',
    what: 'A listener replays every knock of the last windows to a daemon that reads its cut or flipped ledger from a disk.',
    run: spoiledFile,
  },
  {
    kind: 'crash',
    name: 'a ledger that cannot be written',
    what: 'A listener replays what was sent before, while and after the ledger could not be written.',
    run: stuckFile,
  },
  {
    kind: 'crash',
    name: 'a disk that refuses writes',
    what: 'A listener replays what was sent before, while and after the disk under the ledger refused writes.',
    run: failing,
  },
]
