import type { Option } from 'commander'
import type { Ended, Sequence } from '../../client/client'
import { isLoopback } from '../../client/host'
import { isOpening } from '../../client/lookout'
import { parseTimeSource } from '../../client/time-source'
import { isOver } from '../../gate/server-key'
import type { KeyFile } from '../../keys/key-file'
import { isZeroAddress } from '../../protocol/address'
import { reading } from '../options'
import { complain, EXIT, hintAt, noteOf, warnOf } from '../voice'
import { type AimOptions, NAME, placeOf } from './aim'
import { outcomesOf } from './outcome'

/* What is said where not all has opened, whichever command has knocked. */

export interface SilenceOptions extends AimOptions {
  wait?: number
  timeSource?: URL
}

/** The option that names whom to ask for the time. */
export function timeSourceOption(): Option {
  const description = 'whom to ask for the time when --wait has run out'
  return reading('--time-source <url>', description, parseTimeSource, 'ntp://HOST or https://HOST')
}

/** A knock that was in vain. */
interface Knocked {
  readonly host: string
  readonly address: string
  readonly key: KeyFile
  readonly sequence: Sequence
}

/**
 * Says how the ports have ended where not all have opened, and behind it what can be found out about the reason: on standard error alone.
 * @param also what else is known; null: nothing
 * @returns the exit code
 */
export async function complainOfSilence(
  { wait, quiet, timeSource, timeOffset, datagram, udp = false, pace }: SilenceOptions,
  { host, address, key, sequence }: Knocked,
  { outcomes, isFinal, seen, touched }: Ended,
  also: string | null,
): Promise<number> {
  complain(NAME, `${placeOf(host, address)} ${outcomesOf(outcomes, wait ?? 0)}`)
  const code = isFinal ? EXIT.failure : EXIT.timeLimit
  if (quiet) return code
  const { findings, investigate } = await import('../../client/diagnosis')
  const opened = [...outcomes].flatMap(([port, outcome]) => (outcome === 'opened' ? port : []))
  const services = new Map([...outcomes].filter(([, outcome]) => !isOpening(outcome)))
  // A datagram has touched no port that could show itself by TCP, and those of this machine tell nothing of a network.
  const knocked = sequence.payload || isLoopback(address) ? [] : sequence.ports
  const found =
    opened.length > 0
      ? { services, knocked: [], clock: null }
      : await investigate({ address, services, touched, knocked, timeSource, timeOffset })
  const { expires } = key
  const { period } = key.key
  const ended = isOver({ revoked: null, expires }, Date.now() + timeOffset * 1000) ? expires : null
  const { address: asked } = sequence.request
  const named = isZeroAddress(asked) ? null : asked
  const [hint, ...notes] = findings({ ...found, host, datagram, udp, pace, opened, seen, period, timeOffset, named, ended })
  if (hint !== undefined) hintAt(hint)
  for (const note of also === null ? notes : [...notes, also]) noteOf(NAME, note)
  return code
}

/**
 * Says what the touches of a knock have come back with that nobody waits for: a server that hears it is silent.
 * @param ways what to try in the place of touching ports by TCP
 */
export async function warnOfTouches({ quiet }: AimOptions, touched: ReadonlySet<string>, ways?: string): Promise<void> {
  if (quiet || touched.size === 0) return
  const { OTHER_WAYS, ofTouches } = await import('../../client/diagnosis')
  for (const line of ofTouches(touched, ways ?? OTHER_WAYS)) warnOf(NAME, line)
}
