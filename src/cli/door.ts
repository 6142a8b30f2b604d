import { isIP } from 'node:net'
import type { Command } from 'commander'
import { prepare, type Sending, type Sequence, upToDate } from '../client'
import { forbidCoreDumps } from '../host/core-dumps'
import { Fault, UsageFault } from '../host/fault'
import type { KeyFile } from '../host/key-file'
import { clientKeys, readKeyring } from '../host/keyring'
import { formatDuration, parseLifetime } from '../host/time'
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
import { reading, whole } from './options'
import { type AddressOptions, askedAddress, checkAddress, knownAddress, preferredFamily, withAddress } from './own-address'
import { entriesOf, fill } from './profile'
import { type SilenceOptions, timeSourceOption } from './silence'
import { warnOf } from './voice'

/* A door that a command opens for what it does next: what `connect` and `exec` share. */

/** What a profile says of a knock that is sent for its own sake. */
const OF_A_KNOCK = ['services', 'close', 'lock', 'once']
const TIME_RULE = '1 to 254 minutes, or a duration with a unit such as 90s, 15m, 1h30m (at most 2^24-1 s)'

export interface DoorOptions extends SilenceOptions, AddressOptions {
  t: number
  wait: number
  close?: boolean
}

/** A port of a server, and the way to knock for it. */
export interface Door {
  readonly host: string
  readonly address: string
  readonly key: KeyFile
  readonly sending: Sending
  /** The knock as it is now. */
  readonly sequence: Sequence
  /** What it does is said here, or nowhere. */
  readonly say: ((text: string) => void) | null
}

/** Gives a command the options of {@link DoorOptions}. @param seconds the lifetime that is asked for unless -t says another */
export function withDoor(command: Command, seconds: number): Command {
  withTarget(command).addOption(
    reading('-t <time>', `how long: ${TIME_RULE}`, readTime, TIME_RULE).default(seconds, formatDuration(seconds)),
  )
  withAddress(command)
    .addOption(
      reading('--wait <seconds>', 'how long to knock', whole(1, MAX_WAIT), `seconds from 1 to ${MAX_WAIT}`).default(DEFAULT_WAIT),
    )
    .addOption(timeSourceOption())
    .option('--close', 'close the door at the end')
    .option('--dry-run', 'send and resolve nothing; print the ports of one knock')
    .hook('preAction', ({ parent }) => {
      const stray = parent?.options.find((option) => parent.getOptionValueSource(option.attributeName()) === 'cli')
      if (stray) throw new UsageFault(`${stray.flags} expected behind "${command.name()}", got it in front`)
    })
  return withWay(command)
}

/** A port to connect to. */
export const readPort = (text: string): number => {
  const port = whole(1, 65535)(text)
  if (port === null) throw new UsageFault(`the port expected a number from 1 to 65535, got "${text.slice(0, 60)}"`)
  return port
}

/**
 * What a name on the command line stands for: the one place that knows.
 * @param name a host's name or address, or the name of a key, which stands for the key's host
 * @throws {Fault} where there is no key for it
 */
async function aimAt(name: string, options: DoorOptions): Promise<{ key: KeyFile; host: string }> {
  const { k, keyFd, r } = options
  // Standard input is for what comes behind the door.
  const key = k === undefined && keyFd === undefined ? await keyFor(name, r ?? name) : await findKey(options, true)
  return { key, host: r ?? (name === key.id ? (key.host ?? name) : name) }
}

/**
 * Takes from a profile what the command line does not say.
 * @param name of a profile, or of something else
 * @returns the first of its services that a connection can be made to; null where there is none, or no such profile
 * @throws {Fault} where the profiles can't be read
 */
export async function fillFromProfile(command: Command, name: string): Promise<number | null> {
  const { clientConfig, keyOfProfile, readProfiles } = await import('../host/profiles')
  const path = clientConfig()
  const profile = (await readProfiles(path, entriesOf(command.parent as Command))).get(name)
  if (!profile) return null
  const { key, wait } = profile
  // That it is to wait, without a time, is said here anyway.
  const without = wait === true ? [...OF_A_KNOCK, 'wait'] : OF_A_KNOCK
  try {
    fill(command, typeof key === 'string' ? { ...profile, key: keyOfProfile(path, key) } : profile, without)
  } catch (error) {
    // Such as a time without end, which a plain knock may ask for.
    throw error instanceof Fault ? new Fault(`${path}: profile "${name}": ${error.message}`) : error
  }
  const [service] = String(profile.services ?? '')
    .split(',')
    .filter((text) => /^[1-9]\d*(\/tcp)?$/.test(text.trim()))
  return service === undefined ? null : Number.parseInt(service, 10)
}

/**
 * A door of a server, before anything is sent.
 * @param once whether it is to admit one connection only
 * @param command that has been given the options of {@link withDoor}
 * @returns null where the ports of the knock were all that was asked for; they are printed
 * @throws {Fault}
 */
export async function findDoor(name: string, port: number, once: boolean, command: Command): Promise<Door | null> {
  const started = performance.now()
  const options = command.opts<DoorOptions>()
  checkAim(options)
  checkAddress(command)
  forbidCoreDumps((message) => options.quiet || warnOf(NAME, message))
  const aim = await aimAt(name, options)
  const sendingFor = (own: string): Sending => ({
    ...sendingOf(options, aim.key),
    request: { action: 'open', protocol: 'tcp', once, port, seconds: options.t, address: own },
  })
  const draftSending = sendingFor(knownAddress(options))
  const draft = prepare(draftSending, Date.now())
  checkPace(options, draft.ports)
  if (options.dryRun) {
    printSequence(draft)
    return null
  }
  const { host, address } = await findHost({ ...options, r: aim.host }, aim.key, preferredFamily(options))
  const own = await askedAddress(options, isIP(address) as 4 | 6)
  const sending = own === null ? draftSending : sendingFor(own)
  // A slow resolver must not age the window.
  const sequence = own === null ? upToDate(sending, draft, Date.now()) : prepare(sending, Date.now())
  // The terminal belongs to the program that we are run for, or that we run.
  const say = options.v ? speaker(options, started) : null
  say?.(`knocking at ${placeOf(host, address)} for port ${port}, with key ${aim.key.id}`)
  return { host, address, key: aim.key, sending, sequence, say }
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
  const hosts = [name.toLowerCase(), at.toLowerCase()]
  const hosted = keys.filter(({ host }) => host && hosts.includes(host.toLowerCase()))
  const found = hosted.length > 0 ? hosted : keys.filter(({ id }) => id === name)
  if (found.length === 1) return found[0]
  // A key that can't be read may be the one.
  if (faulty.length > 0) throw faulty[0].fault
  const got = (found.length > 0 ? found : keys).map(({ id }) => id).join(', ') || 'none (their names end in .key)'
  throw new Fault(`${folder}: expected one key for ${name}, got ${got}: say which with -k`)
}

function readTime(text: string): number | null {
  const minutes = whole(1, 254)(text)
  return minutes === null ? parseLifetime(text) : minutes * 60
}
