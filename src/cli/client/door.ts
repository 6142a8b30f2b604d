import type { Command } from 'commander'
import { prepare, type Told, upToDate } from '../../client/client'
import { isSameName } from '../../client/host'
import type { Sending, Sequence } from '../../client/sending'
import type { KeyFile } from '../../keys/key-file'
import { clientKeys, readKeyring } from '../../keys/keyring'
import { readTyped } from '../../protocol/service'
import { forbidCoreDumps } from '../../system/core-dumps'
import { Fault, quoted, UsageFault } from '../../system/fault'
import { formatDuration, parseLifetime } from '../../system/time'
import { reading, whole } from '../options'
import { warnOf } from '../voice'
import {
  type AddressOptions,
  askedAddress,
  askedByEither,
  checkAddress,
  knownAddress,
  preferredFamily,
  withAddress,
} from './address'
import {
  type Aim,
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
} from './aim'
import { checkForeseen, onlyService, usualTime } from './foreseen'
import { openingOf } from './outcome'
import { entriesOf, fill } from './profile'
import { type SilenceOptions, timeSourceOption } from './timeout'

/* A door that a command opens for what it does next: what `connect` and `exec` share. */

/** What a profile says of a knock that is sent for its own sake. */
const OF_A_KNOCK = ['services', 'close', 'lock', 'once']
const TIME_RULE = '1 to 254 minutes, or a duration with a unit such as 90s, 15m, 1h30m, 1d (at most 2^24-1 s)'

export interface DoorOptions extends SilenceOptions, AddressOptions {
  time: number
  wait: number
  close?: boolean
  force?: boolean
}

/** A port of a server, and the way to knock for it. */
export interface Door {
  readonly host: string
  readonly address: string
  readonly port: number
  readonly key: KeyFile
  readonly sending: Sending
  /** The knock as it is now. */
  readonly sequence: Sequence
  /** When knocking for it ends, in steady milliseconds. */
  readonly end: number
  /** The same by the server's address of the other family; null: there is none that would do. */
  readonly other: (() => Promise<Door>) | null
  /** What it does is said here, or nowhere. */
  readonly say: ((text: string) => void) | null
}

/** Gives a command the options of {@link DoorOptions}. @param seconds the lifetime that is asked for unless -t says another */
export function withDoor(command: Command, seconds: number): Command {
  withTarget(command).addOption(
    reading('-t, --time <time>', `how long: ${TIME_RULE}`, readTime, TIME_RULE).default(seconds, formatDuration(seconds)),
  )
  withAddress(command)
    .addOption(
      reading('--wait <seconds>', 'how long to knock', whole(1, MAX_WAIT), `seconds from 1 to ${MAX_WAIT}`).default(DEFAULT_WAIT),
    )
    .addOption(timeSourceOption())
    .option('--close', 'close the door at the end')
    .option('--dry-run', DRY_RUN)
    .addOption(forceOption())
    .hook('preAction', ({ parent }) => {
      const stray = parent?.options.find((option) => parent.getOptionValueSource(option.attributeName()) === 'cli')
      if (stray) throw new UsageFault(`${stray.short ?? stray.long} expected behind "${command.name()}", got it in front`)
    })
  return withWay(command)
}

/** A port to connect to. */
export const readPort = (text: string): number => {
  const { port, protocol } = readTyped(text) ?? { port: 0, protocol: null }
  if (port === 0 || protocol === 'udp') throw new UsageFault(`the port expected a number from 1 to 65535, got ${quoted(text)}`)
  return port
}

/** What stands on the command line in a host's place. */
export interface Target {
  readonly name: string
  readonly isProfile: boolean
  /** The first service of the profile that a connection can be made to; null: there is none. */
  readonly service: number | null
}

/**
 * What a name on the command line stands for: the one place that knows.
 * @param target a host by its name or address; or a profile, or a key by its name without a dot, which stand for the key's host where they name no other
 * @throws {Fault} where there is no key for it
 */
async function aimAt({ name, isProfile }: Target, command: Command): Promise<Aim> {
  const options = command.opts<DoorOptions>()
  const { key: named, keyFd, server } = options
  // Standard input is for what comes behind the door.
  const key = named === undefined && keyFd === undefined ? await keyFor(name, server ?? name) : await findKey(options, true)
  // Who makes a key names it: what reads like a host's name is that host, and not the one that such a key is for.
  const isForKeys = isProfile || (name === key.id && !name.includes('.'))
  return { key, host: server ?? (isForKeys ? (key.host ?? name) : name), isMeant: hasMeantHost(command) }
}

/**
 * Takes from a profile what the command line does not say.
 * @param name of a profile, or of something else
 * @throws {Fault} where the profiles can't be read
 */
