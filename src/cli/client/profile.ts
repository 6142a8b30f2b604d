import type { Command } from 'commander'
import { isShownByTcp } from '../../client/foreseen'
import type { Given } from '../../client/profiles'
import { quoted, UsageFault } from '../../system/fault'
import { meantByWord, meantByWords } from '../meant'
import { refuseIdle, subcommand } from '../options'
import { printTable } from '../voice'
import { checkTrust } from './address'
import { NAME } from './aim'
import { apply, entriesOf, keepable, merge, recording } from './entries'
import { type KnockOptions, withKnock } from './knock-options'
import { refuseWithout } from './option-rules'

/* Profiles: options of a knock by a name of the user's own, and the subcommand that keeps them. */

/** Gives knockclient the subcommand `profile`. */
export function addProfile(command: Command): void {
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
    const { clientConfig, readLast, saveProfile } = await import('../../client/profiles')
    const entries = entriesOf(command)
    const given = keepable(last ? merge(await readLast(entries), toSave) : toSave)
    if (Object.keys(given).length === 0) throw new UsageFault('expected options to save, got none: give them, or --last')
    if (given.stun === undefined) refuseWithout(save, 'stun', '--stun')
    checkTrust(given.stun !== undefined, given.stun_trusted === true)
    await saveProfile(clientConfig(), name, given, entries, force ?? false)
    process.stdout.write(`saved in ${clientConfig()}: "${NAME} ${name}" knocks\n`)
  })
  subcommand(profile, 'list', 'list the profiles', 'profile list').action(async () => {
    const { clientConfig, readProfiles } = await import('../../client/profiles')
    const profiles = await readProfiles(clientConfig(), entriesOf(command))
    const rows = [...profiles].map(([name, { host, services, key }]) =>
      [name, host, services, key].map((cell) => String(cell ?? '-')),
    )
    if (rows.length === 0) process.stdout.write(`${clientConfig()}: no profiles\n`)
    else printTable([['PROFILE', 'HOST', 'SERVICES', 'KEY'], ...rows])
  })
  subcommand(profile, 'rm <profile>', 'remove a profile', 'profile rm gate').action(async (name: string) => {
    const { clientConfig, readProfiles, removeProfile } = await import('../../client/profiles')
    const path = clientConfig()
    const profiles = await readProfiles(path, entriesOf(command))
    if (!profiles.has(name)) throw noProfile(path, name, [...profiles.keys()])
    await removeProfile(path, name, entriesOf(command))
    process.stdout.write(`removed from ${path}: ${name}\n`)
  })
}

/** Takes options from a profile, or from the last knock, where the command line does not say otherwise. @returns all of them */
export async function byProfile(command: Command, name: string | undefined, typed: Given): Promise<Given> {
  if (name !== undefined && command.opts<KnockOptions>().last) throw new UsageFault('expected a profile or --last, got both')
  const { clientConfig, keyOfProfile, readLast, readProfiles } = await import('../../client/profiles')
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
  const { port, protocol } = command.opts<KnockOptions>()
  if (typed.wait !== undefined || typed.services === undefined || port?.some((door) => isShownByTcp(door, protocol)))
    return merged
  command.setOptionValueWithSource('wait', undefined, 'config')
  const { wait: _, ...rest } = merged
  return rest
}

function noProfile(path: string, name: string, there: readonly string[], hint?: string): UsageFault {
  return new UsageFault(`${path}: expected a profile ${quoted(name)}, and it has ${there.join(', ') || 'none'}`, { hint })
}

/** What is wrong with several words, of which the first stands where a profile does. */
export async function tooMany(command: Command, words: readonly string[]): Promise<UsageFault> {
  const { clientConfig, readProfiles } = await import('../../client/profiles')
  const profiles = await readProfiles(clientConfig(), entriesOf(command))
  const hint = meantByWord(command, words[0], words[1]) ?? meantByWords(NAME, words, [...profiles.keys()])
  return new UsageFault(`too many arguments. Expected 1 argument but got ${words.length}: see "${NAME} --help"`, { hint })
}
