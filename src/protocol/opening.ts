/* Whether a knock has opened a port, by what attempts to connect to it have shown: in a program as in a page. */

/** An attempt that is answered later than after so many milliseconds tells little: its SYN is said again after 1 s, and this could be the answer to that. */
export const LIFE = 900
/** Milliseconds by which an answer may be later than another one. */
export const MARGIN = 50

/**
 * What is known of a port that is open: it answered before the knock could have opened it; it did not; or that can't be told, since the answer took
 * as long as a SYN that is said again.
 */
export type Opening = 'before' | 'opened' | 'unclear'

/** What the attempts have shown, in milliseconds of one clock. */
export interface Shown {
  /** When the attempt began whose SYN went in front of the knock. */
  readonly began: number
  /** When that one was answered; null: it has not been. */
  readonly answered: number | null
  /** How long another one took to be answered, a round trip; null: none has been. */
  readonly roundTrip: number | null
  /** When the first burst of the knock was over, and who answers everything could answer that, too; null: it is not yet. */
  readonly touched: number | null
}

/**
 * What it proves.
 * @param life milliseconds after which an answer may be one to a SYN that has been said again
 * @returns null: nothing yet
 */
export function judge({ began, answered, roundTrip, touched }: Shown, now: number, life = LIFE): Opening | null {
  if (answered !== null) {
    // The touches went behind this attempt: they get the time that it took.
    if (touched === null || now < touched + answered - began) return null
    return answered - began <= life ? 'before' : 'unclear'
  }
  if (roundTrip === null) return null
  // The attempt in front is given up before it could have been answered.
  if (roundTrip + MARGIN > life) return 'unclear'
  return now >= began + roundTrip + MARGIN ? 'opened' : null
}
