import type { Config } from '../daemon/config'
import { passcodeFault } from '../daemon/passcode-rules'
import { poolFault } from '../daemon/server-keys'
import { type TapRules, tapRulesOf } from '../daemon/tap-rules'
import { keyPath } from '../keys/keyring'
import { Fault, inOneLine } from '../system/fault'
import { readKeys } from './keyring'

/**
 * What the log rules must hear: the pools of all keys, and the ports of passcodes where a key has one.
 * @param warn told why a key or the passcodes are left out
 * @throws {Fault} where the keyring can't be read, or no key is left
 */
export async function tapRules(config: Config, warn: (message: string) => void): Promise<TapRules> {
  const { keys: folder, datagram } = config
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
  const having = usable.filter((key) => key.passcode)
  const fault = having.length > 0 ? passcodeFault(usable, having, config) : null
  if (fault) warn(`passcodes are left out: ${inOneLine(fault)}`)
  return tapRulesOf(fault ? usable.map(({ key }) => ({ key })) : usable, config)
}
