import { existsSync } from 'node:fs'
import { dirname } from 'node:path'
import { type Command, Option } from 'commander'
import { knockAll, knockAllUntilOpen } from '../../client/client'
import { chosenKey } from '../../client/client-key'
import { knockByEither, worthOf } from '../../client/either'
import { isShownByTcp, mayOpenTcp, onlyService, usualTime } from '../../client/foreseen'
import { knownAddress } from '../../client/open-for'
import type { Given } from '../../client/profiles'
import type { Outgoing, Sent } from '../../client/sending'
import type { KeyFile } from '../../keys/key-file'
import type { Opening } from '../../protocol/opening'
import { type Action, AS_SEEN } from '../../protocol/request'
import type { TypedService } from '../../protocol/service'
import { Fault, inOneLine } from '../../system/fault'
import { program } from '../options'
import { passcodeBaseOption, pinDigitsOption } from '../passcode-options'
import { EXIT, noteOf } from '../voice'
import { DRY_RUN, forceOption, hasMeantHost, NAME } from './aim'
import { pinned, recording } from './entries'
import { withShortHelp } from './help'
import { checkOptions, type KnockOptions, unwatched, withKnock } from './knock-options'
import { optionsThat } from './option-rules'
import { openingOf } from './outcome'
import { byProfile, tooMany } from './profile'
import { guardSecrets, makeReady, type Ready, seal } from './ready'
import { reportUnopened, warnOfTouches } from './unopened'
import { correction, describe, type Say, speaker, unansweredBy, whatOf } from './words'

/* The plain knock: knockclient without a subcommand. */

const DEFAULT_SECONDS = 5 * 60

/** The program, but for its subcommands. */
export function knockCommand(): Command {
  const example = `${NAME} -r gate.example -p 22 --wait && ssh gate.example`
  const command = withKnock(withShortHelp(program(NAME, 'Send a knock to a server, so that it opens a port for you.', example)))
    .enablePositionalOptions()
    .argument('[profile]', 'use the options saved under this name (see "profile")')
    // They are told what to type in its place.
    .allowExcessArguments()
    .option('--last', 'use the options of the last knock')
    .option('--dry-run', DRY_RUN)
    .option('--json', 'with --dry-run: print JSON')
    .addOption(forceOption())
    .addOption(
      new Option('--passcode', 'knock without a key: ask for a PIN and the code of an authenticator app').conflicts(
        optionsThat(({ isSealed }) => isSealed ?? false),
      ),
    )
    .addOption(passcodeBaseOption())
    .addOption(pinDigitsOption())
  const typed = recording(command)
  return command.action(async (name: string | undefined) => {
    if (command.args.length > 1) throw await tooMany(command, command.args)
    const given = name !== undefined || command.opts<KnockOptions>().last ? await byProfile(command, name, typed) : typed
    const options = command.opts<KnockOptions>()
    if (options.passcode) await (await import('./passcode')).knockByPasscode(options)
    else process.exitCode = await knockAsAsked(command, options, given)
  })
}

/** Knocks as `knockclient PROFILE` does, with a key that has been read already. @returns the exit code @throws {Fault} */
export async function knockByProfile(profile: string, key: KeyFile): Promise<number> {
  const command = knockCommand()
  const given = await byProfile(command, profile, {})
  return knockAsAsked(command, command.opts<KnockOptions>(), given, key)
}

/**
 * The pipeline of a plain knock: request → ports → server, and a look at the door.
 * @param known the key, where it has been read already
 * @returns the exit code
 */
async function knockAsAsked(command: Command, options: KnockOptions, given: Given, known?: KeyFile): Promise<number> {
  const started = performance.now()
  const action = checkOptions(command, options)
  guardSecrets(options)
  const key = known ?? (await chosenKey(options))
  const aim = { key, host: options.server, isMeant: hasMeantHost(command) }
  const draft = seal(options, aim, requestsOf(options, action, key))
  const ready = await makeReady(options, draft, () => speaker(options, started))
  if (ready === null) return EXIT.ok
  const code = await (options.wait === undefined ? send(options, key, ready) : sendUntilOpen(options, key, ready))
  if (code !== EXIT.ok) return code
  const { say } = ready
  const unanswered = unansweredBy(action, knownAddress(options) !== AS_SEEN, options.wait !== undefined)
  if (unanswered) say?.(`the server never answers; ${unanswered}`)
  // What closes is not wanted again in the next café, and a key from a descriptor is not there again.
  if (action === 'open' && options.keyFd === undefined) await remember(given, key.id, options.verbose ? say : null)
  return EXIT.ok
}

