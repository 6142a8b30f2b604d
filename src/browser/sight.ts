import { judge, type Opening } from '../protocol/opening'

/** What has come of attempts is asked in steps of so many milliseconds. */
const STEP_MS = 100

/** Connection attempts that are under way. */
export interface Attempt {
  /** How many of them there are. 0: this browser does not make them. */
  readonly made: number
  /** Whether {@link seen} tells of every TCP service; else only of what speaks HTTP. */
  readonly tells: boolean
  /** When they began, in Unix milliseconds. */
  readonly began: number
  /** Milliseconds after which their SYNs may have been said again. */
  readonly life: number
  /** What they have come back with. */
  seen(): Seen | Promise<Seen>
  /** Gives them up. */
  end(): void
}

export interface Seen {
  /** When somebody is known to have accepted one, in Unix milliseconds; null: nobody is. */
  readonly accepted: number | null
  /** Whether all have been rejected; false where that can't be told, too. */
  readonly rejected: boolean
}

/** Who answers in place of a server that is silent on all ports of a knock: somebody on the way who accepts what should be shut, or rejects all of it. */
export type Answer = 'answered' | 'rejected'

/** What the touches of a knock have shown of the way. @returns null: nothing, as it should be */
export async function answerTo(touches: readonly Attempt[]): Promise<Answer | null> {
  const seen = await Promise.all(touches.map((touch) => touch.seen()))
  if (seen.some(({ accepted }) => accepted !== null)) return 'answered'
  return seen.every(({ rejected }) => rejected) ? 'rejected' : null
}

interface Clock {
  /** Unix milliseconds. */
  now(): number
  sleep(milliseconds: number): Promise<void>
}

/** Looks at one door while it is knocked at. */
export class Sight {
  readonly #clock: Clock
  readonly #front: readonly Attempt[]
  #answered: number | null = null
  #roundTrip: number | null = null

  /** @param front attempts at the door whose SYNs went in front of the knock, if it can be seen at all */
  constructor(clock: Clock, front: readonly Attempt[]) {
    this.#clock = clock
    this.#front = front
  }

  /** Looks once more, for so long; where there is no way to look, it is a pause. @returns whether anybody has answered there */
  async look(ways: readonly (() => Promise<Attempt>)[], until: number): Promise<boolean> {
    const attempts = await Promise.all(ways.map((way) => way()))
    try {
      do {
        await this.#clock.sleep(Math.min(STEP_MS, Math.max(0, until - this.#clock.now())))
        await this.#glance()
        for (const { began, tells, seen } of attempts) {
          const { accepted } = await seen()
          // A browser's first request may take longer than others for reasons of its own: by how long they take, none can be told from them.
          if (accepted !== null) this.#roundTrip ??= tells ? accepted - began : Number.POSITIVE_INFINITY
        }
        if (this.#answered !== null || this.#roundTrip !== null) return true
      } while (this.#clock.now() < until)
      return false
    } finally {
      for (const attempt of attempts) attempt.end()
    }
  }

  /** What it proves that somebody has answered. @param touched when the knock had been sent, in Unix milliseconds */
  async judged(touched: number): Promise<Opening> {
    const began = Math.max(...this.#front.map((attempt) => attempt.began))
    const life = Math.min(...this.#front.map((attempt) => attempt.life))
    for (;;) {
      const shown = { began, answered: this.#answered, roundTrip: this.#roundTrip, touched }
      const opening = judge(shown, this.#clock.now(), life)
      if (opening !== null) return opening
      await this.#clock.sleep(STEP_MS)
      await this.#glance()
    }
  }

  /** Whether the attempts in front have been answered, as long as an answer tells anything. */
  async #glance(): Promise<void> {
    if (this.#answered !== null) return
    for (const attempt of this.#front) {
      const { accepted } = await attempt.seen()
      if (accepted !== null && accepted - attempt.began <= attempt.life) this.#answered = accepted
      if (this.#clock.now() - attempt.began > attempt.life) attempt.end()
    }
  }

  end(): void {
    for (const attempt of this.#front) attempt.end()
  }
}
