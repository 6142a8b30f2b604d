import type { Key } from '../protocol/key'
import type { Request } from '../protocol/request'
import { acceptedWindows, type Now } from './clock'

/** A knock that was opened: authentic, and not yet judged by ledger and policy. */
export interface Knock {
  readonly key: Key
  readonly window: number
  readonly request: Request
  /** V in hex: the knock's identity within key and window. */
  readonly v: string
  readonly source: string
  readonly destination: string
  /** When its newest tap arrived, in steady milliseconds. */
  readonly heard: number
  /** Whether its window was accepted then. */
  readonly arrival: Arrival
  /** Set where a passcode has said it, and no sealed request. */
  readonly by?: 'passcode'
}

type Arrival = 'timely' | 'stale' | 'future'

/**
 * Whether a key's window was accepted when a knock's newest tap arrived, however late the budget lets it be decoded.
 * @param heard when that was, in steady milliseconds
 * @see docs/protocol.md, "Receiving" 6
 */
export function arrivalOf({ key, window }: Pick<Knock, 'key' | 'window'>, heard: number, now: Now, skew: number): Arrival {
  const { first, last } = acceptedWindows(now.wall - (now.steady - heard), key.period, skew)
  return window < first ? 'stale' : window > last ? 'future' : 'timely'
}
