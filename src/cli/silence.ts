import type { Option } from 'commander'
import type { Ended, Sequence } from '../client'
import { isOver } from '../gate/policy'
import type { KeyFile } from '../host/key-file'
import { parseTimeSource } from '../host/time-source'
import { isZeroAddress } from '../protocol/address'
import { type AimOptions, NAME, placeOf } from './aim'
import { reading } from './options'
import { complain, EXIT, noteOf } from './voice'

/* What is said where nothing has opened, whichever command has knocked. */

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
 * Says that doors have not opened, and behind it what can be found out about the reason: on standard error alone.
 * @returns the exit code
 */
export async function complainOfSilence(
  { wait, quiet, timeSource, timeOffset, datagram }: SilenceOptions,
  { host, address, key, sequence }: Knocked,
  { shut, seen }: Pick<Ended, 'shut' | 'seen'>,
): Promise<number> {
  const doors = shut.length === 1 ? `port ${shut[0]} has` : `ports ${shut.join(', ')} have`
  complain(NAME, `${placeOf(host, address)} ${doors} not answered within ${wait} s`)
  if (quiet) return EXIT.timeLimit
  const { findings, investigate } = await import('../host/diagnosis')
  // A datagram has touched no port that could show itself by TCP.
  const knocked = sequence.payload ? [] : sequence.ports
  const found = await investigate({ address, services: shut, knocked, timeSource, timeOffset })
  const { expires } = key
  const { period } = key.key
  const ended = isOver({ revoked: null, expires }, Date.now() + timeOffset * 1000) ? expires : null
  const { address: asked } = sequence.request
  const named = isZeroAddress(asked) ? null : asked
  for (const line of findings({ ...found, host, datagram, seen, period, timeOffset, named, ended })) noteOf(NAME, line)
  return EXIT.timeLimit
}
