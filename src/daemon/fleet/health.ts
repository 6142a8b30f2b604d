import { type Etcd, Unavailable } from './etcd/etcd'

/** How full etcd is, and what it complains of. */
export interface Health {
  /** Bytes of the member that has most, and of what it may have; null: none has answered yet. */
  readonly size: number | null
  readonly quota: number | null
  readonly alarms: readonly string[]
}

/** Before anybody has been asked. */
export const UNKNOWN: Health = { size: null, quota: null, alarms: [] }

/** Asks all members. One that does not answer says nothing; where none does, what was known stays. */
export async function askHealth(etcd: Etcd, before: Health): Promise<Health> {
  const said = (await etcd.status()).flatMap(({ status }) => (status instanceof Unavailable ? [] : status))
  if (said.length === 0) return before
  const fullest = said.reduce((most, one) => (one.size / one.quota > most.size / most.quota ? one : most))
  return { size: fullest.size, quota: fullest.quota, alarms: [...new Set(said.flatMap(({ alarms }) => alarms))].sort() }
}

/** What is to be told of it, in a line; null: nothing. A full etcd takes no claim any more, until somebody has made room in it. */
export function healthFault({ size, quota, alarms }: Health): string | null {
  if (alarms.length > 0) return `etcd complains: ${alarms.join(', ')}`
  return size !== null && quota !== null && size * 2 >= quota ? 'etcd has used half of its quota' : null
}