export async function fillFromProfile(command: Command, name: string): Promise<Target> {
  const { clientConfig, keyOfProfile, readProfiles } = await import('../../client/profiles')
  const path = clientConfig()
  const entries = entriesOf(command.parent as Command)
  const profile = (await readProfiles(path, entries)).get(name)
  if (!profile) return { name, isProfile: false, service: null }
  const { key, wait } = profile
  // That it is to wait, without a time, is said here anyway.
  const without = wait === true ? [...OF_A_KNOCK, 'wait'] : OF_A_KNOCK
  try {
    fill(command, typeof key === 'string' ? { ...profile, key: keyOfProfile(path, key) } : profile, without)
  } catch (error) {
    // Such as a time without end, which a plain knock may ask for.
    throw error instanceof Fault ? new Fault(`${path}: profile "${name}": ${error.message}`) : error
  }
  const { services = '', protocol: otherwise } = profile
  const read = entries.find((entry) => entry.name === 'services')?.read
  const doors = services ? (read?.(String(services)) as { port: number; protocol: string | null }[]) : []
  const service = doors.find(({ port, protocol }) => port !== 0 && (protocol ?? otherwise) !== 'udp')?.port ?? null
  return { name, isProfile: true, service }
}

/**
 * A door of a server, before anything is sent.
 * @param asked its port; null: the only TCP port that the key's file knows of
 * @param once whether it is to admit one connection only
 * @param command that has been given the options of {@link withDoor}
 * @returns null where the ports of the knock were all that was asked for; they are printed
 * @throws {Fault}
 */
export async function findDoor(target: Target, asked: number | null, once: boolean, command: Command): Promise<Door | null> {
  const started = performance.now()
  const options = command.opts<DoorOptions>()
  checkAim(options)
  checkAddress(command)
  forbidCoreDumps((message) => options.quiet || warnOf(NAME, message))
  const aim = await aimAt(target, command)
  const port = asked ?? onlyService(aim.key, 'tcp', '-p expected: say which port to open').port
  const isUsual = command.getOptionValueSource('time') === 'default'
  const seconds = isUsual ? usualTime(options.time, aim.key) : options.time
  const request = { action: 'open', protocol: 'tcp', once, port, seconds } as const
  if (!options.force) checkForeseen(aim.key, [request], Date.now() + options.timeOffset * 1000)
  const sendingFor = (own: string): Sending => ({
    ...sendingOf(options, aim.key),
    request: { ...request, address: own },
  })
  const draftSending = sendingFor(knownAddress(options))
  const draft = prepare(draftSending, Date.now())
  checkPace(options, draft.ports)
  // Also of one that is printed: whoever sees that has it, too.
  warnOfOffset(options, aim.key)
  if (options.dryRun) {
    printSequence(draft)
    return null
  }
  // Names and addresses, too, take from the time of --wait.
  const end = performance.now() + options.wait * 1000
  const place = await findHost(options, aim, preferredFamily(options), end)
  const { host, address, other, own } = await askedByEither(options, place, end)
  const sending = own === null ? draftSending : sendingFor(own)
  // A slow resolver must not age the window.
  const sequence = own === null ? upToDate(sending, draft, Date.now()) : prepare(sending, Date.now())
  // The terminal belongs to the program that we are run for, or that we run.
  const say = options.verbose ? speaker(options, started) : null
  say?.(`knocking at ${placeOf(host, address)} for port ${port}, with key ${aim.key.id}${correction(options)}`)
  const door: Door = { host, address, port, key: aim.key, sending, sequence, end, other: null, say }
  if (other === null) return door
  const doorAt = async (address: string): Promise<Door> => {
    const own = await askedAddress(options, address, end)
    const sending = sendingFor(own ?? knownAddress(options))
    return { ...door, address, sending, sequence: prepare(sending, Date.now()) }
  }
  return { ...door, other: () => doorAt(other) }
}

/** Says of a pass that it has been sent, and of the port that it is open. */
export function tellOf(door: Door): Told {
  return { pass: tellPass(door), opened: (port, opening) => door.say?.(`${door.host} ${openingOf(port, opening)}`) }
}

/** Says of a pass that it has been sent. */
export function tellPass({ sending, sequence, say }: Door): (pass: number) => void {
  return (pass) => say?.(`sent ${whatOf([sequence], sending.udp)}, pass ${pass}`)
}

/** The key for a host: the only one, else that whose host it is, else that which is named so. */
async function keyFor(name: string, at: string): Promise<KeyFile> {
  const folder = clientKeys()
  const { keys, faulty } = await readKeyring(folder, 'put a key there, or give its file with -k')
  if (keys.length === 1 && faulty.length === 0) return keys[0]
  // Or one under a passphrase.
  if (keys.length + faulty.length === 0) return findKey({}, true)
  const hosted = keys.filter(({ host }) => host && [name, at].some((one) => isSameName(one, host)))
  const found = hosted.length > 0 ? hosted : keys.filter(({ id }) => id === name)
  if (found.length === 1) return found[0]
  // A key that can't be read may be the one.
  if (faulty.length > 0) throw faulty[0].faults[0]
  const got = (found.length > 0 ? found : keys).map(({ id }) => id).join(', ') || 'none (their names end in .key)'
  throw new Fault(`${folder}: expected one key for ${name}, got ${got}: say which with -k`)
}

function readTime(text: string): number | null {
  const minutes = whole(1, 254)(text)
  return minutes === null ? parseLifetime(text) : minutes * 60
}
