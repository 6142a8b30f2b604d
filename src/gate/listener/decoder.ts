import { bytesToHex } from '@noble/hashes/utils.js'
import { codebook } from '../../protocol/codebook'
import { identity, open, symbolPorts } from '../../protocol/knock'
import type { Now } from '../clock'
import { arrivalOf, type Knock } from '../knock'
import type { Codebooks } from './codebooks'
import type { Explained } from './explained'
import type { Attempt, Session } from './session'
import type { Sessions } from './sessions'
import type { Candidate, Table } from './table'

/* docs/protocol.md, "Receiving" 4: one attempt; and 7: what it explains (explained.ts). */

/** An opened knock, and every port that its symbols may use. */
interface Found {
  readonly knock: Knock
  readonly ports: ReadonlySet<number>
}

/** Makes attempts, one decode each. */
export class Decoder {
  readonly #skew: number
  readonly #table: Table
  readonly #books: Codebooks
  readonly #sessions: Sessions
  readonly #explained: Explained

  constructor(skew: number, table: Table, books: Codebooks, sessions: Sessions, explained: Explained) {
    this.#skew = skew
    this.#table = table
    this.#books = books
    this.#sessions = sessions
    this.#explained = explained
  }

  /** Makes an attempt. @returns the knock that it opens, whose ports are explained from now on; null where it opens none */
  try(session: Session, attempt: Attempt, now: Now): Knock | null {
    const found = this.decode(session, attempt, now)
    if (!found) return null
    this.#explain(session, attempt.candidate, found)
    return found.knock
  }

  /** Makes an attempt, and explains nothing. @returns null where it opens no knock */
  decode(session: Session, { candidate, places, symbols, k }: Attempt, now: Now): Found | null {
    const { key, window } = candidate
    const opened = open(key, window, places, symbols, k)
    if (!opened) return null
    const ports = new Set(symbolPorts(this.#books.get(candidate) ?? codebook(key, window), opened.sealed))
    const times = [...ports, ...candidate.rendezvous].map((port) => session.touches.get(port)?.last ?? -Infinity)
    const heard = Math.max(...times)
    const arrival = arrivalOf(candidate, heard, now, this.#skew)
    const { source, destination } = session
    const v = bytesToHex(identity(opened.sealed))
    return { knock: { key, window, request: opened.request, v, source, destination, heard, arrival }, ports }
  }

  /** What has been said is taken out, and is not heard again. */
  #explain(session: Session, candidate: Candidate, { knock, ports }: Found): void {
    for (const port of ports) {
      const touch = session.touches.get(port)
      if (!touch) continue
      // It may be a rendezvous port of another key, and stays one.
      if (this.#table.knows(port)) session.touches.set(port, { ...touch, said: true })
      else this.#sessions.untouch(session, port)
    }
    this.#explained.add({ name: session.place.name, candidate, v: knock.v, ports })
  }
}
