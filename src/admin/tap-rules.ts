import type { TapRules } from '../daemon/firewall/log-rules'
import { passcodeFault } from '../daemon/passcode-rules'
import { poolFault } from '../daemon/server-keys'
import { keyPath } from '../keys/keyring'
import { passcodeRange } from '../protocol/passcode'
import { poolRanges, unite } from '../protocol/pool'
import { Fault, inOneLine } from '../system/fault'
import { wholeConfig } from './config'
import { readKeys } from './keyring'

/**
 * What the log rules must hear: the pools of all keys, and the ports of passcodes where a key has one, in one list of ranges.
 * @param file the daemon's config
 * @param warn told why a key or the passcodes are left out
 * @throws {Fault} where config or keyring can't be read, or no key is left
 */
export async function tapRules(file: string, warn: (message: string) => void): Promise<TapRules> {
  const config = await wholeConfig(file)
  const { keys: folder, taps, datagram, passcode } = config
  const { keys: all, faulty } = await readKeys(folder)
  // As the daemon does: the other keys still open doors.
  for (const fault of faulty.flatMap(({ faults }) => faults)) warn(inOneLine(fault))
  const usable = all.filter((key) => {
    const fault = poolFault(keyPath(folder, key.id), key, datagram.ports)
    if (fault) warn(inOneLine(fault))
    return !fault
  })
  if (usable.length === 0)
    throw new Fault(`${folder}: no key that can be used, so no ports to listen on`, {
      hint: 'make a key with "knockturn key new": its pool sets the ports',
    })
  const pool = unite(usable.map(({ key }) => key.pool))
  const having = usable.filter((key) => key.passcode)
  const fault = having.length > 0 ? passcodeFault(usable, having, config) : null
  if (fault) warn(`passcodes are left out: ${inOneLine(fault)}`)
  const ranges = [...poolRanges(pool), ...(having.length > 0 && !fault ? [passcodeRange(passcode.base, passcode.pinDigits)] : [])]
  return { ranges, target: taps.target, group: taps.group, prefix: taps.prefix, datagrams: datagram.ports }
}
