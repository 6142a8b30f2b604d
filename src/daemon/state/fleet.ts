import * as v from 'valibot'
import { count } from '../../system/json'

/** Longest reason that is believed: it names a few gateways. */
const MAX_REASON = 4_096
/** Gateways that are read: more than a daemon follows. */
const MAX_GATEWAYS = 1_024

/** A gateway as another one's daemon hears it. */
export interface StateGateway {
  readonly name: string
  /** Its last beat that was heard; null: none was, since this daemon began. */
  readonly at: string | null
  /** Milliseconds by which its clock is ahead of this one's, below zero behind; null: it does not speak. */
  readonly offset: number | null
  /** Whether its clock is synchronised; null: nobody says. */
  readonly synchronised: boolean | null
  /** Which run of its daemon's it is. */
  readonly life: string
}

/** How a daemon stands in its fleet. */
export interface StateFleet {
  /** Its own name. */
  readonly gateway: string
  readonly fleet: string
  readonly epoch: number
  /** From when on the fleet knows the past, in Unix seconds, and how many windows more; null: not known yet, or by an older daemon. */
  readonly base: { readonly seconds: number; readonly ahead: number } | null
  /** Why it accepts no knock; null: it does. */
  readonly link: string | null
  /** Since when that is so. */
  readonly since: string
  /** What is to be said of the clocks, though knocks are accepted; null: nothing. */
  readonly clocks: string | null
  /** Whether its own clock is synchronised; null: nobody says. */
  readonly synchronised: boolean | null
  /** Fingerprints of keys that another gateway has revoked, and the keyring here has not; older daemons do not say. */
  readonly revoked: readonly string[]
  /** The others. */
  readonly gateways: readonly StateGateway[]
  /** Bytes that etcd's largest member has used, and may use; null: nobody has been asked yet, or has answered. */
  readonly size: number | null
  readonly quota: number | null
  /** What etcd complains of, such as NOSPACE. */
  readonly alarms: readonly string[]
}

const name = v.pipe(v.string(), v.maxLength(255))
const reason = v.nullable(v.pipe(v.string(), v.maxLength(MAX_REASON)))

/** Reads the part of a state that tells of a fleet. @param time of the state's own form */
export const fleetSchema = <Time extends v.GenericSchema<unknown, string>>(time: Time) =>
  v.object({
    gateway: name,
    fleet: name,
    epoch: count,
    base: v.optional(v.nullable(v.object({ seconds: count, ahead: count })), null),
    link: reason,
    since: time,
    clocks: reason,
    synchronised: v.nullable(v.boolean()),
    revoked: v.optional(v.array(name), []),
    gateways: v.pipe(
      v.array(
        v.object({
          name,
          at: v.nullable(time),
          offset: v.nullable(v.pipe(v.number(), v.finite())),
          synchronised: v.nullable(v.boolean()),
          life: name,
        }),
      ),
      v.maxLength(MAX_GATEWAYS),
    ),
    size: v.nullable(count),
    quota: v.nullable(count),
    alarms: v.array(name),
  })
