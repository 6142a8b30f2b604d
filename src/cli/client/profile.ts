import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Command, Option } from 'commander'
import type { Entry, Given } from '../../client/profiles'
import { clientKeys, keyPath } from '../../keys/keyring'
import { KEY_ID } from '../../protocol/key'
import { UsageFault } from '../../system/fault'

/* Profiles on the command line: an option of a knock is an entry of a profile, read and checked by the option itself. */

/** What two options are called in a profile; the others have their own names there, with underscores. */
const NAMES: Readonly<Record<string, string>> = { server: 'host', port: 'services' }
/** What asks about this one run, and is nothing to keep. */
const MOMENTARY = new Set([
  'help',
  'version',
  'dryRun',
  'json',
  'last',
  'quiet',
  'verbose',
  'force',
  'keyFd',
  'passcode',
  'passcodeBase',
  'pinDigits',
])
/** What an option on the command line takes out of a profile: it could not be meant beside it. */
const TAKES_OUT: Readonly<Record<string, readonly string[]>> = {
  close: ['lock', 'once', 'wait', 'time'],
  lock: ['close', 'once', 'wait', 'time'],
  once: ['wait', 'close', 'lock'],
  ipv4: ['ipv6'],
  ipv6: ['ipv4'],
  // Another server is not trusted because the profile's is.
  stun: ['address_url', 'stun_trusted'],
  address_url: ['stun', 'stun_trusted'],
}

const nameOf = (option: Option) =>
  NAMES[option.attributeName()] ?? option.attributeName().replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`)
const lasting = (command: Command) => command.options.filter((option) => !MOMENTARY.has(option.attributeName()))

/** The entries that a profile may have: one for each option of a knock. */
export function entriesOf(command: Command): Entry[] {
  return lasting(command).map((option) => ({
    name: nameOf(option),
    kind: option.isBoolean() ? 'flag' : option.optional ? 'optional' : 'value',
    read: (text) => readBy(option, text),
  }))
}

function readBy(option: Option, text: string): unknown {
  // Commander's own message has no such form.
  if (option.argChoices && !option.argChoices.includes(text)) throw new UsageFault(`expected ${option.argChoices.join(', ')}`)
  return option.parseArg ? option.parseArg(text, undefined) : text
}

/** Keeps what is typed of a command's options, as it is typed; to be called before it is parsed. */
export function recording(command: Command): Given {
  const given: Record<string, string | true> = {}
  for (const option of lasting(command))
    command.on(`option:${option.name()}`, (text: string | undefined | null) => {
      given[nameOf(option)] = text ?? true
    })
  return given
}

/** Options of a profile, with those on the command line in their place or beside them. */
export function merge(profile: Given, typed: Given): Given {
  const isClosing = typed.time === '255'
  const out = new Set(Object.keys(isClosing ? { ...typed, close: true } : typed).flatMap((name) => TAKES_OUT[name] ?? []))
  const rest = Object.entries(profile).filter(([name]) => !out.has(name))
  return { ...Object.fromEntries(rest), ...typed }
}

/** Gives a command the options that it does not have from its command line; no key where --key-fd gives one. */
export function apply(command: Command, merged: Given, typed: Given): void {
  const hasKey = command.getOptionValueSource('keyFd') === 'cli'
  for (const option of lasting(command)) {
    const text = merged[nameOf(option)]
    if (text === undefined || nameOf(option) in typed) continue
    // The profile's key is not the one that is wanted.
    if (hasKey && nameOf(option) === 'key') continue
    const value =
      text !== true ? readBy(option, text) : option.isBoolean() ? true : readBy(option, String(option.presetArg ?? ''))
    command.setOptionValueWithSource(option.attributeName(), value, 'config')
  }
}

/** Gives a command what a profile says and its command line does not, of the options that it has. @param without entries that it takes otherwise */
export function fill(command: Command, profile: Given, without: readonly string[]): void {
  const own = lasting(command).filter((option) => !without.includes(nameOf(option)))
  const typed = own.filter((option) => command.getOptionValueSource(option.attributeName()) === 'cli')
  const given = Object.fromEntries(Object.entries(profile).filter(([name]) => !without.includes(name)))
  const said = Object.fromEntries(typed.map((option) => [nameOf(option), true as const]))
  apply(command, merge(given, said), said)
}

/** Options as they may be kept: a key's file by a path that is good in any folder. */
export function keepable(given: Given): Given {
  const { key } = given
  if (typeof key !== 'string' || (KEY_ID.test(key) && !existsSync(key))) return given
  return { ...given, key: resolve(key) }
}

/**
 * What is kept of a knock that nobody has asked to keep: as {@link keepable}, with the key that was used, since what is there later may be another
 * one, and without a correction of the clock, which is of the moment.
 */
export function pinned(given: Given, id: string): Given {
  const { key } = keepable(given)
  const path = typeof key === 'string' && !KEY_ID.test(key) ? key : keyPath(clientKeys(), typeof key === 'string' ? key : id)
  const { time_offset: _, ...lasting } = given
  return { ...lasting, key: path }
}
