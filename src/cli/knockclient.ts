import { existsSync } from 'node:fs'
import { isIP } from 'node:net'
import { type Command, Option } from 'commander'
import { knock, knockUntilOpen, prepare, type Sending, type Sequence, upToDate } from '../client'
import { forbidCoreDumps } from '../host/core-dumps'
import { Fault, UsageFault } from '../host/fault'
import { KEY_ID, type KeyFile } from '../host/key-file'
import { clientKeys, findKey as findKeyById, loadKeyFile, readKeyring } from '../host/keyring'
import { parseLifetime } from '../host/time'
import { resolveHost } from '../host/transport'
import { canonicalAddress, isZeroAddress } from '../protocol/address'
import { MAX_PARITY, PARITY } from '../protocol/knock'
import type { Action, Protocol } from '../protocol/request'
import { program, reading, whole } from './options'
import { complain, EXIT, runProgram, warnOf } from './voice'

const NAME = 'knockclient'
const DEFAULT_SECONDS = 5 * 60
/** A knock must fit into the 10 s for which the daemon remembers a tap (docs/protocol.md, "Sending"). */
const MAX_KNOCK_MS = 10_000
const MAX_PASSES = 10
const DEFAULT_WAIT = '30'
const MAX_WAIT = 3_600
/** What `-t` says: the 2003 article's flag, or a duration. */
const TIME_RULE =
  '0 (until closed), 1 to 254 minutes, 255 (close), or a duration with a unit such as 90s, 15m, 1h30m (at most 2^24-1 s)'
const CLOSE_FLAG = 'close'
/** "The address that you see me come from", of any family. */
const AS_SEEN = '0.0.0.0'

interface Options {
  r?: string
  i?: string
  p?: number
  t?: number | typeof CLOSE_FLAG
  k?: string
  close?: boolean
  lock?: boolean
  once?: boolean
  protocol: Protocol
  4?: boolean
  6?: boolean
  udp?: boolean
  pace: number
  passes: number
  parity: number
  quiet?: boolean
  v?: boolean
  timeOffset: number
  dryRun?: boolean
  json?: boolean
  wait?: number
}

const command: Command = program(
  NAME,
  'Knocks at a server: one burst of connection attempts that says, to those who share the key, which port to open for whom.',
  `${NAME} -r gate.example -p 22 -t 15 && ssh gate.example`,
)
  .option('-r <host>', "the server (default: the key's host)")
  .addOption(
    reading(
      '-i <address>',
      'the address to open for (default: the one that the server sees)',
      canonicalAddress,
      'an IPv4 or IPv6 address',
    ),
  )
  .addOption(reading('-p <port>', 'the port to open; 0: all that the key grants', whole(0, 65535), 'a port from 0 to 65535'))
  .addOption(reading('-t <time>', `how long: ${TIME_RULE} (default: 5m)`, readTime, TIME_RULE))
  .option('-k <key>', "the key: its file, or its name in the client's keyring (default: the only one there)")
  .option('--close', "close the key's leases for the address and port (all ports without -p)")
  .option('--lock', "close the key's leases for the address and have its knocks ignored for the time of -t")
  .option('--once', 'open for one connection only')
  .addOption(new Option('--protocol <name>', 'tcp, udp or any').choices(['tcp', 'udp', 'any']).default('any'))
  .option('-4', 'knock by IPv4')
  .option('-6', 'knock by IPv6')
  .option('--udp', 'knock by UDP instead of TCP')
  .addOption(reading('--pace <ms>', 'milliseconds between two ports', whole(0, MAX_KNOCK_MS), 'milliseconds').default(0))
  .addOption(
    reading('--passes <n>', 'how often to send the knock', whole(1, MAX_PASSES), `a number from 1 to ${MAX_PASSES}`).default(2),
  )
  .addOption(
    reading(
      '--parity <n>',
      'ports beyond those needed: more stand more loss',
      whole(0, MAX_PARITY),
      `a number from 0 to ${MAX_PARITY}`,
    ).default(PARITY),
  )
  .option('--quiet', 'say nothing but errors')
  .option('-v', 'say more')
  .addOption(
    reading(
      '--time-offset <seconds>',
      "what to add to this machine's clock",
      readOffset,
      'whole seconds, such as 90 or -3600',
    ).default(0),
  )
  .option('--dry-run', 'send and resolve nothing; print the ports of one knock')
  .option('--json', 'with --dry-run: print as JSON')
  .addOption(
    reading('--wait [seconds]', 'knock until the service answers', whole(1, MAX_WAIT), `seconds from 1 to ${MAX_WAIT}`).preset(
      DEFAULT_WAIT,
    ),
  )

