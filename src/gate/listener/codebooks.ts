import { type Codebook, codebook } from '../../protocol/codebook'
import type { Budget } from './budget'
import type { Candidate } from './table'

/* docs/protocol.md, "Receiving" 5: codebooks, which are computed out of the budget of decodes. */

/** Codebooks that are kept, 0.1 MB each. */
const MAX_CODEBOOKS = 256

/** The codebooks of candidates. The one that was used longest ago is forgotten for a new one. */
export class Codebooks {
  readonly #budget: Budget
  readonly #books = new Map<Candidate, Codebook>()

  constructor(budget: Budget) {
    this.#budget = budget
  }

  get size(): number {
    return this.#books.size
  }

  /** The one that is kept, or undefined. */
  get(candidate: Candidate): Codebook | undefined {
    return this.#books.get(candidate)
  }

  /** The one that is kept, or a new one; null where that can't be afforded now. */
  of(candidate: Candidate): Codebook | null {
    return this.#books.get(candidate) ?? this.#compute(candidate)
  }

  /** As {@link Codebooks.of}, and keeps it longest. */
  use(candidate: Candidate): Codebook | null {
    const book = this.of(candidate)
    if (book) {
      // Deleted and set again, so that the map stays in order of the latest use.
      this.#books.delete(candidate)
      this.#books.set(candidate, book)
    }
    return book
  }

  #compute(candidate: Candidate): Codebook | null {
    if (this.#budget.takeBook(candidate)) return null
    const book = codebook(candidate.key, candidate.window)
    this.#books.set(candidate, book)
    if (this.#books.size > MAX_CODEBOOKS) this.#books.delete(this.#books.keys().next().value as Candidate)
    return book
  }
}
