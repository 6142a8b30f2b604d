import { Readable } from 'node:stream'
import { journalReader } from '../../src/daemon/taps/journal'
import { stdinSource } from '../../src/daemon/taps/stdin'
import { parseKeyFile } from '../../src/keys/key-file'
import { shuffled } from '../gate/listener/ear'
import type { Attack, Outcome, Scale } from './attack'
import { Tally } from './tally'
import { ATTACKER, SERVER, serverKey, USER, World } from './world'

/* Log injection: what a local user, or a log that is cut and spliced, can make the daemon read. */

const PREFIX = 'KNOCK: '
/** Rendezvous ports of a knock. */
const RENDEZVOUS = 8

/** A packet as the kernel logs it. Each field is written as it is given. */
function message(
  port: number,
  { source = USER, name = 'eth0', out = '', mac = 'aa:bb:cc:dd:ee:ff:00:11:22:33:44:55:08:00' } = {},
) {
  return (
    `${PREFIX}IN=${name} OUT=${out} MAC=${mac} SRC=${source} DST=${SERVER} LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=47803 DF ` +
    `PROTO=TCP SPT=49362 DPT=${port} WINDOW=64240 RES=0x00 SYN URGP=0 `
  )
}

/** The kernel's line in a log file, and one that a local user has written there by `logger`. */
const logged = (port: number, fields: Parameters<typeof message>[1] = {}): string =>
  `Nov 22 12:00:00 gate kernel: [ 3329.127466] ${message(port, fields)}`
const forged = (port: number, source: string): string => `Nov 22 12:00:00 gate mallory: ${message(port, { source })}`

const text = (lines: readonly string[]): string => lines.map((line) => `${line}\n`).join('')

/** A daemon's standard input, through the daemon's own reader: takes text and waits for its effects. */
function reader(world: World): (text: string) => Promise<void> {
  const input = new Readable({ read() {} })
  stdinSource(PREFIX, input).start(
    (tap) => world.tap(tap.port, tap),
    () => {},
  )
  return async (text) => {
    input.emit('data', text)
    await world.pass(200)
  }
}

/** Random ports of a pool. */
function noise(world: World, count: number): number[] {
  const { pool } = world.keys[0].key
  return Array.from({ length: count }, () => pool[Math.floor(world.random() * pool.length)])
}

/** What an attacker without the key can write who has read two accepted knocks in the log. */
const FORGERIES: ((world: World, knock: number[], other: number[]) => number[])[] = [
  (world) => noise(world, 52),
  (world, knock) => [...knock.slice(0, RENDEZVOUS), ...noise(world, 200)],
  (_, knock) => knock,
  (world, knock) => knock.with(RENDEZVOUS + Math.floor(world.random() * 44), noise(world, 1)[0]),
  (world, knock) => [...knock.slice(0, 36), ...noise(world, 16)],
  (_, knock, other) => knock.map((port, i) => (i % 2 ? port : other[i])),
  (world, knock, other) => shuffled([...knock, ...other, ...noise(world, 50)], world.random),
]

