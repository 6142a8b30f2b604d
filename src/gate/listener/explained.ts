import { acceptedWindows, type Now } from '../clock'
import type { Name } from '../tap'
import { type Candidate, FAR } from './table'

/* docs/protocol.md, "Receiving" 7: what has been explained by a knock that was opened. */

/** Opened knocks that are remembered, oldest forgotten first. */
export const MAX_EXPLAINED = 4_096
/**
 * Those of one session, oldest forgotten first: at most an eighth of a usual pool is not heard from it. Without that bound, 150 knocks of
 * one key had another key's knocks from the same address come to nothing.
 */
export const MAX_EXPLAINED_OF_SESSION = 32

interface Opened {
  /** Of the session's source. */
  readonly name: Name
  readonly candidate: Candidate
  readonly v: string
  readonly ports: ReadonlySet<number>
}

/**
 * The symbol ports of opened knocks, by the session that sent them. Further taps on them say nothing new while the window is
 * accepted: not a second pass, not a browser's SYNs that go on for two minutes. So they don't spoil the next knock either.
 */
export class Explained {
  readonly #skew: number
  readonly #byName = new Map<Name, Opened[]>()
  readonly #oldestFirst = new Set<Opened>()

  constructor(skew: number) {
    this.#skew = skew
  }

  get size(): number {
    return this.#oldestFirst.size
  }

  add(opened: Opened): void {
    this.#oldestFirst.add(opened)
    const ofSession = this.#byName.get(opened.name)
    if (ofSession) ofSession.push(opened)
    else this.#byName.set(opened.name, [opened])
    if (ofSession && ofSession.length > MAX_EXPLAINED_OF_SESSION) this.#forget(ofSession[0])
    if (this.#oldestFirst.size > MAX_EXPLAINED) this.#forget(this.#oldestFirst.values().next().value as Opened)
  }

  /** Whether a tap is explained by a knock that was opened in this session. */
  has(name: Name, port: number, now: Now): boolean {
    const knocks = this.#byName.get(name)
    if (!knocks) return false
    for (const opened of knocks) {
      const { key, window } = opened.candidate
      const { first } = acceptedWindows(now.wall, key.period, this.#skew)
      if (window < first - FAR) this.#forget(opened)
      else if (window >= first && opened.ports.has(port)) return true
    }
    return false
  }

  /** Whether a tap says nothing but what a knock of this session has said: on one of its symbol ports, or on a rendezvous port. */
  repeats(name: Name, port: number, now: Now): boolean {
    if (this.has(name, port, now)) return true
    return (this.#byName.get(name) ?? []).some(({ candidate }) => candidate.rendezvous.includes(port))
  }

  /** Whether a knock is one that was opened in this session: heard again when its window is over, it is no sign of a wrong clock. */
  knows(name: Name, candidate: Candidate, v: string): boolean {
    return (this.#byName.get(name) ?? []).some((opened) => opened.candidate === candidate && opened.v === v)
  }

  #forget(opened: Opened): void {
    this.#oldestFirst.delete(opened)
    const rest = this.#byName.get(opened.name)?.filter((other) => other !== opened)
    if (rest?.length) this.#byName.set(opened.name, rest)
    else this.#byName.delete(opened.name)
  }
}
