import { existsSync } from 'node:fs'
import { isIP } from 'node:net'
import { dirname } from 'node:path'
import { type Command, Option } from 'commander'
import { type Going, knockAll, knockAllUntilOpen, prepare, type Sending, upToDate } from '../client'
import { forbidCoreDumps } from '../host/core-dumps'
import { Fault, UsageFault } from '../host/fault'
import type { Given } from '../host/profiles'
import { parseLifetime } from '../host/time'
import { LAST_PASSCODE_BASE, MAX_PIN_DIGITS, PASSCODE_BASE } from '../protocol/passcode-ports'
import { type Action, AS_SEEN, type Protocol } from '../protocol/request'
import {
  checkAim,
  checkPace,
  DEFAULT_WAIT,
  findHost,
  findKey,
  MAX_WAIT,
  NAME,
  placeOf,
  printSequence,
  sendingOf,
  speaker,
  whatOf,
  withTarget,
  withWay,
} from './aim'
import { withCompletion } from './completion'
import { addConnect } from './connect'
import { addExec } from './exec'
import { program, reading, refuseIdle, subcommand, whole } from './options'
import { type AddressOptions, askedAddress, checkAddress, knownAddress, preferredFamily, withAddress } from './own-address'
import { apply, entriesOf, keepable, merge, pinned, recording } from './profile'
import { complainOfSilence, type SilenceOptions, timeSourceOption } from './silence'
import { EXIT, printTable, runProgram, warnOf } from './voice'

const DEFAULT_SECONDS = 5 * 60
/** What `-t` says: the 2003 article's flag, or a duration. */
const TIME_RULE =
  '0 (until closed), 1 to 254 minutes, 255 (close), or a duration with a unit such as 90s, 15m, 1h30m (at most 2^24-1 s)'
/** Options that say what a passcode can't: what it opens stands on the server. */
const OF_SEALED = [
  'p',
  't',
  'i',
  'k',
  'close',
  'lock',
  'once',
  'protocol',
  'json',
  'wait',
  'parity',
  'timeOffset',
  'datagram',
  'keyFd',
  'last',
  'stun',
  'addressUrl',
  'timeSource',
]
const CLOSE_FLAG = 'close'
/** Most services of one command: each is a knock of its own, and takes 50 ms. */
const MAX_DOORS = 16

/** A port to open; without a protocol that of --protocol holds. */
interface Door {
  readonly port: number
  readonly protocol: 'tcp' | 'udp' | null
}

interface Options extends SilenceOptions, AddressOptions {
  p?: Door[]
  t?: number | typeof CLOSE_FLAG
  close?: boolean
  lock?: boolean
  once?: boolean
  protocol: Protocol
  dryRun?: boolean
  json?: boolean
  last?: boolean
  passcode?: boolean
  passcodeBase: number
  pinDigits: number
}

/** Gives a command the options of a knock that a profile may have. */
function withKnock(command: Command): Command {
  withTarget(command)
    .addOption(
      reading(
        '-p <ports>',
        'the port to open, or several, such as 22,443/tcp; 0: all that the key grants',
        readDoors,
        'a port from 0 to 65535',
      ),
    )
    .addOption(reading('-t <time>', `how long: ${TIME_RULE} (default: 5m)`, readTime, TIME_RULE))
  withAddress(command)
    .option('--close', "close the key's leases for the address and port (all ports without -p)")
    .option('--lock', "close the key's leases for the address and have its knocks ignored for the time of -t")
    .option('--once', 'open for one connection only')
    .addOption(new Option('--protocol <name>', 'tcp, udp or any').choices(['tcp', 'udp', 'any']).default('any'))
    .addOption(
      reading('--wait [seconds]', 'knock until the service answers', whole(1, MAX_WAIT), `seconds from 1 to ${MAX_WAIT}`).preset(
        String(DEFAULT_WAIT),
      ),
    )
    .addOption(timeSourceOption())
  return withWay(command)
}