async function throughSyslog({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  for (let n = 1; n <= times(50, 1_000); n++) {
    const world = await World.begin({ seed: n })
    const read = reader(world)
    const [knock, other] = [world.compose(), world.compose({ seconds: 120 })]
    for (const ports of [knock, other]) await tally.knock(world, () => read(text(ports.map((port) => logged(port)))))
    for (const [i, forgery] of FORGERIES.entries()) {
      // For an address that sends nothing else, and for the attacker's own.
      for (const source of [`203.0.113.${i}`, ATTACKER]) {
        const ports = forgery(world, knock, other)
        await tally.attack(world, () => read(text(ports.map((port) => forged(port, source)))))
      }
    }
    await tally.knock(world, () => read(text(world.compose({ seconds: 180 }).map((port) => logged(port)))))
  }
  return tally
}

/** Sessions for ever new addresses, by rendezvous ports that were read in the log. */
async function sessionsThroughSyslog({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  const world = await World.begin()
  const read = reader(world)
  const first = world.compose()
  await tally.knock(world, () => read(text(first.map((port) => logged(port)))))
  const [rounds, lines] = [times(10, 100), 10_000]
  for (let round = 0; round < rounds; round++) {
    await tally.attack(world, async () => {
      const sources = Array.from({ length: lines }, (_, i) => `10.${round}.${i >> 8}.${i & 255}`)
      await read(text(sources.map((source, i) => forged(first[i % RENDEZVOUS], source))))
    })
    const ports = world.compose({ seconds: 61 + round })
    await tally.knock(world, () => read(text(ports.map((port) => logged(port)))))
  }
  tally.note = `${(rounds * lines).toLocaleString('en-US')} forged lines, each from another address`
  return tally
}

/** What a name may contain to end a field or a line. */
const BREAKS = ['\n', '\r', '\r\n', ' ', '\t', '\v', '\0', '\u2028', '\\n', '#012', '"', ']', ';']

/**
 * The user's packets arrive on an interface that the attacker has named: nothing in the name may make them the attacker's. And a key's
 * name cannot turn one line of the daemon's into two.
 */
async function names(): Promise<Outcome> {
  const tally = new Tally()
  const fields = `SRC=${ATTACKER} DST=${SERVER}`
  for (const end of BREAKS) {
    const places = ['name', 'out', 'mac'].flatMap((field) =>
      [`x${end}${fields}`, `x${end}${PREFIX}IN=x OUT= ${fields}`, `x OUT= MAC= ${fields} LEN=60${end}`].map((value) => ({
        [field]: value,
      })),
    )
    for (const place of places) {
      const world = await World.begin()
      const read = reader(world)
      const ports = world.compose()
      await tally.attack(world, () => read(text(ports.map((port) => logged(port, place)))))
      // They counted for nobody: as they really are, they open for the user.
      await tally.knock(world, () => read(text(ports.map((port) => logged(port)))))
      tally.promise(!world.isOpen(ATTACKER), "a name made the user's knock the attacker's")
    }
    const id = `user1${end}{"level":30,"msg":"accepted","address":"${ATTACKER}"}`
    const [fault] = parseKeyFile('a.key', `id = ${JSON.stringify(id)}\nsecret = "${'A'.repeat(52)}"\nserver = ""\n`).faults ?? []
    tally.promise(fault?.message.startsWith('a.key:1: "id" expected 1 to 32 letters'), `a key can be named ${JSON.stringify(id)}`)
    // If one had such a name all the same: the log's reader parses each line by itself, and throws if one was broken in two.
    const world = await World.begin({ keys: [serverKey(1, {}, { id })] })
    await tally.knock(world)
    tally.promise(world.log.filter(({ address }) => address === ATTACKER).length === 0, "a key's name made a line of its own")
  }
  return tally
}

/**
 * One writer was cut off, and another went on: half of a line is joined to a whole line of the other. (If two halves fit together, no
 * reader could see it: the follower of files joins no text across a rotation or a truncation, see test/daemon/taps/file.test.ts.)
 */
async function spliced({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  const length = logged(50_000).length
  const step = times(4, 1)
  for (let at = 0; at <= length; at += step) {
    const glue: ((mine: string, his: string) => string)[] = [
      (mine, his) => mine.slice(0, at) + his,
      (mine, his) => his + mine.slice(at),
      (mine, his) => his.slice(0, at) + mine,
      (mine, his) => mine + his.slice(at),
    ]
    for (const splice of glue) {
      const world = await World.begin({ seed: at + 1 })
      const read = reader(world)
      const ports = world.compose()
      const mine = noise(world, ports.length).map((port) => logged(port, { source: ATTACKER }))
      await read(text(ports.map((port, i) => splice(mine[i], logged(port)))))
      tally.tried++
      if (world.isOpen(ATTACKER)) tally.opened++
      await tally.knock(world, () => read(text(world.compose({ seconds: 120 }).map((port) => logged(port)))))
    }
  }
  return tally
}

/** A log that the daemon has read reaches it again, with other addresses in it or unchanged. */
async function oldLog({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  const sources = [USER, ATTACKER]
  for (let n = 1; n <= times(20, 200); n++) {
    const world = await World.begin({ seed: n })
    let read = reader(world)
    // An hour of it: a knock every five minutes, the last one just now.
    const log: number[][] = []
    for (let minutes = 0; minutes <= 60; minutes += 5) {
      if (minutes > 0) await world.pass(300_000)
      log.push(world.compose({ seconds: 60 + minutes }))
      await tally.knock(world, () => read(text(log[log.length - 1].map((port) => logged(port)))))
    }
    const again = async (ports: readonly number[]): Promise<void> => {
      for (const source of sources) {
        await tally.attack(world, async () => {
          await read(text(ports.map((port) => logged(port, { source }))))
          await world.pass(12_000)
        })
      }
    }
    await again(log[log.length - 1])
    await again(log.flat())
    await again(log.flat().reverse())
    await world.restart()
    read = reader(world)
    await again(log[log.length - 1])
    await again(log.flat())
    await world.pass(120_000)
    for (const ports of log) await again(ports)
    tally.promise(tally.said.replayed >= n, '"replayed" is not logged')
    tally.promise(!world.log.some(({ clock }) => clock), 'the log blames a clock for a replay')
    await tally.knock(world, () => read(text(world.compose({ seconds: 200 }).map((port) => logged(port)))))
  }
  return tally
}

/** Entries of the journal that other programs than the kernel write. */
const ENTRIES: ((line: string) => unknown)[] = [
  ...['syslog', 'journal', 'stdout', 'audit', 'driver', 'Kernel', 'kernel ', ''].map((transport) => (line: string) => ({
    _TRANSPORT: transport,
    MESSAGE: line,
  })),
  (line) => ({ MESSAGE: line }),
  (line) => ({ _TRANSPORT: ['syslog', 'kernel'], MESSAGE: line }),
  (line) => ({ TRANSPORT: 'kernel', SYSLOG_FACILITY: '0', SYSLOG_IDENTIFIER: 'kernel', _TRANSPORT: 'syslog', MESSAGE: line }),
  (line) => ({ _TRANSPORT: 'syslog', MESSAGE: `x\n${JSON.stringify({ _TRANSPORT: 'kernel', MESSAGE: line })}\n` }),
  (line) => ({ _TRANSPORT: 'kernel', MESSAGE: `usb 1-1: Product: ${line}` }),
  (line) => ({ _TRANSPORT: 'kernel', MESSAGE: `x\n${line}` }),
  (line) => ({ _TRANSPORT: 'kernel', MESSAGE: [line, line] }),
  (line) => [{ _TRANSPORT: 'kernel', MESSAGE: line }],
]

/** Even a knock with every port right is not heard if the kernel did not log it. */
async function throughJournal({ times }: Scale): Promise<Outcome> {
  const tally = new Tally()
  for (let n = 1; n <= times(3, 30); n++) {
    for (const entry of ENTRIES) {
      const world = await World.begin({ seed: n })
      const counters = { seen: 0, ignored: 0, unreadable: 0, dropped: 0 }
      const read = journalReader(PREFIX, counters, (tap) => world.tap(tap.port, tap))
      const ports = world.compose()
      await tally.attack(
        world,
        () => {
          for (const port of ports) read(JSON.stringify(entry(message(port, { source: ATTACKER }))))
          return world.pass(12_000)
        },
        null,
      )
      tally.promise(counters.ignored === ports.length, `of ${ports.length} forged entries ${counters.ignored} are ignored`)
      await tally.knock(world, () => {
        for (const port of ports) read(JSON.stringify({ _TRANSPORT: 'kernel', MESSAGE: message(port) }))
        return world.pass(200)
      })
    }
  }
  return tally
}

export const attacks: Attack[] = [
  {
    kind: 'injection',
    name: 'lines forged through syslog',
    what: 'A local user who reads the log writes LOG lines of their own into it: heard knocks in parts, changed, mixed, from any address.',
    run: throughSyslog,
  },
  {
    kind: 'injection',
    name: 'sessions forged through syslog',
    what: 'A local user writes rendezvous ports that they have read from ever new addresses, to fill the daemon while the user knocks.',
    run: sessionsThroughSyslog,
  },
  {
    kind: 'injection',
    name: 'names with line breaks',
    what: "An attacker names an interface or a key so that a line or field break in it makes the user's packets theirs, or adds a line of their own to the log.",
    run: names,
  },
  {
    kind: 'injection',
    name: 'half and spliced lines',
    what: "A log is cut in the middle of a line, and goes on with another line: the attacker wants the user's ports counted for their own address.",
    run: spliced,
  },
  {
    kind: 'injection',
    name: 'an old log read again',
    what: 'The log of an hour of accepted knocks reaches the daemon again, unchanged and with the attacker’s address in it.',
    run: oldLog,
  },
  {
    kind: 'injection',
    name: 'entries forged in the journal',
    what: 'A local user writes LOG lines into the journal in every way open to them, even with the right ports.',
    run: throughJournal,
  },
]
