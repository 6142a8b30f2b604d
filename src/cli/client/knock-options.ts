import { type Command, Option } from 'commander'
import { isShownByTcp } from '../../client/foreseen'
import type { Action, Protocol } from '../../protocol/request'
import { readTyped, type TypedService } from '../../protocol/service'
import { UsageFault } from '../../system/fault'
import { parseLifetime } from '../../system/time'
import { reading, whole } from '../options'
import { type AddressOptions, checkAddress, withAddress } from './address'
import { checkAim, DEFAULT_WAIT, MAX_WAIT, withTarget, withWay } from './aim'
import { refuseWithout } from './option-rules'
import { timeSourceOption, type WaitOptions } from './unopened'

/* The options of a plain knock, which a profile may have, too. */

/** What `-t` says: the 2003 article's flag, or a duration. */
const TIME_RULE =
  '0 (until closed), 1 to 254 minutes, 255 (close), or a duration with a unit such as 90s, 15m, 1h30m, 1d (at most 2^24-1 s)'
const CLOSE_FLAG = 'close'
export const UNWATCHED = '--wait expected one TCP port with -p: it connects to see whether the door is open'
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
        'the port to open, or several, such as 22,443/tcp; 0: all that the key grants',
        readDoors,
        'a port from 0 to 65535 such as 22 or 22/tcp',
      ),
    )
    .addOption(reading('-t, --time <time>', `how long: ${TIME_RULE} (default: 5m)`, readTime, TIME_RULE))
  withAddress(command)
    .option('--close', "close the key's leases for the address and port (all ports without -p)")
    .option('--lock', "close the key's leases for the address and have its knocks ignored for the time of -t")
    .option('--once', 'open for one connection only')
    .addOption(new Option('--protocol <name>', 'tcp, udp or any').choices(['tcp', 'udp', 'any']).default('any'))
    .addOption(
      reading('--wait [seconds]', 'knock until the service answers', whole(1, MAX_WAIT), `seconds from 1 to ${MAX_WAIT}`).preset(
        String(DEFAULT_WAIT),
      ),
    )
    .addOption(timeSourceOption())
  return withWay(command)
}

/** Checks what of the options does not go together. @returns what they are to do @throws {UsageFault} */
export function checkOptions(command: Command, options: KnockOptions): Action {
  const { close, lock, once, wait, port: doors, time } = options
  if (close && lock) throw new UsageFault('expected --close or --lock, got both')
  checkAim(options)
  if (!options.dryRun) refuseWithout(command, 'dryRun', '--dry-run')
  refuseWithout(command, 'passcode', '--passcode')
  if (wait === undefined) refuseWithout(command, 'wait', '--wait')
  if (time === CLOSE_FLAG && lock) throw new UsageFault('-t 255 means close: give another time for --lock')
  const action = lock ? 'lock' : close || time === CLOSE_FLAG ? 'close' : 'open'
  if (action !== 'open' && once) throw new UsageFault('--once goes with opening only')
  if (wait !== undefined) {
    if (action !== 'open') throw new UsageFault('--wait goes with opening only')
    if (once) throw new UsageFault('--wait would use up the one connection of --once: leave one of them out')
    if (doors && !doors.some((door) => isShownByTcp(door, options.protocol))) throw new UsageFault(UNWATCHED)
  }
  if (doors?.some(({ protocol }) => protocol && options.protocol !== 'any' && protocol !== options.protocol))
    throw new UsageFault(`--protocol ${options.protocol} expected no other protocol in -p: leave out one of them`)
  checkAddress(command)
  return action
}

function readTime(text: string): number | typeof CLOSE_FLAG | null {
  if (/^\d{1,3}$/.test(text) && Number(text) <= 255) return Number(text) === 255 ? CLOSE_FLAG : Number(text) * 60
  if (/^\d+$/.test(text))
    throw new UsageFault(
      `-t expected a unit for a number over 255, got "${text.slice(0, 20)}": write ${text.slice(0, 20)}s or ${text.slice(0, 20)}m`,
    )
  return parseLifetime(text)
}

/** Reads a service as hands type it or a list of them, each once; 0 stands for all, and so alone. Without a protocol that of --protocol holds. */
function readDoors(text: string): TypedService[] | null {
  const typed = text.split(',').map(readTyped)
  const doors = [...new Map(typed.map((door) => [`${door?.port}/${door?.protocol}`, door])).values()]
  if (doors.length > MAX_DOORS) throw new UsageFault(`-p expected at most ${MAX_DOORS} ports, got ${doors.length}`)
  if (doors.length > 1 && doors.some((door) => door?.port === 0))
    throw new UsageFault('-p expected 0 alone: it stands for all ports')
  return doors.every((door) => door !== null) ? doors : null
}
