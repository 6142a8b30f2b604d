import type { Command } from 'commander'
import { isShownByTcp } from '../../client/foreseen'
import type { Action, Protocol } from '../../protocol/request'
import { readTyped, type TypedService } from '../../protocol/service'
import { UsageFault } from '../../system/fault'
import { parseLifetime } from '../../system/time'
import { oneOf, reading, whole } from '../options'
import { type AddressOptions, checkAddress, withAddress } from './address'
import { checkAim, DEFAULT_WAIT, MAX_WAIT, TIME, withTarget, withWay } from './aim'
import { refuseWithout } from './option-rules'
import { timeSourceOption, type WaitOptions } from './unopened'

/* The options of a plain knock, which a profile may have, too. */

/** What `-t` takes: the 2003 article's flag, or a duration. */
const TIME_RULE =
  '0 (until closed), 1 to 254 minutes, 255 (close), or a duration with a unit such as 90s, 15m, 1h30m, 1d (at most 16,777,215 s)'
const CLOSE_FLAG = 'close'
/** Where nothing would show that a port has opened. */
export const unwatched = () =>
  new UsageFault('--wait requires a TCP port in -p: it connects to see whether the port is open', {
    hint: 'add a TCP port, or leave out --wait',
  })
/** Most services of one command: each is a knock of its own, and takes 50 ms. */
const MAX_DOORS = 16

export interface KnockOptions extends WaitOptions, AddressOptions {
  force?: boolean
  port?: TypedService[]
  time?: number | typeof CLOSE_FLAG
  close?: boolean
  lock?: boolean
  once?: boolean
  protocol: Protocol
  json?: boolean
  last?: boolean
  passcode?: boolean
  passcodeBase: number
  pinDigits: number
}

/** Gives a command the options of a knock that a profile may have. */
export function withKnock(command: Command): Command {
  withTarget(command)
    .addOption(
      reading(
        '-p, --port <ports>',
        'port to open, or several: 22,443/tcp; 0: all granted',
        readDoors,
        'a port from 0 to 65535 such as 22 or 22/tcp',
      ),
    )
    .addOption(reading('-t, --time <time>', `${TIME} (default: 5m)`, readTime, TIME_RULE))
  withAddress(command)
    .option('--close', 'close what the key opened for you (without -p, all ports)')
    .option('--lock', 'close all ports, and ban your address for the time of -t; the grant must allow it')
    .option('--once', 'open for one connection only')
    .addOption(oneOf('--protocol <name>', 'protocol to open', ['tcp', 'udp', 'any']).default('any'))
    .addOption(
      reading(
        '--wait [seconds]',
        `knock until the service answers (default: ${DEFAULT_WAIT} s)`,
        whole(1, MAX_WAIT),
        `seconds from 1 to ${MAX_WAIT}`,
      ).preset(String(DEFAULT_WAIT)),
    )
    .addOption(timeSourceOption())
  return withWay(command)
}

/** Checks what of the options does not go together. @returns what they are to do @throws {UsageFault} */
export function checkOptions(command: Command, options: KnockOptions): Action {
  const { close, lock, once, wait, port: doors, time } = options
  if (close && lock) throw new UsageFault('--close cannot be used with --lock')
  checkAim(options)
  if (!options.dryRun) refuseWithout(command, 'dryRun', '--dry-run')
  refuseWithout(command, 'passcode', '--passcode')
  if (wait === undefined) refuseWithout(command, 'wait', '--wait')
  if (time === CLOSE_FLAG && lock)
    throw new UsageFault('-t 255 means close, and cannot be used with --lock', { hint: 'give another time' })
  const action = lock ? 'lock' : close || time === CLOSE_FLAG ? 'close' : 'open'
  if (action !== 'open' && once) throw new UsageFault('--once cannot be used with --close or --lock')
  if (wait !== undefined) {
    if (action !== 'open') throw new UsageFault('--wait cannot be used with --close or --lock')
    if (once) throw new UsageFault('--wait would use up the one connection of --once', { hint: 'leave one of them out' })
    if (doors && !doors.some((door) => isShownByTcp(door, options.protocol))) throw unwatched()
  }
  if (doors?.some(({ protocol }) => protocol && options.protocol !== 'any' && protocol !== options.protocol))
    throw new UsageFault(`--protocol ${options.protocol} contradicts the protocol in -p`, { hint: 'leave out one of them' })
  checkAddress(command)
  return action
}

function readTime(text: string): number | typeof CLOSE_FLAG | null {
  if (/^\d{1,3}$/.test(text) && Number(text) <= 255) return Number(text) === 255 ? CLOSE_FLAG : Number(text) * 60
  if (/^\d+$/.test(text))
    throw new UsageFault(`-t expected a unit for a number over 255, got "${text.slice(0, 20)}"`, {
      hint: `write ${text.slice(0, 20)}s or ${text.slice(0, 20)}m`,
    })
  return parseLifetime(text)
}

/** Reads a service as hands type it, or a list of them, each once; 0 stands for all, and so alone. Without a protocol that of --protocol holds. */
export function readDoors(text: string): TypedService[] | null {
  const typed = text.split(',').map(readTyped)
  const doors = [...new Map(typed.map((door) => [`${door?.port}/${door?.protocol}`, door])).values()]
  if (doors.length > MAX_DOORS) throw new UsageFault(`-p expected at most ${MAX_DOORS} ports, got ${doors.length}`)
  if (doors.length > 1 && doors.some((door) => door?.port === 0))
    throw new UsageFault('-p expected 0 alone, as it means all ports')
  return doors.every((door) => door !== null) ? doors : null
}
