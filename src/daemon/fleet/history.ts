import { type Header, MAX_REVISION } from './etcd/etcd'

/** Terms that are kept: an etcd has another one at each election of a leader, and a request is on its way for seconds only. */
const MAX_TERMS = 16
/** Marks of one history lie below so many. */
const SPAN = MAX_REVISION

/**
 * What was seen of an etcd's history, so that one that was restored is told: it answers with less than it has said before. All requests are such
 * that an answer knows whatever was answered before they were sent.
 */
export class History {
  /** How many histories there were before this one. */
  #before = 0
  #cluster: string
  #revision: number
  /** Terms, and the revision that a request must know more than so that it must know the term: a member tells its term a moment late. */
  #terms: { readonly term: number; readonly above: number }[]

  /** @param known what an earlier run has seen; an empty cluster: nothing */
  constructor({ cluster, revision, term }: Header) {
    this.#cluster = cluster
    this.#revision = revision
    this.#terms = [{ term, above: -1 }]
  }

  /** The newest that was seen. */
  get newest(): Header {
    return { cluster: this.#cluster, revision: this.#revision, term: this.#terms[this.#terms.length - 1].term }
  }

  /** What an answer to a request that is sent now must know. */
  mark(): number {
    return this.#before * SPAN + this.#revision
  }

  /**
   * Judges an answer.
   * @param mark of before its request was sent, and not foreign
   * @returns why the answer is by an etcd that has forgotten something; null: it is not
   */
  judge(mark: number, { cluster, revision, term }: Header): string | null {
    const known = mark % SPAN
    if (this.#cluster !== '' && cluster !== this.#cluster) return 'it is another cluster'
    if (revision < known) return `its revision went back from ${known} to ${revision}`
    const before = Math.max(0, ...this.#terms.filter(({ above }) => above < known).map((one) => one.term))
    return term < before ? `its raft term went back from ${before} to ${term}` : null
  }

  /** Whether a mark is of a history that was let go of, so that nothing can be judged by it. */
  isForeign(mark: number): boolean {
    return Math.floor(mark / SPAN) !== this.#before
  }

  /** Takes over what an answer says that was judged to be of this history. */
  note({ cluster, revision, term }: Header): void {
    this.#cluster = cluster
    if (term > this.newest.term) this.#terms = [...this.#terms, { term, above: this.#revision }].slice(-MAX_TERMS)
    this.noteRevision(revision)
  }

  /** Takes over a revision that was seen. */
  noteRevision(revision: number): void {
    this.#revision = Math.max(this.#revision, revision)
  }

  /** Begins anew, with an etcd that is known from this revision on. */
  beginAnew(revision: number): void {
    this.#before++
    this.#cluster = ''
    this.#revision = revision
    this.#terms = [{ term: 0, above: -1 }]
  }
}
