import { existsSync } from 'node:fs'
import type { Command } from 'commander'
import { chosenKey, SEALED_SUFFIX } from '../../client/client-key'
import type { Findings } from '../../client/doctor/doctor'
import type { Families } from '../../client/place'
import { parseTimeSource } from '../../client/time-source'
import type { KeyFile } from '../../keys/key-file'
import { clientKeys, keyPath } from '../../keys/keyring'
import { KEY_ID } from '../../protocol/key'
import type { TypedService } from '../../protocol/service'
import { Fault, keepFault } from '../../system/fault'
import { printCheck, summaryOf } from '../checks'
import { reading, subcommand, whole } from '../options'
import { EXIT, jsonOption, printJson } from '../voice'
import { checkAim, hasMeantHost, timeOffsetOption, withTarget } from './aim'
import { aimAt, fillFromProfile, HOST, refusingInFront, type Target } from './door'
import { readDoors } from './knock-options'
import { guardSecrets } from './ready'

/* Whether key, clock, name and network are in order, without a knock: the subcommand `doctor`. */

interface Options extends Families {
  readonly server?: string
  readonly key?: string
  readonly keyFd?: number
  readonly port?: TypedService[]
  readonly datagram?: number
  readonly timeSource?: URL
  readonly timeOffset: number
  readonly json?: boolean
}

/** Gives knockclient the subcommand `doctor`. */
export function addDoctor(parent: Command): void {
  const description =
    'check the key, the clock and the name of the server, and which ports this network lets out to it; it does not knock'
  const command = subcommand(parent, 'doctor', description, 'doctor -r gate.example')
    .summary('check key, clock, name and network, without a knock')
    .argument('[host]', HOST)
  withTarget(refusingInFront(command))
    .addOption(reading('-p, --port <ports>', 'try these ports, too', readPorts, 'a port from 1 to 65535 such as 22 or 22/tcp'))
    .addOption(reading('--datagram <port>', 'try this UDP port, too', whole(1, 65535), 'a port from 1 to 65535'))
    .option('-4, --ipv4', 'try IPv4 only')
    .option('-6, --ipv6', 'try IPv6 only')
    .addOption(reading('--time-source <url>', 'server to check the clock against', parseTimeSource, 'ntp://HOST or https://HOST'))
    .addOption(timeOffsetOption())
    .addOption(jsonOption())
    .action(async (name: string | undefined) => {
      process.exitCode = await doctor(name, command)
    })
}

/** @returns the exit code @throws {Fault} where it is not known what to look at */
async function doctor(name: string | undefined, command: Command): Promise<number> {
  const target = name === undefined ? null : await fillFromProfile(command, name)
  const options = command.opts<Options>()
  checkAim(options)
  guardSecrets({})
  const aim = await findAim(target, command)
  const { examine } = await import('../../client/doctor/doctor')
  const { port = [], datagram, timeSource, timeOffset, json } = options
  const services = [...port, ...(target?.services ?? [])]
  const patient = { ...aim, families: options, services, datagram, timeSource, timeOffset }
  const found = await examine(patient, json ? () => {} : printCheck)
  if (json) printAsJson(aim.key, found)
  else process.stdout.write(`\n${summaryOf(found.checks)}\n`)
  return found.checks.some(({ verdict }) => verdict === 'fault') ? EXIT.failure : EXIT.ok
}

/** The key, or why there is none, and the server. */
async function findAim(target: Target | null, command: Command) {
  const options = command.opts<Options>()
  const isMeant = hasMeantHost(command)
  const faults: Fault[] = []
  const aim = await keepFault(faults, async () => {
    if (target) return aimAt(target, command)
    return { key: await chosenKey(options), host: options.server, isMeant }
  })
  if (aim) return aim
  // Without a key, the host that was named may still be looked at.
  const host = options.server ?? (target && !target.isProfile && !isKeyName(target.name) ? target.name : undefined)
  return { key: faults[0], host, isMeant }
}

/** Whether this is the name of a key in the keyring: nobody is asked for such a name. */
function isKeyName(name: string): boolean {
  const path = keyPath(clientKeys(), name)
  return KEY_ID.test(name) && !name.includes('.') && (existsSync(path) || existsSync(path + SEALED_SUFFIX))
}

/** As a knock's ports, but for the one that stands for all. */
function readPorts(text: string): TypedService[] | null {
  const doors = readDoors(text)
  return doors?.some(({ port }) => port === 0) ? null : doors
}

function printAsJson(key: KeyFile | Fault, { host, checks, sent }: Findings): void {
  const ordered = checks.map(({ name, verdict, evidence, remedy }) => ({ name, verdict, evidence, remedy }))
  const all = { host, key: key instanceof Fault ? null : key.id, checks: ordered, sent }
  printJson(all)
}
