import { stillSays, type Transaction } from './etcd/etcd'
import { BASE, type Base, formatBase } from './rows'

/**
 * By so many epochs a base may be later than the one that a gateway knows: it is raised where etcd was restored, or by hand. One that is further on was
 * written by somebody who would have nobody raise it any more, as no number comes after theirs.
 */
export const MAX_LEAP = 1_000

/** What a fleet's base becomes. */
export interface Raising {
  /** The newest that is known, of etcd or of a gateway, and the epochs that others know. */
  readonly known: Pick<Base, 'fleet' | 'epoch'>
  readonly epochs: readonly number[]
  readonly server: string
  readonly skew: number
  /** Unix milliseconds */
  readonly wall: number
}

/** The base from which on a fleet knows the past that begins at a moment: whatever may have been sent until then is dead. */
export function raisedBase({ known, epochs, server, skew, wall }: Raising): Base {
  const epoch = Math.max(known.epoch, ...epochs.filter((one) => one <= known.epoch + MAX_LEAP)) + 1
  return { fleet: known.fleet, server, epoch, seconds: Math.floor(wall / 1_000), ahead: skew + 1 }
}

/** Puts a later base where etcd has forgotten something. @param found the text of the base that is there; null: there is none */
export const raising = (found: string | null, base: Base): Transaction => ({
  if: [stillSays(BASE, found)],
  do: [{ put: BASE, value: formatBase(base) }],
  else: [],
})
