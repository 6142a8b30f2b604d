import type { Socket } from 'node:net'
import { constants } from 'node:os'
import type { Command } from 'commander'
import { knockByEither, worthOf } from '../../client/either'
import { handOver } from '../../client/hand-over'
import { placeOf } from '../../client/place'
import { knockAgain, renewalPause } from '../../client/renewal'
import type { Outgoing, Sending } from '../../client/sending'
import { inZoneOf } from '../../client/transport'
import { knockUntilConnected } from '../../client/until-connected'
import type { Beside } from '../../client/wait-result'
import { reason } from '../../system/fault'
import { tellOnStandardError, tellWhereShown } from '../../system/tell'
import { subcommand } from '../options'
import { EXIT, noteOf } from '../voice'
import { NAME } from './aim'
import { close, type DoorOptions, fillFromProfile, findDoor, HOST, readPort, type Target, tellPass, withDoor } from './door'
import type { Ready } from './ready'
import { reportUnopened } from './unopened'
import type { Say } from './words'

/** A door that lets one connection in, which comes at once. */
const DEFAULT_SECONDS = 30
interface Options extends DoorOptions {
  once: boolean
  renew?: boolean
}

/** Gives knockclient the subcommand `connect`. */
export function addConnect(parent: Command): void {
  const description =
    'knock, connect to a service, and join the connection to standard input and output: for ssh, as its ProxyCommand'
  // Before its options are read, which may be faulty.
  parent.hook('preSubcommand', (_, command) => {
    if (command.name() === 'connect') tellWhereShown()
  })
  const command = subcommand(parent, 'connect', description, 'connect gate.example 22').summary(
    'knock and connect, as the ProxyCommand of ssh',
  )
  withDoor(command, DEFAULT_SECONDS, 'close the port when the connection ends')
    .argument('<host>', HOST)
    .argument('<port>', 'port of the service', readPort)
    .option('--no-once', 'open for more than one connection')
    .option('--renew', 'keep the port open while the connection lives, for any number of connections')
    .action(async (host: string, port: number, _options: Options, command: Command) => {
      process.exitCode = await connect(await fillFromProfile(command, host), port, command)
    })
}

async function connect(target: Target, port: number, command: Command): Promise<number> {
  const options = command.opts<Options>()
  const door = await findDoor(target, port, options.once && !options.renew, command)
  if (!door) return EXIT.ok
  const knocking = (one: Ready<Outgoing>, limit: number, beside: Beside) => {
    const [{ sending, sequence }] = one.outgoing
    return knockUntilConnected(sending, one.address, sequence, port, limit, tellPass(one), beside)
  }
  const { by, result, note } = await knockByEither(
    door.ready,
    door.ready.end - performance.now(),
    knocking,
    worthOf,
    (result) => 'outcomes' in result || result.resetAndDestroy(),
  )
  if ('outcomes' in result) return reportUnopened(options, door.key, by, result, note)
  const connection = result
  const { host, address, say } = by
  say?.(`connected to ${host} port ${port}`)
  if (note !== null && !options.quiet) noteOf(NAME, note)
  // From now on the terminal is the session's, and after it somebody else's.
  tellOnStandardError()
  // On another network it would open there, for whoever else comes out of that.
  const sending = { ...by.outgoing[0].sending, from: inZoneOf(address, connection.localAddress ?? '') }
  const renewal = options.renew && setInterval(() => again(sending, address, say), renewalPause(sending.request.seconds))
  const signalled = options.close ? endAtSignal(connection) : () => null
  try {
    const ended = await handOver(connection, `${placeOf(host, address)} port ${port}`)
    return signalled() ?? (ended ? EXIT.ok : EXIT.failure)
  } finally {
    clearInterval(renewal || undefined)
    if (options.close) await close(sending, address, say)
  }
}

/** A new knock for the same door. One that can't be sent is missed by nobody before the lease has ended: the next may do. */
async function again(sending: Sending, address: string, say: Say | null): Promise<void> {
  await knockAgain(sending, address).then(
    () => say?.('knocked again'),
    (error) => say?.(`could not knock again: ${reason(error)}`),
  )
}

/** With something left to do, a signal ends the connection first. @returns what gives the exit code, or null where none has come */
function endAtSignal(connection: Socket): () => number | null {
  let code: number | null = null
  for (const signal of ['SIGHUP', 'SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => {
      code = 128 + constants.signals[signal]
      connection.destroy()
    })
  return () => code
}
