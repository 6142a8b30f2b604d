import type { Entry } from './firewall'

/**
 * Why an entry is to be put in force, or is no longer wanted there: `replaced` by one that lasts longer, or admits a new connection; closed `for the
 * fleet`: at another gateway.
 */
export type Why = 'wanted' | 'closed' | 'closed for the fleet' | 'expired' | 'replaced'

/** An entry that the firewall may have to be told about: {@link Leases.wants} says whether it is to stand there now. */
export interface Change {
  readonly entry: Entry
  readonly why: Why
}

/** Is told of each change in the moment in which it is noted, and of an opening that the firewall has refused. It changes nothing in that moment. */
export type Told = (entry: Entry, why: Why | 'given up') => void