const command = withKnock(
  program(
    NAME,
    'Knocks at a server: one burst of connection attempts that says, to those who share the key, which port to open for whom.',
    `${NAME} -r gate.example -p 22 -t 15 && ssh gate.example`,
  ),
)
  .enablePositionalOptions()
  .argument('[profile]', 'options by their name in the config: see "profile"')
  .option('--last', 'the options of the last knock')
  .option('--dry-run', 'send and resolve nothing; print the ports of one knock')
  .option('--json', 'with --dry-run: print as JSON')
  .addOption(
    new Option('--passcode', 'knock by a PIN and the code of an authenticator app: asks for both, and needs no key').conflicts(
      OF_SEALED,
    ),
  )
  .addOption(
    reading(
      '--passcode-base <port>',
      "the server's first passcode port",
      whole(1, LAST_PASSCODE_BASE),
      `a port from 1 to ${LAST_PASSCODE_BASE}`,
    ).default(PASSCODE_BASE),
  )
  .addOption(
    reading(
      '--pin-digits <n>',
      "how many digits the server's PINs have",
      whole(0, MAX_PIN_DIGITS),
      `a number from 0 to ${MAX_PIN_DIGITS}`,
    ).default(MAX_PIN_DIGITS),
  )
const typed = recording(command)

command.action(async (name: string | undefined) => {
  const given = name !== undefined || command.opts<Options>().last ? await byProfile(name) : typed
  const options = command.opts<Options>()
  if (options.passcode) await (await import('./passcode')).knockByPasscode(options)
  else process.exitCode = await knockAsAsked(options, given)
})

const profile = subcommand(
  command,
  'profile',
  'save, list and remove profiles: options of a knock by a name of your own',
  'profile list',
)
const save = withKnock(
  subcommand(profile, 'save <name>', 'save options as a profile', 'profile save gate -r gate.example -p 22,443 -t 15m --wait'),
)
  .option('--last', 'those of the last knock, too')
  .option('--force', 'in the place of a profile that has the name already')
// Not offered, and told why all the same.
save.options.find(({ long }) => long === '--key-fd')?.hideHelp()
const toSave = recording(save)
save.action(async (name: string, { last, force }: { last?: boolean; force?: boolean }) => {
  if (command.commands.some((other) => other.name() === name))
    throw new UsageFault(`<name> expected a name that is no command's, got "${name}"`)
  refuseIdle(save, ['keyFd'], 'one knock: nothing will be open there the next time, so name the key with -k')
  const { clientConfig, readLast, saveProfile } = await import('../host/profiles')
  const entries = entriesOf(command)
  const given = keepable(last ? merge(await readLast(entries), toSave) : toSave)
  if (Object.keys(given).length === 0) throw new UsageFault('expected options to save, got none: give them, or --last')
  await saveProfile(clientConfig(), name, given, entries, force ?? false)
  process.stdout.write(`saved in ${clientConfig()}: "${NAME} ${name}" knocks\n`)
})
subcommand(profile, 'list', 'list the profiles', 'profile list').action(async () => {
  const { clientConfig, readProfiles } = await import('../host/profiles')
  const profiles = await readProfiles(clientConfig(), entriesOf(command))
  const rows = [...profiles].map(([name, { host, services, key }]) =>
    [name, host, services, key].map((cell) => String(cell ?? '-')),
  )
  if (rows.length === 0) process.stdout.write(`${clientConfig()}: no profiles\n`)
  else printTable([['PROFILE', 'HOST', 'SERVICES', 'KEY'], ...rows])
})
subcommand(profile, 'rm <profile>', 'remove a profile', 'profile rm gate').action(async (name: string) => {
  const { clientConfig, readProfiles, removeProfile } = await import('../host/profiles')
  const path = clientConfig()
  const profiles = await readProfiles(path, entriesOf(command))
  if (!profiles.has(name)) throw noProfile(path, name, [...profiles.keys()].join(', ') || 'none')
  await removeProfile(path, name, entriesOf(command))
  process.stdout.write(`removed from ${path}: ${name}\n`)
})
addConnect(command)
addExec(command)
withCompletion(command)

