import { homedir } from 'node:os'
import type { Command } from 'commander'
import type { Plan, Wishes } from '../../client/add/add'
import type { SshHost } from '../../client/add/ssh-config'
import type { Entry } from '../../client/profiles'
import { KEY_ID_RULE } from '../../protocol/key'
import { Fault, keepFault, printable } from '../../system/fault'
import { readId, reading, subcommand } from '../options'
import { EXIT, failBy, hintAt, warnOf } from '../voice'
import { NAME } from './aim'
import { entriesOf } from './entries'
import { knockByProfile } from './knock'
import { checkNoCommand } from './profile'
import { guardSecrets } from './ready'

/* The key of a new server, from what the server printed to an ssh that knocks: the subcommand `add`. */

interface Options extends Wishes {
  readonly sshConfig?: boolean
  readonly knock: boolean
}

/** Gives knockclient the subcommand `add`. */
export function addAdd(parent: Command): void {
  subcommand(
    parent,
    'add [file]',
    'put a key in its place, make a profile and the lines for ssh, and try a knock: a key file, - for standard input, or the line "kt1..."',
    'add alice.key',
  )
    .summary("add a server's key, with a profile and ssh")
    .addOption(reading('--as <id>', 'name of the key here (default: its own)', readId, KEY_ID_RULE))
    .addOption(reading('--profile <name>', "name of the profile (default: the key's host)", readId, KEY_ID_RULE))
    .option('-r, --server <host>', "server (default: the key's host)")
    .option('--replace', 'replace an older key, which is kept as .old, and another profile')
    .option('--keep-sealed', 'leave the key under its passphrase, which each knock then asks for')
    .option('--ssh-config', 'have ssh knock by itself, without asking')
    .option('--no-knock', 'do not try a knock')
    .action(async (what: string | undefined, options: Options) => {
      process.exitCode = await add(what, options, parent)
    })
}

/** @returns the exit code */
async function add(what: string | undefined, options: Options, program: Command): Promise<number> {
  guardSecrets({})
  const [{ bring }, { carryOut, planToAdd }] = await Promise.all([
    import('../../client/add/bring'),
    import('../../client/add/add'),
  ])
  const entries: readonly Entry[] = entriesOf(program)
  const brought = await bring(what)
  if (brought.isExposed) warnOf(NAME, `${brought.path}: other users of this machine could read this key, and knock with it`)
  const plan = await planToAdd(brought, options, entries)
  checkNoCommand(program, plan.profile.name)
  const isWanted = plan.ssh !== null && (await wantsSsh(plan.ssh, options))
  const old = await carryOut(plan, entries)
  const written = plan.ssh && isWanted ? await (await import('../../client/add/ssh-config')).writeSsh(homedir(), plan.ssh) : []
  const code = options.knock ? await tryKnock(plan) : EXIT.ok
  report(plan, written, old)
  if (plan.spare !== null) print(`${plan.spare} is no longer needed: delete it`)
  return code
}

/**
 * Whether ssh's files are to be changed: as asked for, or as answered on a terminal; without either, the lines are printed.
 * @throws {Fault} where that is asked for, and can't be done
 */
async function wantsSsh(target: SshHost, { sshConfig = false }: Options): Promise<boolean> {
  const [{ readSsh, sshPaths, stepForSsh }, { isConfirmed }] = await Promise.all([
    import('../../client/add/ssh-config'),
    import('../../client/add/confirm'),
  ])
  const { config } = sshPaths(homedir())
  const faults: Fault[] = []
  const files = await keepFault(faults, () => readSsh(homedir()))
  if (faults.length > 0 && sshConfig) throw faults[0]
  for (const { message } of faults) warnOf(NAME, message)
  const { block, theirs, change } = stepForSsh(target, files ?? { config: null, ours: null })
  if (theirs !== null) print(`${config} has this block, which is not changed:\n${indented(theirs)}`)
  if (change === 'kept') {
    print(`"ssh ${target.host}" knocks already`)
    return false
  }
  if (change === 'theirs' && sshConfig)
    throw new Fault(`${config}: has a block for ${target.host} with a proxy of its own`, {
      hint: 'change that block by hand, or leave out --ssh-config',
    })
  const question = `have "ssh ${target.host}" knock by itself? ${config} will include:\n${indented(block)}`
  if (files !== undefined && change !== 'theirs' && (sshConfig || (await isConfirmed(question)))) return true
  print(`for "ssh ${target.host}" to knock by itself, ${config} needs, in front of all others:\n${indented(block)}`)
  return false
}

/** Knocks as the profile does; that it fails undoes nothing. @returns the exit code of the knock */
async function tryKnock({ key, profile }: Plan): Promise<number> {
  const code = await knockByProfile(profile.name, key).catch((fault) => {
    if (fault instanceof Fault) return failBy(NAME, fault)
    throw fault
  })
  if (code !== EXIT.ok) hintAt(`the key is in its place: knock again with "${NAME} ${profile.name}"`)
  else if (profile.given.wait) print(`knocked at ${profile.given.host}: the service answers`)
  else print(`knocked at ${profile.given.host}: nothing shows whether it has opened`)
  return code
}

/** What is said of a file, by what was done with it. */
const DONE = { new: 'wrote', kept: 'already there:', replaced: 'replaced' } as const

/** Says what was written where. @param old where the key is kept that was replaced; null: none was */
function report({ key, keyFile, profile, ssh }: Plan, written: readonly string[], old: string | null): void {
  print(`${DONE[keyFile.step]} ${keyFile.path}: the key ${key.id}`)
  if (old !== null) print(`kept ${old}: the key that was there`)
  print(`${DONE[profile.step]} ${profile.path}: "${NAME} ${profile.name}" knocks`)
  for (const path of written) print(`wrote ${path}: "ssh ${ssh?.host}" knocks`)
}

const indented = (block: string): string => block.trimEnd().replace(/^/gm, '  ')

function print(text: string): void {
  process.stdout.write(`${text.split('\n').map(printable).join('\n')}\n`)
}
