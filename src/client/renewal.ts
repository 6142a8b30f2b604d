import { knock, prepare } from './client'
import type { Sending } from './sending'

/* A door that stays open for as long as it is needed, and no longer. Both knocks are missed by nobody before the lease has ended. */

/** A lease is renewed when this part of its time is over, so that there is time for another try; and once a day at least, which a timer can wait. */
const RENEW_PART = 2 / 3
const MOST_RENEW_SECONDS = 24 * 3_600

/** The pause between two knocks that keep a door open, in milliseconds. @param seconds of the lease that each asks for */
export function renewalPause(seconds: number): number {
  return Math.min(seconds * RENEW_PART, MOST_RENEW_SECONDS) * 1000
}

/** A new knock for the same door. @throws {Fault} where no packet can be sent */
export async function knockAgain(sending: Sending, address: string): Promise<void> {
  await knock(sending, address, prepare(sending, Date.now()), () => {})
}

/** Closes a door. @throws {Fault} where no packet can be sent */
export async function knockToClose(sending: Sending, address: string): Promise<void> {
  await knockAgain({ ...sending, request: { ...sending.request, action: 'close', once: false } }, address)
}
