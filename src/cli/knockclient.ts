import { existsSync } from 'node:fs'
import { dirname } from 'node:path'
import { type Command, Option } from 'commander'
import { knockAll, knockAllUntilOpen, prepare, type Told, upToDate } from '../client/client'
import type { Given } from '../client/profiles'
import type { Outgoing, Sending, Sequence } from '../client/sending'
import type { KeyFile } from '../keys/key-file'
import { LAST_PASSCODE_BASE, MAX_PIN_DIGITS, PASSCODE_BASE } from '../protocol/passcode'
import { type Action, AS_SEEN, type Protocol } from '../protocol/request'
import { readTyped, type TypedService } from '../protocol/service'
import { forbidCoreDumps } from '../system/core-dumps'
import { Fault, quoted, UsageFault } from '../system/fault'
import { parseLifetime } from '../system/time'
import {
  type AddressOptions,
  askedAddress,
  askedByEither,
  checkAddress,
  checkTrust,
  knownAddress,
  preferredFamily,
  withAddress,
} from './client/address'
import {
  checkAim,
  checkPace,
  correction,
  DEFAULT_WAIT,
  DRY_RUN,
  findHost,
  findKey,
  forceOption,
  hasMeantHost,
  MAX_WAIT,
  NAME,
  placeOf,
  printSequence,
  sendingOf,
  speaker,
  warnOfOffset,
  whatOf,
  withTarget,
  withWay,
} from './client/aim'
import { addConnect } from './client/connect'
import { knockByEither, worthOf } from './client/either'
import { addExec } from './client/exec'
import { checkForeseen, mayOpenTcp, onlyService, usualTime } from './client/foreseen'
import { meantByWord, meantByWords } from './client/meant'
import { openingOf } from './client/outcome'
import { apply, entriesOf, keepable, merge, pinned, recording } from './client/profile'
import { complainOfSilence, type SilenceOptions, timeSourceOption, warnOfTouches } from './client/timeout'
import { withCompletion } from './completion'
import { program, reading, refuseIdle, subcommand, whole } from './options'
import { EXIT, noteOf, printTable, runProgram, warnOf } from './voice'

const DEFAULT_SECONDS = 5 * 60
/** What `-t` says: the 2003 article's flag, or a duration. */
const TIME_RULE =
  '0 (until closed), 1 to 254 minutes, 255 (close), or a duration with a unit such as 90s, 15m, 1h30m, 1d (at most 2^24-1 s)'
/** Options that say what a passcode can't: what it opens stands on the server. */
const OF_SEALED = [
  'port',
  'force',
  'time',
  'address',
  'key',
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
  'stunTrusted',
  'addressUrl',
  'timeSource',
]
const CLOSE_FLAG = 'close'
const UNSAID = '-p expected: say which port to open, 0 for all that the key grants'
const UNWATCHED = '--wait expected one TCP port with -p: it connects to see whether the door is open'
/** Most services of one command: each is a knock of its own, and takes 50 ms. */
const MAX_DOORS = 16