runProgram(NAME, async () => {
  await command.parseAsync()
  return (process.exitCode as number | undefined) ?? EXIT.ok
})

/** The pipeline of a plain knock: request → ports → server, and a look at the door. @returns the exit code */
async function knockAsAsked(options: Options, given: Given): Promise<number> {
  const started = performance.now()
  const { action, seconds } = checkOptions(options)
  forbidCoreDumps((message) => options.quiet || warnOf(NAME, message))
  const key = await findKey(options)
  const knocksFor = (own: string): Going[] =>
    (options.p ?? [{ port: 0, protocol: null }]).map((door) => {
      const protocol = door.protocol ?? options.protocol
      const request = { action, protocol, once: options.once ?? false, port: door.port, seconds, address: own }
      const sending: Sending = { ...sendingOf(options, key), request }
      const sequence = prepare(sending, Date.now())
      checkPace(options, sequence.ports)
      return { sending, sequence, watched: isWatched(door, options.protocol) ? door.port : null }
    })
  const drafts = knocksFor(knownAddress(options))
  if (options.dryRun) {
    for (const { sequence } of drafts) printSequence(sequence, options.json ?? false)
    return EXIT.ok
  }

  const { host, address } = await findHost(options, key, preferredFamily(options))
  const own = await askedAddress(options, isIP(address) as 4 | 6)
  const asked = own === null ? drafts : knocksFor(own)
  // A slow resolver must not age the window.
  const going = asked.map((knock) => ({ ...knock, sequence: upToDate(knock.sending, knock.sequence, Date.now()) }))
  const say = speaker(options, started)
  // The packets first: it takes longer to find the words for them.
  const described = say ? new Promise((told) => setImmediate(told)).then(() => describe(going, host, address)) : null
  const begun = described?.then((text) => say?.(`${text}, with key ${key.id}`))
  const sequences = going.map(({ sequence }) => sequence)
  const told = (pass: number) => {
    if (pass === 1 || options.v) begun?.then(() => say?.(`sent ${whatOf(sequences, options.udp)}, pass ${pass}`))
  }
  if (options.wait === undefined) await knockAll(going, address, told)
  else {
    const ended = await knockAllUntilOpen(going, address, options.wait * 1000, told)
    const [{ sequence }] = going
    if (ended.shut.length > 0) return complainOfSilence(options, { host, address, key, sequence }, ended)
    const watched = going.flatMap(({ watched }) => watched ?? [])
    await begun
    say?.(`${host} ${watched.length === 1 ? `port ${watched[0]} is` : `ports ${watched.join(', ')} are`} open`)
    for (const port of ended.before)
      say?.(`port ${port} answered before the knock, too: whether that was taken, the server's log tells`)
  }
  await begun
  // What closes is not wanted again in the next café, and a key from a descriptor is not there again.
  if (action === 'open' && options.keyFd === undefined) await remember(given, key.id, say)
  return EXIT.ok
}

/** Takes options from a profile, or from the last knock, where the command line does not say otherwise. @returns all of them */
async function byProfile(name: string | undefined): Promise<Given> {
  if (name !== undefined && command.opts<Options>().last) throw new UsageFault('expected a profile or --last, got both')
  const { clientConfig, keyOfProfile, readLast, readProfiles } = await import('../host/profiles')
  const entries = entriesOf(command)
  const path = clientConfig()
  const profiles = name === undefined ? new Map<string, Given>() : await readProfiles(path, entries)
  const found = name === undefined ? await readLast(entries) : profiles.get(name)
  if (!found) {
    const names = [...profiles.keys()].join(', ')
    const none = `none: make one with "${NAME} profile save", or name the server with -r`
    throw noProfile(path, String(name), names === '' ? none : `${names} (a server stands behind -r)`)
  }
  const based = typeof found.key === 'string' ? { ...found, key: keyOfProfile(path, found.key) } : found
  const merged = merge(based, typed)
  apply(command, merged, typed)
  // A port of the command line's may be one that cannot be waited for as the profile says.
  const { p, protocol } = command.opts<Options>()
  if (typed.wait !== undefined || typed.services === undefined || p?.some((door) => isWatched(door, protocol))) return merged
  command.setOptionValueWithSource('wait', undefined, 'config')
  const { wait: _, ...rest } = merged
  return rest
}

