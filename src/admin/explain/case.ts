import type { State } from '../../daemon/state/state'
import type { GrantRule, Refusal } from '../../gate/policy'
import type { ServerKey } from '../../gate/server-key'
import type { Cidr } from '../../protocol/address'
import type { Action, Protocol } from '../../protocol/request'
import type { Service } from '../../protocol/service'

/* What a knock is weighed by, and what comes of it. */

/** A knock that is asked about: nobody sends it. */
export interface Asked {
  /** The address that it would come from, in its canonical form. */
  readonly source: string
  /** The address that it would name; null: none, so that its source counts. */
  readonly address: string | null
  readonly action: Action
  /** 0: every service that the key's grant has. */
  readonly port: number
  readonly protocol: Protocol
  /** 0: until closed; null: five minutes, or the longest that the grant has if that is less. */
  readonly seconds: number | null
  readonly once: boolean
}

/** Where the entries of a key and of the config stand. */
export interface Places {
  /** The place of a rule of the grant or the config, as `file:line`; null: it stands in no file. */
  readonly of: (rule: GrantRule | 'leases_per_key') => string | null
  readonly ledger: string
}

/** All that decides about a knock, as it is now. */
export interface Case {
  readonly asked: Asked
  readonly key: ServerKey
  readonly neverLock: readonly Cidr[]
  /** This machine's addresses, in their canonical form: for none of them may a lease be opened from elsewhere. */
  readonly own: readonly string[]
  /** What the daemon says of itself; or that there is none; or why that is not known. */
  readonly daemon: State | { readonly dead: string } | { readonly unknown: string }
  /** Why the key opens nothing yet, by the ledger; null: nothing stands in its way; or why that is not known. */
  readonly floor: string | null | { readonly unknown: string }
  /** Whether leases for one connection can be had. */
  readonly countsConnections: boolean
  /** Why a fleet grants none of those; null: it does, or there is none. */
  readonly onceRefused: string | null
  /** Leases that may be in force, of all keys and of one. */
  readonly most: { readonly all: number; readonly key: number }
  readonly places: Places
  /** Unix milliseconds. */
  readonly wall: number
}

/** One rule, and what it says to the knock. */
export interface Row {
  readonly rule: string
  /** `note`: it decides nothing, but should be known. */
  readonly verdict: 'met' | 'refuses' | 'unknown' | 'note'
  /** `file:line`, or a file; null: it stands in none. */
  readonly where: string | null
  readonly says: string
  /** The word that the daemon's log would have for it; null: it would be ignored in silence, or nothing refuses. */
  readonly refusal: Refusal | null
}

/** What becomes of a knock. */
export interface Explanation {
  /** True: it does what it asks; null: nobody can tell. */
  readonly would: boolean | null
  /** What it asks for, in seconds; 0: until closed, or for a ban as long as the key may. Null where the daemon does not use the key. */
  readonly seconds: number | null
  /** What it would open, close or ban; null where a rule refuses it. */
  readonly grant: { readonly address: string; readonly services: readonly Service[]; readonly until: number | null } | null
  /** In the order in which they are asked. */
  readonly rows: readonly Row[]
}