/** What to ask for each door, and what shows it open: without -p the only one that the key's file knows of; to close, all. @throws {UsageFault} */
function requestsOf(options: KnockOptions, action: Action, key: KeyFile) {
  const { port: doors, protocol, once = false, force, time, wait } = options
  /** Whether a connection shows that a door of this key has opened. */
  const isSeen = (door: TypedService) => isShownByTcp(door, protocol) && (force || mayOpenTcp(key, door.port))
  const seconds = typeof time === 'number' ? time : action === 'open' ? usualTime(DEFAULT_SECONDS, key) : 0
  const asked = doors ?? [action === 'open' ? onlyService(key, protocol) : { port: 0, protocol: null }]
  if (wait !== undefined && !asked.some(isSeen)) throw unwatched()
  return asked.map((door) => ({
    request: { action, protocol: door.protocol ?? protocol, once, port: door.port, seconds },
    watched: isSeen(door) ? door.port : null,
  }))
}

/** What is said of knocks while they are sent. */
interface Telling {
  /** After each pass. */
  pass(pass: number, sequences: readonly Sent['sequence'][]): void
  /** Says something behind the first words. */
  say(text: string): void
  /** When those are said. */
  readonly begun: Promise<void> | undefined
}

function tellingOf(options: KnockOptions, key: KeyFile, { host, address, outgoing, say }: Ready<Outgoing>): Telling {
  // The packets first: it takes longer to find the words for them.
  const described = say ? new Promise((told) => setImmediate(told)).then(() => describe(outgoing, host, address)) : null
  const begun = described?.then((text) => say?.(`${text}, with key ${key.id}${correction(options)}`))
  const sayBehind = (text: string) => begun?.then(() => say?.(text))
  return {
    begun,
    say: sayBehind,
    pass: (pass, sequences) => {
      if (pass === 1 || options.verbose) sayBehind(`sent ${whatOf(sequences, options.udp)}, pass ${pass}`)
    },
  }
}

/** Sends knocks as often as asked. @returns the exit code */
async function send(options: KnockOptions, key: KeyFile, ready: Ready<Outgoing>): Promise<number> {
  const { address, outgoing } = ready
  const telling = tellingOf(options, key, ready)
  const all = outgoing.map(({ sequence }) => sequence)
  const touched = await knockAll(outgoing, address, (pass) => telling.pass(pass, all))
  await telling.begun
  await warnOfTouches(options, touched)
  return EXIT.ok
}

/** Sends knocks until what they open is open, or the time of --wait is up. @returns the exit code */
async function sendUntilOpen(options: KnockOptions, key: KeyFile, ready: Ready<Outgoing>): Promise<number> {
  const { pass, say, begun } = tellingOf(options, key, ready)
  const told = { pass, opened: (port: number, opening: Opening) => say(`${ready.host} ${openingOf(port, opening)}`) }
  const { by, result, note } = await knockByEither(
    ready,
    ready.end - performance.now(),
    (one, limit, beside) => knockAllUntilOpen(one.outgoing, one.address, limit, told, beside),
    worthOf,
  )
  await begun
  if (!result.isOpen) return reportUnopened(options, key, by, result, note)
  if (note !== null && !options.quiet) noteOf(NAME, note)
  return EXIT.ok
}

/**
 * Keeps the options for --last, but where nothing of ours is: a borrowed machine. That it can't is no failure: the door is open.
 * @param say is told where it can't
 */
async function remember(given: Given, id: string, say: Say | null): Promise<void> {
  const { clientConfig, writeLast } = await import('../../client/profiles')
  if (!existsSync(dirname(clientConfig()))) return
  await writeLast(pinned(given, id)).catch((error) => {
    if (!(error instanceof Fault)) throw error
    say?.(`not saved for --last: ${inOneLine(error)}`)
  })
}