function noProfile(path: string, name: string, there: string): UsageFault {
  return new UsageFault(`${path}: expected a profile "${name.slice(0, 60)}", and it has ${there}`)
}

/** Keeps the options for --last, but where nothing of ours is: a borrowed machine. That it can't is no failure: the door is open. */
async function remember(given: Given, id: string, say: ((text: string) => void) | null): Promise<void> {
  const { clientConfig, writeLast } = await import('../host/profiles')
  if (!existsSync(dirname(clientConfig()))) return
  await writeLast(pinned(given, id)).catch((error) => {
    if (!(error instanceof Fault)) throw error
    if (command.opts<Options>().v) say?.(`not kept for --last: ${error.message}`)
  })
}

/** Options that don't go together, and what the time flag means for the action. */
function checkOptions(options: Options): { action: Action; seconds: number } {
  const { close, lock, once, wait, p: doors, t: time } = options
  if (close && lock) throw new UsageFault('expected --close or --lock, got both')
  checkAim(options)
  if (!options.dryRun) refuseIdle(command, ['json'], '--dry-run')
  refuseIdle(command, ['passcodeBase', 'pinDigits'], '--passcode')
  if (wait === undefined) refuseIdle(command, ['timeSource'], '--wait')
  if (time === CLOSE_FLAG && lock) throw new UsageFault('-t 255 means close: give another time for --lock')
  const action = lock ? 'lock' : close || time === CLOSE_FLAG ? 'close' : 'open'
  if (action === 'open' && doors === undefined)
    throw new UsageFault('-p expected: say which port to open, 0 for all that the key grants')
  if (action !== 'open' && once) throw new UsageFault('--once goes with opening only')
  if (wait !== undefined) {
    if (action !== 'open') throw new UsageFault('--wait goes with opening only')
    if (once) throw new UsageFault('--wait would use up the one connection of --once: leave one of them out')
    if (!doors?.some((door) => isWatched(door, options.protocol)))
      throw new UsageFault('--wait expected one TCP port with -p: it connects to see whether the door is open')
  }
  if (doors?.some(({ protocol }) => protocol && options.protocol !== 'any' && protocol !== options.protocol))
    throw new UsageFault(`--protocol ${options.protocol} expected no other protocol in -p: leave out one of them`)
  checkAddress(command)
  const seconds = typeof time === 'number' ? time : action === 'open' ? DEFAULT_SECONDS : 0
  return { action, seconds }
}

/** Whether a connection shows that a door has opened. */
function isWatched({ port, protocol }: Door, otherwise: Protocol): boolean {
  return port !== 0 && (protocol ?? otherwise) !== 'udp'
}

async function describe(going: readonly Going[], host: string, address: string): Promise<string> {
  const [{ request }] = going.map(({ sending }) => sending)
  const ports = going.map(({ sending }) => sending.request.port)
  const door = request.port === 0 ? 'every granted port' : `port${ports.length === 1 ? '' : 's'} ${ports.join(', ')}`
  const at = placeOf(host, address)
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

/** Reads `22`, `22/tcp` or a list of them, each once; 0 stands for all, and so alone. */
function readDoors(text: string): Door[] | null {
  const words = [...new Set(text.split(','))]
  const doors = words.map((word) => {
    const [, port, protocol] = /^(\d{1,5})(?:\/(tcp|udp))?$/.exec(word) ?? []
    return port === undefined || Number(port) > 65535
      ? null
      : { port: Number(port), protocol: (protocol ?? null) as Door['protocol'] }
  })
  if (doors.length > MAX_DOORS) throw new UsageFault(`-p expected at most ${MAX_DOORS} ports, got ${doors.length}`)
  if (doors.length > 1 && doors.some((door) => door?.port === 0))
    throw new UsageFault('-p expected 0 alone: it stands for all ports')
  return doors.every((door) => door !== null) ? doors : null
}
