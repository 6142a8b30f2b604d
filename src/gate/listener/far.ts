import type { Now } from '../clock'
import type { Knock } from '../knock'
import type { Attempts } from './attempts'
import { type Budget, MAX_FAR } from './budget'
import type { Decoder } from './decoder'
import type { Explained } from './explained'
import type { Session } from './session'

/* docs/protocol.md, "Receiving" 8: an authentic knock of a far window, tried when its session has ended, tells its user of a wrong clock. */

/** Decodes of an ended session. */
const MAX_ENDED_DECODES = 16

/** Ended sessions with a quorum that never came to a decode: a wrong clock, perhaps. */
export class Far {
  readonly #budget: Budget
  readonly #attempts: Attempts
  readonly #decoder: Decoder
  readonly #explained: Explained
  readonly #ended: Session[] = []

  constructor(budget: Budget, attempts: Attempts, decoder: Decoder, explained: Explained) {
    this.#budget = budget
    this.#attempts = attempts
    this.#decoder = decoder
    this.#explained = explained
  }

  get size(): number {
    return this.#ended.length
  }

  /** Takes a session that has ended with a quorum, as long as there is room. */
  add(session: Session): void {
    if (session.decodes === 0 && this.#ended.length < MAX_FAR) this.#ended.push(session)
  }

  /** Tries the first of them, as far as the slot's budget goes. @returns its knock, where it has one that has not been opened before */
  tryNext(now: Now): Knock[] {
    const [session] = this.#ended
    if (!session) return []
    session.attempts ??= this.#attempts.of(session, session.quorum, 0)
    for (;;) {
      const attempt = session.held ?? session.attempts.next().value
      session.held = attempt ?? null
      if (!attempt || session.decodes >= MAX_ENDED_DECODES) break
      // The rest of it in the next slot.
      if (this.#budget.takeAttempt(attempt.candidate, false)) return []
      session.held = null
      session.decodes++
      const found = this.#decoder.decode(session, attempt, now)
      if (!found) continue
      this.#ended.shift()
      return this.#explained.knows(session.place.name, attempt.candidate, found.knock.v) ? [] : [found.knock]
    }
    this.#ended.shift()
    return []
  }
}
