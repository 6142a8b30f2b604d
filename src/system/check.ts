import { Fault } from './fault'

/**
 * How a check has ended: all is well; it is no fault, but will be felt; it is a fault; nobody can know, which is never taken for "all is well".
 */
export type Verdict = 'ok' | 'note' | 'fault' | 'unknown'

/** What one check of a server or a client has found. Its texts are one line each, and have no secrets. */
export interface Check {
  /** What was checked, in a few words that stay the same: programs may go by them. */
  readonly name: string
  readonly verdict: Verdict
  /** What was seen: the file, rule or figure. */
  readonly evidence: string
  /** What to do about it: commands that can be run as they are. */
  readonly remedy?: string
}

/** A check that has ended with a fault. @throws whatever else was thrown */
export function faulty(name: string, error: unknown): Check {
  if (!(error instanceof Fault)) throw error
  return { name, verdict: 'fault', evidence: error.message, ...remedyOf(error.hint) }
}

/** A check of which nobody knows how it stands. */
export const unknown = (name: string, evidence: string, remedy?: string): Check => ({
  ...{ name, verdict: 'unknown', evidence },
  ...remedyOf(remedy),
})

/** A remedy as a check has it; nothing where there is none. */
export const remedyOf = (remedy: string | undefined): Pick<Check, 'remedy'> => (remedy === undefined ? {} : { remedy })
