import type { Socket } from 'node:net'
import { constants } from 'node:os'
import type { Command } from 'commander'
import { knock, knockUntilConnected, prepare } from '../client'
import { reason } from '../host/fault'
import { handOver } from '../host/hand-over'
import { NAME, placeOf } from './aim'
import { type Door, type DoorOptions, fillFromProfile, findDoor, readPort, tellPass, withDoor } from './door'
import { subcommand } from './options'
import { complainOfSilence } from './silence'
import { EXIT, warnOf } from './voice'

/** A door that lets one connection in, which comes at once. */
const DEFAULT_SECONDS = 30
/** A lease is renewed when this part of its time is over, so that there is time for another try; and once a day at least, which a timer can wait. */
const RENEW_PART = 2 / 3
const MOST_RENEW_SECONDS = 24 * 3_600

interface Options extends DoorOptions {
  once: boolean
  renew?: boolean
}

/** Gives knockclient the subcommand `connect`. */
export function addConnect(parent: Command): void {
  const description =
    'knock, connect to a service, and hand the connection over to standard input and output: for ssh, as its ProxyCommand'
  withDoor(subcommand(parent, 'connect', description, 'connect gate.example 22'), DEFAULT_SECONDS)
    .argument('<host>', "the server, or a profile, or the name of a key, which stands for the key's host")
    .argument('<port>', 'the port of the service', readPort)
    .option('--no-once', 'open for more than one connection')
    .option('--renew', 'keep the door open for as long as the connection lives, and not for one connection only')
    .action(async (host: string, port: number, _options: Options, command: Command) => {
      await fillFromProfile(command, host)
      process.exitCode = await connect(host, port, command)
    })
}

async function connect(name: string, port: number, command: Command): Promise<number> {
  const options = command.opts<Options>()
  const door = await findDoor(name, port, options.once && !options.renew, command)
  if (!door) return EXIT.ok
  const { host, address, sending, sequence, say } = door
  const { connection, seen } = await knockUntilConnected(sending, address, sequence, port, options.wait * 1000, tellPass(door))
  if (!connection) return complainOfSilence(options, door, { shut: [port], seen })
  say?.(`connected to ${host} port ${port}`)
  const renewal = options.renew && setInterval(() => again(door), Math.min(options.t * RENEW_PART, MOST_RENEW_SECONDS) * 1000)
  const signalled = options.close ? endAtSignal(connection) : () => null
  try {
    const ended = await handOver(connection, `${placeOf(host, address)} port ${port}`)
    return signalled() ?? (ended ? EXIT.ok : EXIT.failure)
  } finally {
    clearInterval(renewal || undefined)
    if (options.close) await close(door)
  }
}

/** A new knock for the same door. One that can't be sent is missed by nobody before the lease has ended: the next may do. */
async function again({ address, sending, say }: Door): Promise<void> {
  await knock(sending, address, prepare(sending, Date.now()), () => {}).then(
    () => say?.('knocked again'),
    (error) => say?.(`could not knock again: ${reason(error)}`),
  )
}

/** Closes a door; where that can't be said, it shuts by itself when its time is up. */
export async function close({ address, sending, say }: Door): Promise<void> {
  const request = { ...sending.request, action: 'close', once: false } as const
  try {
    await knock(sending, address, prepare({ ...sending, request }, Date.now()), () => {})
    say?.('knocked to close the door')
  } catch (error) {
    warnOf(NAME, `the door could not be closed and shuts when its time is up: ${reason(error)}`)
  }
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