runProgram(NAME, async () => {
  const started = performance.now()
  const options = command.parse().opts<Options>()
  const { action, seconds } = checkOptions(options)
  forbidCoreDumps((message) => options.quiet || warnOf(NAME, message))
  const key = await findKey(options.k)
  const sending: Sending = {
    key: key.key,
    request: {
      action,
      protocol: options.protocol,
      once: options.once ?? false,
      port: options.p ?? 0,
      seconds,
      address: options.i ?? AS_SEEN,
    },
    parity: options.parity,
    udp: options.udp ?? false,
    pace: options.pace,
    passes: options.passes,
    timeOffset: options.timeOffset,
    random: Math.random,
  }
  const draft = checkPace(prepare(sending, Date.now()), options.pace)
  if (options.dryRun) return printSequence(draft, options.json ?? false)

  const host = options.r ?? key.host
  if (!host) throw new UsageFault('-r expected: the key names no host, so say which server to knock at')
  const address = await resolveHost(host, options[4] ? 4 : options[6] ? 6 : 0, familyOf(options.i))
  // A slow resolver must not age the window.
  const sequence = upToDate(sending, draft, Date.now())
  const say = speaker(options, started)
  // The packets first: it takes longer to find the words for them.
  if (say) setImmediate(async () => say(`${await describe(sending, host, address)}, with key ${key.id}`))
  const told = (pass: number) => {
    if (pass === 1 || options.v) say?.(`sent ${sequence.ports.length} ports by ${options.udp ? 'UDP' : 'TCP'}, pass ${pass}`)
  }
  if (options.wait === undefined) {
    await knock(sending, address, sequence, told)
    return EXIT.ok
  }
  const port = options.p as number
  const open = await knockUntilOpen(sending, address, sequence, port, options.wait * 1000, told)
  if (!open) {
    const hints =
      "is the service running, are both clocks right, does the key grant it (the server's log tells), is -4 or -6 the way to it?"
    complain(NAME, `${host} (${address}) port ${port} has not answered within ${options.wait} s: ${hints}`)
    return EXIT.timeLimit
  }
  say?.(`${host} port ${port} is open`)
  return EXIT.ok
})

function checkPace(sequence: Sequence, pace: number): Sequence {
  const { length } = sequence.ports
  if (length * pace <= MAX_KNOCK_MS) return sequence
  throw new UsageFault(
    `--pace expected at most ${Math.floor(MAX_KNOCK_MS / length)} for ${length} ports: a knock must fit into 10 s`,
  )
}

