import { passcodeRange } from '../../protocol/passcode'
import type { Config } from '../config'
import { type Heard, poolOf } from '../tap-rules'
import { hears, hearsDatagrams, hearsPool } from './log-rules'
import type { FilterTable } from './table'

/**
 * What the log rules leave out that keys knock by, as lines for a warning: an installation makes them anew.
 * @param tables those in which the log rules are in place
 */
export function leftOut(
  tables: readonly FilterTable[],
  keys: readonly Heard[],
  { passcode, datagram }: Pick<Config, 'passcode' | 'datagram'>,
): string[] {
  const isLacking = (isHeard: (table: FilterTable) => boolean) => !tables.every(isHeard)
  const pool = poolOf(keys)
  const passcodes = passcodeRange(passcode.base, passcode.pinDigits)
  const hasPasscodes = keys.some((key) => key.passcode)
  return [
    ...(isLacking((table) => hearsPool(table, pool)) ? [`the log rules do not cover the pools of all keys: ${INSTALL}`] : []),
    ...(hasPasscodes && isLacking((table) => hears(table, passcodes))
      ? [`the log rules do not cover the passcode ports: ${INSTALL}`]
      : []),
    ...(isLacking((table) => hearsDatagrams(table, datagram.ports))
      ? [`the log rules do not match [datagram] ports: ${INSTALL}`]
      : []),
  ]
}

const INSTALL = 'run "knockturn firewall install"'
