import type { Command } from 'commander'
import { chosenKey, keyForHost } from '../../client/client-key'
import { isShownByTcp, onlyService, usualTime } from '../../client/foreseen'
import { type Aim, placeOf } from '../../client/place'
import { knockToClose } from '../../client/renewal'
import type { Outgoing, Sending } from '../../client/sending'
import type { KeyFile } from '../../keys/key-file'
import type { Protocol } from '../../protocol/request'
import { readTyped, type TypedService } from '../../protocol/service'
import { Fault, quoted, reason, UsageFault } from '../../system/fault'
import { formatDuration, parseLifetime } from '../../system/time'
import { reading, whole } from '../options'
import { warnOf } from '../voice'
import { type AddressOptions, checkAddress, withAddress } from './address'
import { checkAim, DEFAULT_WAIT, DRY_RUN, forceOption, hasMeantHost, MAX_WAIT, NAME, TIME, withTarget, withWay } from './aim'
import { entriesOf, fill } from './entries'
import { guardSecrets, makeReady, type Ready, seal } from './ready'
import { timeSourceOption, type WaitOptions } from './unopened'
import { correction, type Say, speaker, whatOf } from './words'

/* A door that a command opens for what it does next: what `connect` and `exec` share. */

const TIME_RULE = '1 to 254 minutes, or a duration with a unit such as 90s, 15m, 1h30m, 1d (at most 16,777,215 s)'

export interface DoorOptions extends WaitOptions, AddressOptions {
  time: number
  wait: number
  close?: boolean
  force?: boolean
}

/** A door of a server, as the one knock for it that is ready, and the key that seals it. */
export interface Door {
  readonly key: KeyFile
  readonly ready: Ready<Outgoing>
}

/** The description of what stands on the command line in a host's place. */
export const HOST = 'server, profile, or name of a key (which stands for its host)'

/**
 * Gives a command the options of {@link DoorOptions}.
 * @param seconds the lifetime that is asked for unless -t names another
 * @param closing the description of --close
 */
export function withDoor(command: Command, seconds: number, closing: string): Command {
  withTarget(command).addOption(reading('-t, --time <time>', TIME, readTime, TIME_RULE).default(seconds, formatDuration(seconds)))
  withAddress(command)
    .addOption(
      reading('--wait <seconds>', 'how many seconds to knock', whole(1, MAX_WAIT), `seconds from 1 to ${MAX_WAIT}`).default(
        DEFAULT_WAIT,
      ),
    )
    .addOption(timeSourceOption())
    .option('--close', closing)
    .option('--dry-run', DRY_RUN)
    .addOption(forceOption())
  return withWay(refusingInFront(command))
}

/** Has a command refuse options that stand in front of it: they would be the plain knock's, and do nothing. */
export function refusingInFront(command: Command): Command {
  return command.hook('preAction', ({ parent }) => {
    const stray = parent?.options.find((option) => parent.getOptionValueSource(option.attributeName()) === 'cli')
    if (!stray) return
    const flag = stray.short ?? stray.long
    throw new UsageFault(`${flag} comes before "${command.name()}"`, { hint: `put ${flag} after "${command.name()}"` })
  })
}

/** A port to connect to. */
export const readPort = (text: string): number => {
  const { port, protocol } = readTyped(text) ?? { port: 0, protocol: null }
  if (port === 0 || protocol === 'udp') throw new UsageFault(`expected a port from 1 to 65535, got ${quoted(text)}`)
  return port
}

/** What stands on the command line in a host's place. */
export interface Target {
  readonly name: string
  readonly isProfile: boolean
  /** The first service of the profile that a connection can be made to; null: there is none. */
  readonly service: number | null
  /** All of the profile's services; those without a protocol are meant by TCP, too. */
  readonly services: readonly TypedService[]
}

/**
 * What a name on the command line stands for: the one place that knows.
 * @param target a host by its name or address; or a profile, or a key by its name without a dot, which stand for the key's host where they name no other
 * @throws {Fault} where there is no key for it
 */
export async function aimAt(
  { name, isProfile }: Pick<Target, 'name' | 'isProfile'>,
  command: Command,
): Promise<Aim & { readonly key: KeyFile }> {
  const options = command.opts<DoorOptions>()
  const { key: named, keyFd, server } = options
  // Standard input is for what comes behind the door.
  const key = named === undefined && keyFd === undefined ? await keyForHost(name, server ?? name) : await chosenKey(options, true)
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
  if (!profile) return { name, isProfile: false, service: null, services: [] }
  const { key, wait } = profile
  try {
    // That it is to wait, without a time, is said here anyway.
    fill(command, typeof key === 'string' ? { ...profile, key: keyOfProfile(path, key) } : profile, wait === true ? ['wait'] : [])
  } catch (error) {
    // Such as a time without end, which a plain knock may ask for.
    throw error instanceof Fault ? new Fault(`${path}: profile "${name}": ${error.message}`, { hint: error.hint }) : error
  }
  const { services = '', protocol } = profile
  const read = entries.find((entry) => entry.name === 'services')?.read
  const doors = services ? (read?.(String(services)) as TypedService[]) : []
  const service = doors.find((door) => isShownByTcp(door, protocol as Protocol | undefined))?.port ?? null
  const typed = doors.map((door) => ({ ...door, protocol: door.protocol ?? (protocol === 'udp' ? 'udp' : null) }))
  return { name, isProfile: true, service, services: typed }
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
  guardSecrets(options)
  const aim = await aimAt(target, command)
  const { key } = aim
  const port = asked ?? onlyService(key, 'tcp').port
  const isUsual = command.getOptionValueSource('time') === 'default'
  const seconds = isUsual ? usualTime(options.time, key) : options.time
  const request = { action: 'open', protocol: 'tcp', once, port, seconds } as const
  // The terminal belongs to the program that we are run for, or that we run.
  const speak = () => (options.verbose ? speaker(options, started) : null)
  const ready = await makeReady(options, seal(options, aim, [{ request, watched: port }]), speak)
  if (ready === null) return null
  const { host, address, say } = ready
  say?.(`knocking at ${placeOf(host, address)} for port ${port}, with key ${key.id}${correction(options)}`)
  return { key, ready }
}

/** Reports that a pass has been sent. */
export function tellPass({ outgoing: [{ sending, sequence }], say }: Ready<Outgoing>): (pass: number) => void {
  return (pass) => say?.(`sent ${whatOf([sequence], sending.udp)}, pass ${pass}`)
}

/** Closes a door; where that can't be sent, it closes by itself when its time is up. */
export async function close(sending: Sending, address: string, say: Say | null): Promise<void> {
  try {
    await knockToClose(sending, address)
    say?.('sent a knock to close the port')
  } catch (error) {
    warnOf(NAME, `could not close the port, which stays open until its time is up: ${reason(error)}`)
  }
}

function readTime(text: string): number | null {
  const minutes = whole(1, 254)(text)
  return minutes === null ? parseLifetime(text) : minutes * 60
}