/** Options that don't go together, and what the time flag means for the action. */
function checkOptions(options: Options): { action: Action; seconds: number } {
  const { close, lock, once, wait, p: port, t: time } = options
  if (close && lock) throw new UsageFault('expected --close or --lock, got both')
  if (options[4] && options[6]) throw new UsageFault('expected -4 or -6, got both')
  if (options.json && !options.dryRun) throw new UsageFault('--json goes with --dry-run')
  if (time === CLOSE_FLAG && lock) throw new UsageFault('-t 255 means close: give another time for --lock')
  const action = lock ? 'lock' : close || time === CLOSE_FLAG ? 'close' : 'open'
  if (action === 'open' && port === undefined)
    throw new UsageFault('-p expected: say which port to open, 0 for all that the key grants')
  if (action !== 'open' && once) throw new UsageFault('--once goes with opening only')
  if (wait !== undefined) {
    if (action !== 'open') throw new UsageFault('--wait goes with opening only')
    if (once) throw new UsageFault('--wait would use up the one connection of --once: leave one of them out')
    if (!port || options.protocol === 'udp')
      throw new UsageFault('--wait expected one TCP port with -p: it connects to see whether the door is open')
  }
  const seconds = typeof time === 'number' ? time : action === 'open' ? DEFAULT_SECONDS : 0
  return { action, seconds }
}

async function findKey(path: string | undefined): Promise<KeyFile> {
  // A plain name is a key of the keyring, where no file has it.
  if (path !== undefined && KEY_ID.test(path) && !existsSync(path)) return findKeyById(clientKeys(), path)
  if (path !== undefined) return loadKeyFile(path)
  const folder = clientKeys()
  const { keys, faulty } = await readKeyring(folder, 'put a key there, or give its file with -k')
  if (faulty.length > 0) throw faulty[0].fault
  if (keys.length === 1) return keys[0]
  const got = keys.length === 0 ? 'none (their names end in .key)' : keys.map(({ id }) => id).join(', ')
  throw new Fault(`${folder}: expected one key, got ${got}: say which with -k`)
}

/** The family that is preferred where the server has both: that of the address to open for. */
function familyOf(address: string | undefined): 0 | 4 | 6 {
  return address === undefined || isZeroAddress(address) ? 0 : (isIP(address) as 4 | 6)
}

function printSequence({ window, ports, request }: Sequence, json: boolean): number {
  const { action, protocol, once, salt, port, seconds, address } = request
  const sequence = { window, ports, request: { action, protocol, once, salt, port, seconds, address } }
  process.stdout.write(json ? `${JSON.stringify(sequence)}\n` : `${ports.join('\n')}\n`)
  return EXIT.ok
}

/** Speaks on a terminal, or where -v asks for it; standard error, so that scripts keep their output. */
function speaker({ quiet, v }: Options, started: number): ((text: string) => void) | null {
  if (quiet || !(process.stderr.isTTY || v)) return null
  return (text) => process.stderr.write(`${String(Math.round(performance.now() - started)).padStart(6)} ms  ${text}\n`)
}

async function describe({ request }: Sending, host: string, address: string): Promise<string> {
  const door = request.port === 0 ? 'every granted port' : `port ${request.port}`
  const at = host === address ? host : `${host} (${address})`
  const whom = request.address === AS_SEEN ? 'this address' : request.address
  if (request.action === 'close') return `knocking at ${at}: close ${door} for ${whom}`
  const { humanDuration } = await import('../host/calendar')
  const time =
    request.seconds === 0
      ? request.action === 'lock'
        ? 'as long as the key may'
        : 'until closed'
      : humanDuration(request.seconds)
  if (request.action === 'lock') return `knocking at ${at}: lock out ${whom}, ${time}`
  return `knocking at ${at}: open ${door} for ${whom}, ${request.once ? 'one connection, ' : ''}${time}`
}

function readTime(text: string): number | typeof CLOSE_FLAG | null {
  if (/^\d{1,3}$/.test(text) && Number(text) <= 255) return Number(text) === 255 ? CLOSE_FLAG : Number(text) * 60
  if (/^\d+$/.test(text))
    throw new UsageFault(
      `-t expected a unit for a number over 255, got "${text.slice(0, 20)}": write ${text.slice(0, 20)}s or ${text.slice(0, 20)}m`,
    )
  return parseLifetime(text)
}

function readOffset(text: string): number | null {
  return /^[+-]?\d{1,10}$/.test(text) ? Number(text) : null
}