interface Options extends SilenceOptions, AddressOptions {
  force?: boolean
  port?: TypedService[]
  time?: number | typeof CLOSE_FLAG
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
        '-p, --port <ports>',
        'the port to open, or several, such as 22,443/tcp; 0: all that the key grants',
        readDoors,
        'a port from 0 to 65535 such as 22 or 22/tcp',
      ),
    )
    .addOption(reading('-t, --time <time>', `how long: ${TIME_RULE} (default: 5m)`, readTime, TIME_RULE))
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
  // They are told what to type in its place.
  .allowExcessArguments()
  .option('--last', 'the options of the last knock')
  .option('--dry-run', DRY_RUN)
  .option('--json', 'with --dry-run: print as JSON')
  .addOption(forceOption())
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
  if (command.args.length > 1) throw await tooMany(command.args)
  const given = name !== undefined || command.opts<Options>().last ? await byProfile(name) : typed
  const options = command.opts<Options>()
  if (options.passcode) await (await import('./client/passcode')).knockByPasscode(options)
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
  const { clientConfig, readLast, saveProfile } = await import('../client/profiles')
  const entries = entriesOf(command)
  const given = keepable(last ? merge(await readLast(entries), toSave) : toSave)
  if (Object.keys(given).length === 0) throw new UsageFault('expected options to save, got none: give them, or --last')
  if (given.stun === undefined) refuseIdle(save, ['stunTrusted'], '--stun')
  checkTrust(given.stun !== undefined, given.stun_trusted === true)
  await saveProfile(clientConfig(), name, given, entries, force ?? false)
  process.stdout.write(`saved in ${clientConfig()}: "${NAME} ${name}" knocks\n`)
})
subcommand(profile, 'list', 'list the profiles', 'profile list').action(async () => {
  const { clientConfig, readProfiles } = await import('../client/profiles')
  const profiles = await readProfiles(clientConfig(), entriesOf(command))
  const rows = [...profiles].map(([name, { host, services, key }]) =>
    [name, host, services, key].map((cell) => String(cell ?? '-')),
  )
  if (rows.length === 0) process.stdout.write(`${clientConfig()}: no profiles\n`)
  else printTable([['PROFILE', 'HOST', 'SERVICES', 'KEY'], ...rows])
})
subcommand(profile, 'rm <profile>', 'remove a profile', 'profile rm gate').action(async (name: string) => {
  const { clientConfig, readProfiles, removeProfile } = await import('../client/profiles')
  const path = clientConfig()
  const profiles = await readProfiles(path, entriesOf(command))
  if (!profiles.has(name)) throw noProfile(path, name, [...profiles.keys()])
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
  const action = checkOptions(options)
  forbidCoreDumps((message) => options.quiet || warnOf(NAME, message))
  const key = await findKey(options)
  const seconds = typeof options.time === 'number' ? options.time : action === 'open' ? usualTime(DEFAULT_SECONDS, key) : 0
  const doors = doorsOf(options, action, key)
  const asked = doors.map(({ port, protocol }) => ({ action, port, protocol: protocol ?? options.protocol, seconds }))
  if (!options.force) checkForeseen(key, asked, Date.now() + options.timeOffset * 1000)
  const knocksFor = (own: string): Outgoing[] =>
    doors.map((door) => {
      const protocol = door.protocol ?? options.protocol
      const request = { action, protocol, once: options.once ?? false, port: door.port, seconds, address: own }
      const sending: Sending = { ...sendingOf(options, key), request }
      const sequence = prepare(sending, Date.now())
      checkPace(options, sequence.ports)
      return { sending, sequence, watched: isSeen(door, options, key) ? door.port : null }
    })
  const drafts = knocksFor(knownAddress(options))
  // Also of one that is printed: whoever sees that has it, too.
  warnOfOffset(options, key)
  if (options.dryRun) {
    for (const { sequence } of drafts) printSequence(sequence, options.json ?? false)
    return EXIT.ok
  }

  const aim = { key, host: options.server, isMeant: hasMeantHost(command) }
  // Names and addresses, too, take from the time of --wait.
  const end = performance.now() + (options.wait ?? Infinity) * 1000
  const place = await findHost(options, aim, preferredFamily(options), end)
  const { host, address, other, own } = await askedByEither(options, place, end)
  const meant = own === null ? drafts : knocksFor(own)
  // A slow resolver must not age the window.
  const going = meant.map((knock) => ({ ...knock, sequence: upToDate(knock.sending, knock.sequence, Date.now()) }))
  const say = speaker(options, started)
  // The packets first: it takes longer to find the words for them.
  const described = say ? new Promise((told) => setImmediate(told)).then(() => describe(going, host, address)) : null
  const begun = described?.then((text) => say?.(`${text}, with key ${key.id}${correction(options)}`))
  const tell = (pass: number, sequences: readonly Sequence[]) => {
    if (pass === 1 || options.verbose) begun?.then(() => say?.(`sent ${whatOf(sequences, options.udp)}, pass ${pass}`))
  }
  const all = going.map(({ sequence }) => sequence)
  if (options.wait === undefined) {
    const touched = await knockAll(going, address, (pass) => tell(pass, all))
    await begun
    await warnOfTouches(options, touched)
  } else {
    const told: Told = {
      pass: tell,
      opened: (port, opening) => begun?.then(() => say?.(`${host} ${openingOf(port, opening)}`)),
    }
    const goingAt = async (address: string) => {
      const own = await askedAddress(options, address, end)
      return { host, address, say, going: knocksFor(own ?? knownAddress(options)), other: null }
    }
    const { by, result, note } = await knockByEither(
      { host, address, say, going, other: other === null ? null : () => goingAt(other) },
      end - performance.now(),
      (one, limit, beside) => knockAllUntilOpen(one.going, one.address, limit, told, beside),
      worthOf,
    )
    await begun
    const sequence = by.going[0].sequence
    if (!result.isOpen) return complainOfSilence(options, { host, address: by.address, key, sequence }, result, note)
    if (note !== null && !options.quiet) noteOf(NAME, note)
  }
  await begun
  if (action === 'close' && knownAddress(options) === AS_SEEN)
    say?.('the server never answers: what was opened from another address of yours stays open until its time is up')
  // What closes is not wanted again in the next café, and a key from a descriptor is not there again.
  if (action === 'open' && options.keyFd === undefined) await remember(given, key.id, say)
  return EXIT.ok
}

/** Takes options from a profile, or from the last knock, where the command line does not say otherwise. @returns all of them */
async function byProfile(name: string | undefined): Promise<Given> {
  if (name !== undefined && command.opts<Options>().last) throw new UsageFault('expected a profile or --last, got both')
  const { clientConfig, keyOfProfile, readLast, readProfiles } = await import('../client/profiles')
  const entries = entriesOf(command)
  const path = clientConfig()
  const profiles = name === undefined ? new Map<string, Given>() : await readProfiles(path, entries)
  const found = name === undefined ? await readLast(entries) : profiles.get(name)
  if (!found) {
    const there = [...profiles.keys()]
    throw noProfile(path, String(name), there, meantByWord(command, String(name)) ?? meantByWords(NAME, [String(name)], there))
  }
  const based = typeof found.key === 'string' ? { ...found, key: keyOfProfile(path, found.key) } : found
  const merged = merge(based, typed)
  apply(command, merged, typed)
  // A port of the command line's may be one that cannot be waited for as the profile says.
  const { port, protocol } = command.opts<Options>()
  if (typed.wait !== undefined || typed.services === undefined || port?.some((door) => isWatched(door, protocol))) return merged
  command.setOptionValueWithSource('wait', undefined, 'config')
  const { wait: _, ...rest } = merged
  return rest
}

function noProfile(path: string, name: string, there: readonly string[], hint?: string): UsageFault {
  return new UsageFault(`${path}: expected a profile ${quoted(name)}, and it has ${there.join(', ') || 'none'}`, { hint })
}

/** What is wrong with several words, of which the first stands where a profile does. */
async function tooMany(words: readonly string[]): Promise<UsageFault> {
  const { clientConfig, readProfiles } = await import('../client/profiles')
  const profiles = await readProfiles(clientConfig(), entriesOf(command))
  const hint = meantByWord(command, words[0], words[1]) ?? meantByWords(NAME, words, [...profiles.keys()])
  return new UsageFault(`too many arguments. Expected 1 argument but got ${words.length}: see "${NAME} --help"`, { hint })
}

/** Keeps the options for --last, but where nothing of ours is: a borrowed machine. That it can't is no failure: the door is open. */
async function remember(given: Given, id: string, say: ((text: string) => void) | null): Promise<void> {
  const { clientConfig, writeLast } = await import('../client/profiles')
  if (!existsSync(dirname(clientConfig()))) return
  await writeLast(pinned(given, id)).catch((error) => {
    if (!(error instanceof Fault)) throw error
    if (command.opts<Options>().verbose) say?.(`not kept for --last: ${error.message}`)
  })
}

/** Options that don't go together, and what they are to do. */
function checkOptions(options: Options): Action {
  const { close, lock, once, wait, port: doors, time } = options
  if (close && lock) throw new UsageFault('expected --close or --lock, got both')
  checkAim(options)
  if (!options.dryRun) refuseIdle(command, ['json'], '--dry-run')
  refuseIdle(command, ['passcodeBase', 'pinDigits'], '--passcode')
  if (wait === undefined) refuseIdle(command, ['timeSource'], '--wait')
  if (time === CLOSE_FLAG && lock) throw new UsageFault('-t 255 means close: give another time for --lock')
  const action = lock ? 'lock' : close || time === CLOSE_FLAG ? 'close' : 'open'
  if (action !== 'open' && once) throw new UsageFault('--once goes with opening only')
  if (wait !== undefined) {
    if (action !== 'open') throw new UsageFault('--wait goes with opening only')
    if (once) throw new UsageFault('--wait would use up the one connection of --once: leave one of them out')
    if (doors && !doors.some((door) => isWatched(door, options.protocol))) throw new UsageFault(UNWATCHED)
  }
  if (doors?.some(({ protocol }) => protocol && options.protocol !== 'any' && protocol !== options.protocol))
    throw new UsageFault(`--protocol ${options.protocol} expected no other protocol in -p: leave out one of them`)
  checkAddress(command)
  return action
}

/** The doors to open: without -p the only one that the key's file knows of; to close, all. @throws {UsageFault} */
function doorsOf(options: Options, action: Action, key: KeyFile): readonly TypedService[] {
  const { port, protocol, wait } = options
  const doors = port ?? [action === 'open' ? onlyService(key, protocol, UNSAID) : { port: 0, protocol: null }]
  if (wait !== undefined && !doors.some((door) => isSeen(door, options, key))) throw new UsageFault(UNWATCHED)
  return doors
}

/** Whether a connection shows that a door of this key has opened. */
function isSeen(door: TypedService, { protocol, force }: Options, key: KeyFile): boolean {
  return isWatched(door, protocol) && (force || mayOpenTcp(key, door.port))
}

/** Whether a connection shows that a door has opened. */
function isWatched({ port, protocol }: TypedService, otherwise: Protocol): boolean {
  return port !== 0 && (protocol ?? otherwise) !== 'udp'
}

async function describe(going: readonly Outgoing[], host: string, address: string): Promise<string> {
  const [{ request }] = going.map(({ sending }) => sending)
  const ports = going.map(({ sending }) => sending.request.port)
  const door = request.port === 0 ? 'every granted port' : `port${ports.length === 1 ? '' : 's'} ${ports.join(', ')}`
  const at = placeOf(host, address)
  const whom = request.address === AS_SEEN ? 'this address' : request.address
  if (request.action === 'close') return `knocking at ${at}: close ${door} for ${whom}`
  const { humanDuration } = await import('../system/calendar')
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

/** Reads a service as hands type it or a list of them, each once; 0 stands for all, and so alone. Without a protocol that of --protocol holds. */
function readDoors(text: string): TypedService[] | null {
  const typed = text.split(',').map(readTyped)
  const doors = [...new Map(typed.map((door) => [`${door?.port}/${door?.protocol}`, door])).values()]
  if (doors.length > MAX_DOORS) throw new UsageFault(`-p expected at most ${MAX_DOORS} ports, got ${doors.length}`)
  if (doors.length > 1 && doors.some((door) => door?.port === 0))
    throw new UsageFault('-p expected 0 alone: it stands for all ports')
  return doors.every((door) => door !== null) ? doors : null
}
