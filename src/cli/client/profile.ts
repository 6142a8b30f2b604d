import { existsSync } from 'node:fs'
import type { Command } from 'commander'
import { isShownByTcp } from '../../client/foreseen'
import type { Entry, Given } from '../../client/profiles'
import { clientKeys, keyPath } from '../../keys/keyring'
import { KEY_ID } from '../../protocol/key'
import type { Protocol } from '../../protocol/request'
import type { TypedService } from '../../protocol/service'
import { quoted, thereAre, UsageFault } from '../../system/fault'
import { meantByWord, meantByWords } from '../meant'
import { subcommand } from '../options'
import { hintAt, printTable, warnOf } from '../voice'
import { checkTrust } from './address'
import { NAME } from './aim'
import { apply, entriesOf, keepable, merge, recording } from './entries'
import { type KnockOptions, withKnock } from './knock-options'
import { refuseWithout } from './option-rules'
import { guardSecrets } from './ready'

/* Profiles: options of a knock by a name of the user's own, and the subcommand that keeps them. */

/** Gives knockclient the subcommand `profile`. */
export function addProfile(command: Command): void {
  const profile = subcommand(
    command,
    'profile',
    'save, list and remove profiles: sets of options under a name of your own',
    'profile list',
  ).summary('save, list and remove sets of options')
  const save = withKnock(
    subcommand(profile, 'save <name>', 'save options as a profile', 'profile save gate -r gate.example -p 22,443 -t 15m --wait'),
  )
    .option('--last', 'save the options of the last knock, too')
    .option('--force', 'replace an existing profile')
  // Not offered, and told why all the same.
  save.options.find(({ long }) => long === '--key-fd')?.hideHelp()
  const toSave = recording(save)
  save.action(async (name: string, { last, force }: { last?: boolean; force?: boolean }) => {
    checkNoCommand(command, name)
    if (save.getOptionValueSource('keyFd') === 'cli')
      throw new UsageFault('--key-fd cannot be saved: nothing will be open there next time', { hint: 'name the key with -k' })
    const { clientConfig, readLast, saveProfile } = await import('../../client/profiles')
    const entries = entriesOf(command)
    const given = keepable(last ? merge(await readLast(entries), toSave) : toSave)
    if (Object.keys(given).length === 0)
      throw new UsageFault('no options to save', { hint: 'give options such as -r and -p, or --last' })
    if (given.stun === undefined) refuseWithout(save, 'stun', '--stun')
    checkTrust(given.stun !== undefined, given.stun_trusted === true)
    await saveProfile(clientConfig(), name, given, entries, force ?? false)
    process.stdout.write(`saved in ${clientConfig()}: "${NAME} ${name}" knocks with these options\n`)
    guardSecrets(save.opts<KnockOptions>())
    await warnOfServices(given, entries)
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

/** Checks that a profile's name is no command, which it would never be typed for. @throws {UsageFault} */
export function checkNoCommand(program: Command, name: string): void {
  if (program.commands.some((other) => other.name() === name))
    throw new UsageFault(`"${name}" is a command`, { hint: 'choose another name' })
}

/** Warns of ports that are saved and that the key, by its file, does not open: the profile may be for another time, when it does. */
async function warnOfServices({ services, key, protocol, close, lock }: Given, entries: readonly Entry[]): Promise<void> {
  if (typeof services !== 'string' || close || lock) return
  const doors = entries.find(({ name }) => name === 'services')?.read(services) as TypedService[]
  const [{ glimpsedKey }, { beyond }] = await Promise.all([import('../../client/client-key'), import('../../client/foreseen')])
  const file = await glimpsedKey(typeof key === 'string' ? key : undefined)
  const asked = doors.map((door) => ({ port: door.port, protocol: door.protocol ?? ((protocol ?? 'any') as Protocol) }))
  const refused = file === null ? [] : beyond(file, asked)
  if (file === null || refused.length === 0) return
  warnOf(NAME, `the key ${file.id} may not open ${refused.join(', ')}`)
  hintAt('change the grant on the server, and export the key again; or save the profile with other ports')
}

/** Takes options from a profile, or from the last knock, where the command line does not say otherwise. @returns all of them */
export async function byProfile(command: Command, name: string | undefined, typed: Given): Promise<Given> {
  if (name !== undefined && command.opts<KnockOptions>().last) throw new UsageFault('a profile cannot be used with --last')
  const { clientConfig, keyOfProfile, readLast, readProfiles } = await import('../../client/profiles')
  const entries = entriesOf(command)
  const path = clientConfig()
  const profiles = name === undefined ? new Map<string, Given>() : await readProfiles(path, entries)
  const found = name === undefined ? await readLast(entries) : profiles.get(name)
  if (!found) {
    const there = [...profiles.keys()]
    const word = String(name)
    const hint = meantByWord(command, word) ?? meantByKey(word) ?? meantByWords(NAME, [word], there)
    throw noProfile(path, word, there, hint)
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

/** What to type for the name of a key, where a profile is expected. */
function meantByKey(word: string): string | undefined {
  if (!KEY_ID.test(word) || !existsSync(keyPath(clientKeys(), word))) return undefined
  return `to knock with the key of that name, run "${NAME} -k ${word}"`
}

function noProfile(path: string, name: string, there: readonly string[], hint?: string): UsageFault {
  return new UsageFault(`${path}: no profile ${quoted(name)} ${thereAre(there.join(', '))}`, { hint })
}

/** What is wrong with several words, of which the first stands where a profile does. */
export async function tooMany(command: Command, words: readonly string[]): Promise<UsageFault> {
  const { clientConfig, readProfiles } = await import('../../client/profiles')
  const profiles = await readProfiles(clientConfig(), entriesOf(command))
  const hint = meantByWord(command, words[0], words[1]) ?? meantByWords(NAME, words, [...profiles.keys()])
  return new UsageFault(`too many arguments: expected 1, got ${words.length}`, { hint: hint ?? `see "${NAME} --help"` })
}
