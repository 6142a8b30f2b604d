import type { Logger } from 'pino'
import type { Chronicle } from '../gate/chronicle'
import type { Now } from '../gate/clock'
import type { Firewall } from '../gate/firewall'
import type { Leases } from '../gate/leases'
import type { OneTimeRule } from '../gate/ledger'
import type { Listener } from '../gate/listener/listener'
import type { Passcodes } from '../gate/passcodes/passcodes'

/** What the pipeline runs through, in this order, and the log that says what came of it. */
export interface Stages {
  readonly listener: Listener
  /** Absent where none are heard. */
  readonly passcodes?: Passcodes
  readonly ledger: OneTimeRule
  readonly leases: Leases
  readonly firewall: Firewall
  /** Absent where nobody wants to be told afterwards. */
  readonly chronicle?: Chronicle
  readonly log: Logger
  readonly now: () => Now
  /** Why nobody gets a lease for one connection; null or absent where they do. */
  readonly onceRefused?: string | null
}
