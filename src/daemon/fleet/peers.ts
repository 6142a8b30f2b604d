import type { Now } from '../../gate/clock'
import { KEY_ID } from '../../protocol/key'
import { ClockOfOther, type OtherClock } from './clocks'
import type { Row } from './etcd/etcd'
import { type GatewayWord, parseWord } from './gateway-row'

/** Milliseconds without a beat after which a gateway counts no more: it may have slept. */
export const SILENT = 15_000
/** Gateways that are followed: beyond that, who comes last is left out. */
export const MAX_GATEWAYS = 256

/** Another gateway, by its newest word. */
export interface Peer {
  readonly name: string
  readonly word: GatewayWord
  /** Steady milliseconds of its last beat that was heard; null: none has been. */
  readonly heard: number | null
}

interface Followed extends Peer {
  readonly clock: ClockOfOther
}

/** The other gateways of a fleet. */
export class Peers {
  readonly #peers = new Map<string, Followed>()

  /** Takes over all rows of other gateways. They are as old as they are: nobody is heard by that. */
  reset(rows: ReadonlyMap<string, Row>): void {
    for (const name of this.#peers.keys()) if (!rows.has(name)) this.#peers.delete(name)
    for (const [name, { value }] of rows) this.#note(name, value, null)
  }

  /** A gateway has beaten. */
  put(name: string, value: string, now: Now): void {
    this.#note(name, value, now)
  }

  removed(name: string): void {
    this.#peers.delete(name)
  }

  /** Those that speak. */
  speaking({ steady }: Now): readonly Peer[] {
    return this.all().filter(({ heard }) => heard !== null && steady - heard < SILENT)
  }

  all(): readonly Peer[] {
    return [...this.#peers.values()]
  }

  /** By how many milliseconds a gateway's clock is ahead; null: it is not known. */
  offset(name: string, now: Now): number | null {
    return this.#peers.get(name)?.clock.ahead(now) ?? null
  }

  /** The clocks of those that speak. */
  clocks(now: Now): readonly OtherClock[] {
    return this.speaking(now).flatMap(({ name, word }) => {
      const offset = this.offset(name, now)
      return offset === null ? [] : { name, offset, synchronised: word.synchronised }
    })
  }

  #note(name: string, value: string, now: Now | null): void {
    const word = parseWord(value)
    const known = this.#peers.get(name)
    if (!word || !KEY_ID.test(name) || (!known && this.#peers.size >= MAX_GATEWAYS)) return
    const clock = known?.clock ?? new ClockOfOther()
    const isOther = known?.word.life !== word.life || now === null || known.heard === null || now.steady - known.heard >= SILENT
    if (isOther && now) clock.forget()
    if (now) clock.hear(word, now)
    const heard = now?.steady ?? (known && known.word.life === word.life ? known.heard : null)
    this.#peers.set(name, { name, word, heard, clock })
  }
}
