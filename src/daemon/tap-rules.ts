import { passcodeRange } from '../protocol/passcode'
import { poolRanges, unite } from '../protocol/pool'
import type { Ports } from '../protocol/ports'
import type { Config } from './config'

/** What the log rules must hear, the ports of every pool, and how they say it to the daemon: target, NFLOG group and prefix. */
export interface TapRules {
  readonly ranges: readonly Ports[]
  readonly target: 'nflog' | 'log'
  readonly group: number
  readonly prefix: string
  /** Ports to which a knock may come in one UDP datagram; none of them lies in a pool. */
  readonly datagrams?: readonly number[]
}

/** What of a key says where its knocks come in. */
export interface Heard {
  readonly key: { readonly pool: Uint16Array }
  /** Missing or null where it has none, or where it must not be heard. */
  readonly passcode?: unknown
}

/**
 * What the log rules must hear: the pools of keys, and the ports of passcodes where a key has one, in one list of ranges.
 * @param keys those that can be used
 */
export function tapRulesOf(
  keys: readonly Heard[],
  { taps, datagram, passcode }: Pick<Config, 'taps' | 'datagram' | 'passcode'>,
): TapRules {
  const passcodes = keys.some((key) => key.passcode) ? [passcodeRange(passcode.base, passcode.pinDigits)] : []
  const { target, group, prefix } = taps
  return { ranges: [...poolRanges(poolOf(keys)), ...passcodes], target, group, prefix, datagrams: datagram.ports }
}

/** The ports of the pools of all keys. */
export function poolOf(keys: readonly Pick<Heard, 'key'>[]): Uint16Array {
  // Keys share their pools, of which there are few.
  return unite([...new Set(keys.map(({ key }) => key.pool))])
}
