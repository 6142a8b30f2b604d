import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import type { Command, Option } from 'commander'
import type { Entry, Given } from '../../client/profiles'
import { clientKeys, keyPath } from '../../keys/keyring'
import { KEY_ID } from '../../protocol/key'
import { UsageFault } from '../../system/fault'
import { entryOf, lasting, OPTION_NAMES, OPTIONS, optionsThat } from './option-rules'

/* Profiles on the command line: an option of a knock is an entry of a profile, read and checked by the option itself. */

/** The entries that a profile may have: one for each option of a knock. */
export function entriesOf(command: Command): Entry[] {
  return lasting(command).map(({ option, entry }) => ({
    name: entry,
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
  for (const { option, entry } of lasting(command))
    command.on(`option:${option.name()}`, (text: string | undefined | null) => {
      given[entry] = text ?? true
    })
  return given
}

/** Options of a profile, with those on the command line in their place or beside them. */
export function merge(profile: Given, typed: Given): Given {
  const asTyped = typed.time === '255' ? { ...typed, close: true } : typed
  const said = OPTION_NAMES.filter((name) => entryOf(name) in asTyped)
  const out = said.flatMap((name) => OPTIONS[name].takesOut ?? []).map(entryOf)
  const rest = Object.entries(profile).filter(([entry]) => !out.includes(entry))
  return { ...Object.fromEntries(rest), ...typed }
}

/** Gives a command the options that it does not have from its command line; no key where --key-fd gives one. */
export function apply(command: Command, merged: Given, typed: Given): void {
  const hasKey = command.getOptionValueSource('keyFd') === 'cli'
  for (const { option, entry } of lasting(command)) {
    const text = merged[entry]
    if (text === undefined || entry in typed) continue
    // The profile's key is not the one that is wanted.
    if (hasKey && entry === 'key') continue
    const value =
      text !== true ? readBy(option, text) : option.isBoolean() ? true : readBy(option, String(option.presetArg ?? ''))
    command.setOptionValueWithSource(option.attributeName(), value, 'config')
  }
}

/**
 * Gives a command what a profile says and its command line does not, of the options that it has, but for what is of a plain knock alone.
 * @param without entries that it takes otherwise, too
 */
export function fill(command: Command, profile: Given, without: readonly string[]): void {
  const others = [...optionsThat(({ isPlain }) => isPlain ?? false).map(entryOf), ...without]
  const own = lasting(command).filter(({ entry }) => !others.includes(entry))
  const typed = own.filter(({ option }) => command.getOptionValueSource(option.attributeName()) === 'cli')
  const given = Object.fromEntries(Object.entries(profile).filter(([entry]) => !others.includes(entry)))
  const said = Object.fromEntries(typed.map(({ entry }) => [entry, true as const]))
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
 * one, and without what is of the moment, such as a correction of the clock.
 */
export function pinned(given: Given, id: string): Given {
  const { key } = keepable(given)
  const path = typeof key === 'string' && !KEY_ID.test(key) ? key : keyPath(clientKeys(), typeof key === 'string' ? key : id)
  const momentary = optionsThat(({ kept }) => kept !== 'always').map(entryOf)
  return { ...Object.fromEntries(Object.entries(given).filter(([entry]) => !momentary.includes(entry))), key: path }
}
