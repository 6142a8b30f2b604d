import { isIP } from 'node:net'
import { type Command, Option } from 'commander'
import { knock, knockUntilOpen, prepare, type Sending, type Sequence, upToDate } from '../client'
import { forbidCoreDumps } from '../host/core-dumps'
import { UsageFault } from '../host/fault'
import { parseLifetime } from '../host/time'
import { canonicalAddress, isZeroAddress } from '../protocol/address'
import { MAX_PIN_DIGITS, PASSCODE_BASE, passcodeRange } from '../protocol/passcode-ports'
import type { Action, Protocol } from '../protocol/request'
import { type AimOptions, checkAim, findHost, findKey, MAX_KNOCK_MS, sendingOf, speaker, withAim } from './aim'
import { program, reading, whole } from './options'
import { complain, EXIT, runProgram, warnOf } from './voice'

const NAME = 'knockclient'
const DEFAULT_SECONDS = 5 * 60
const DEFAULT_WAIT = '30'
const MAX_WAIT = 3_600
/** What `-t` says: the 2003 article's flag, or a duration. */
const TIME_RULE =
  '0 (until closed), 1 to 254 minutes, 255 (close), or a duration with a unit such as 90s, 15m, 1h30m (at most 2^24-1 s)'
/** Whatever the PIN's length, the last passcode port is one. */
const LAST_BASE = 65_535 - passcodeRange(0, MAX_PIN_DIGITS)[1]
/** Options that say what a passcode can't: what it opens stands on the server. */
const OF_SEALED = ['p', 't', 'i', 'k', 'close', 'lock', 'once', 'protocol', 'json', 'wait', 'parity', 'timeOffset']
const CLOSE_FLAG = 'close'
/** "The address that you see me come from", of any family. */
const AS_SEEN = '0.0.0.0'

interface Options extends AimOptions {
  i?: string
  p?: number
  t?: number | typeof CLOSE_FLAG
  close?: boolean
  lock?: boolean
  once?: boolean
  protocol: Protocol
  dryRun?: boolean
  json?: boolean
  wait?: number
  passcode?: boolean
  passcodeBase: number
}

const command: Command = withAim(
  program(
    NAME,
    'Knocks at a server: one burst of connection attempts that says, to those who share the key, which port to open for whom.',
    `${NAME} -r gate.example -p 22 -t 15 && ssh gate.example`,
  ),
)
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
  .option('--close', "close the key's leases for the address and port (all ports without -p)")
  .option('--lock', "close the key's leases for the address and have its knocks ignored for the time of -t")
  .option('--once', 'open for one connection only')
  .addOption(new Option('--protocol <name>', 'tcp, udp or any').choices(['tcp', 'udp', 'any']).default('any'))
  .option('--dry-run', 'send and resolve nothing; print the ports of one knock')
  .option('--json', 'with --dry-run: print as JSON')
  .addOption(
    reading('--wait [seconds]', 'knock until the service answers', whole(1, MAX_WAIT), `seconds from 1 to ${MAX_WAIT}`).preset(
      DEFAULT_WAIT,
    ),
  )
  .addOption(
    new Option('--passcode', 'knock by a PIN and the code of an authenticator app: asks for both, and needs no key').conflicts(
      OF_SEALED,
    ),
  )
  .addOption(
    reading(
      '--passcode-base <port>',
      "the server's first passcode port",
      whole(1, LAST_BASE),
      `a port from 1 to ${LAST_BASE}`,
    ).default(PASSCODE_BASE),
  )

command.action(async (options: Options) => {
  if (options.passcode) await (await import('./passcode')).knockByPasscode(options)
  else process.exitCode = await knockAsAsked(options)
})

runProgram(NAME, async () => {
  await command.parseAsync()
  return (process.exitCode as number | undefined) ?? EXIT.ok
})

/** The pipeline of a plain knock: request → ports → server, and a look at the door. @returns the exit code */
async function knockAsAsked(options: Options): Promise<number> {
  const started = performance.now()
  const { action, seconds } = checkOptions(options)
  forbidCoreDumps((message) => options.quiet || warnOf(NAME, message))
  const key = await findKey(options.k)
  const sending: Sending = {
    ...sendingOf(options, key),
    request: {
      action,
      protocol: options.protocol,
      once: options.once ?? false,
      port: options.p ?? 0,
      seconds,
      address: options.i ?? AS_SEEN,
    },
  }
  const draft = checkPace(prepare(sending, Date.now()), options.pace)
  if (options.dryRun) return printSequence(draft, options.json ?? false)

  const { host, address } = await findHost(options, key, familyOf(options.i))
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
}

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
  checkAim(options)
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
