import { bytesToHex } from '@noble/hashes/utils.js'
import type { Config } from '../../daemon/config'
import { acceptedWindows } from '../../gate/clock'
import type { Knock } from '../../gate/knock'
import { TAP_LIFE } from '../../gate/listener/session'
import type { Refusal } from '../../gate/policy'
import type { ServerKey } from '../../gate/server-key'
import { QUORUM } from '../../protocol/codebook'
import type { Key } from '../../protocol/key'
import { compose } from '../../protocol/knock'
import type { Request } from '../../protocol/request'
import type { Burst, Bursts, Datagram } from './bursts'
import { judgeCode, type Said } from './codes'
import { type Near, nearest, nearestDatagram, Searches } from './nearest'
import type { Line, Verdict } from './pipeline'

/* What was heard of each source: what the daemon has made of it, and of the rest what it was nearest to. */

/** Verdicts that are kept. */
const MAX_VERDICTS = 65_536
/** Keys and windows that are computed for all bursts together, some seconds of work; and that are tried for one: with ten keys, a day. */
const MAX_COMPUTED = 200_000
const MAX_TRIED = 50_000
/** Milliseconds for which what a tap was part of may be told later: a session ends ten seconds after it, and those of past windows wait for their turn. */
const LATER = 15_000
/** Ports of a knock, and of one with some noise, at most. */
const KNOCK = 52
const A_KNOCK = 80
/** Knocks of one burst whose ports are computed, each some milliseconds of work: a burst without a rest may have any number. */
const MAX_BESIDE = 16

/** Whose knock it is, and by how much the sender's clock is off. */
interface Whose {
  readonly key: string
  readonly fingerprint: string
  readonly window: number
  /** Seconds by which the window's middle is ahead of its arrival; below zero, behind. */
  readonly seconds: number
  readonly isAccepted: boolean
}

/** Why something was not opened that is a knock's. */
export type Why = 'window' | 'rendezvous' | 'symbols' | 'spread' | 'damaged'

/** One thing that was heard of a source. Times are Unix milliseconds. */
export type Found = { readonly at: number; readonly source: string; readonly destination: string | null } & (
  | (Whose & {
      readonly kind: 'knock'
      readonly by: 'ports' | 'passcode'
      /** `retransmitted`: its own source has said it again; `repeated`: it has just been refused for the same reason. */
      readonly outcome: 'accepted' | Refusal | 'retransmitted' | 'repeated'
      readonly request: Request
      /** What the daemon would log; null where that is nothing. */
      readonly line: Line | null
      /** When the key was revoked, or expires, in Unix milliseconds; null: neither. */
      readonly end: number | null
    })
  | { readonly kind: 'locked'; readonly line: Line }
  | (Whose &
      Omit<Near, 'key' | 'window' | 'opened'> & {
        readonly kind: 'incomplete'
        readonly why: Why
        readonly missing: number
        readonly request: Request | null
      })
  | (Whose & { readonly kind: 'datagram'; readonly port: number; readonly why: Why; readonly request: Request | null })
  | { readonly kind: 'unknown-datagram'; readonly port: number }
  | {
      readonly kind: 'passcode'
      readonly heard: number
      readonly of: number
      readonly isVoid: boolean
      /** Whose it is, in a window that is not accepted; null where it is nobody's, or is not whole. */
      readonly fits: Whose | null
    }
  | { readonly kind: 'unknown'; readonly ports: number }
)

/** Gathers what was heard. */
export class Findings {
  readonly #config: Config
  readonly #keys: readonly ServerKey[]
  readonly #byKey: ReadonlyMap<Key, ServerKey>
  readonly #found: Found[] = []
  /** `source destination` → when a knock of it was opened. */
  readonly #opened = new Map<string, { readonly at: number; readonly knock: Knock }[]>()
  readonly #locked = new Map<string, number[]>()
  lost = 0

  constructor(config: Config, keys: readonly ServerKey[]) {
    this.#config = config
    this.#keys = keys
    this.#byKey = new Map(keys.map((key) => [key.key, key]))
  }

  /** Takes what the daemon has made of a knock. */
  judged({ knock, at, line, isRetransmitted }: Verdict): void {
    if (!knock) {
      const source = String(line?.source)
      add(this.#locked, source, at)
      if (line) this.#keep({ kind: 'locked', at, source, destination: null, line })
      return
    }
    const { source, destination, key, window, request, by } = knock
    add(this.#opened, `${source} ${destination}`, { at, knock })
    const outcome = !line
      ? isRetransmitted
        ? 'retransmitted'
        : 'repeated'
      : line.msg === 'accepted'
        ? 'accepted'
        : (line.refusal as Refusal)
    const { revoked = null, expires = null } = this.#byKey.get(key) ?? {}
    const whose = this.#whose(key, window, at)
    const end = revoked ?? expires
    this.#keep({ kind: 'knock', at, source, destination, ...whose, by: by ?? 'ports', outcome, request, line, end })
  }

  /** All that was found, when there is no more to come. */
  all({ kept, datagrams }: Bursts, said: readonly Said[]): readonly Found[] {
    const keys = this.#keys.map(({ key }) => key)
    const left = kept.flatMap((burst) => this.#unexplained(burst))
    const lone = datagrams.filter((datagram) => !this.#isExplained(datagram, datagram.at, datagram.at))
    const searches = new Searches(MAX_COMPUTED, MAX_TRIED, left.length + lone.length)
    // A knock and some noise first: what scans touch more ports, and where there is much of it each search gets less far.
    left.sort((a, b) => Number(a.ports.size > A_KNOCK) - Number(b.ports.size > A_KNOCK))
    for (const burst of left) this.#keep(this.#ofBurst(burst, keys, searches))
    for (const datagram of lone) this.#keep(this.#ofDatagram(datagram, keys, searches))
    for (const code of said) if (!this.#isExplained(code, code.first, code.last)) this.#keep(this.#ofCode(code))
    return this.#found
  }

  #keep(found: Found): void {
    if (this.#found.length < MAX_VERDICTS) this.#found.push(found)
    else this.lost++
  }

  /** Whether the daemon has opened a knock of these taps, or has not looked at them. */
  #isExplained({ source, destination }: { source: string; destination: string }, first: number, last: number): boolean {
    const opened = this.#opened.get(`${source} ${destination}`) ?? []
    const locked = this.#locked.get(source) ?? []
    return opened.some(({ at }) => isWithin(at, first, last)) || locked.some((at) => isWithin(at, first, last))
  }

  /** What of a burst no knock explains: all of it, or what is left without the ports of those that were opened, if they are not nearly all. */
  #unexplained(burst: Burst): readonly Burst[] {
    const { source, destination, first, last, ports } = burst
    if (!this.#isExplained(burst, first, last)) return [burst]
    if (ports.size <= A_KNOCK || (this.#locked.get(source) ?? []).some((at) => isWithin(at, first, last))) return []
    const within = (this.#opened.get(`${source} ${destination}`) ?? []).filter(({ at }) => isWithin(at, first, last))
    // The v of a knock is its own within key and window.
    const named = within.map(({ knock }) => [`${bytesToHex(knock.key.fingerprint)} ${knock.window} ${knock.v}`, knock] as const)
    const knocks = [...new Map(named).values()]
    if (knocks.length > MAX_BESIDE) return []
    const known = new Set(knocks.flatMap(({ by, key, window, request }) => (by ? [] : compose(key, window, request))))
    const left = [...ports].filter(([port]) => !known.has(port))
    if (left.length < A_KNOCK - KNOCK) return []
    return [
      { ...burst, first: left.reduce((least, [, at]) => Math.min(least, at), last), taps: left.length, ports: new Map(left) },
    ]
  }

  #ofBurst({ source, destination, ports, first, last }: Burst, keys: readonly Key[], searches: Searches): Found {
    const near = nearest(ports, keys, last, searches)
    const where = { at: first, source, destination }
    if (!near) return { kind: 'unknown', ...where, ports: ports.size }
    const { key, window, opened, ...heard } = near
    const whose = this.#whose(key, window, last)
    const missing = Math.max(0, heard.needed - heard.symbols)
    return {
      kind: 'incomplete',
      ...where,
      ...whose,
      ...heard,
      missing,
      why: whyOf(near, whose),
      request: opened?.request ?? null,
    }
  }

  #ofDatagram({ source, destination, port, payload, at }: Datagram, keys: readonly Key[], searches: Searches): Found {
    const near = nearestDatagram(payload, keys, at, searches)
    const where = { at, source, destination, port }
    if (!near) return { kind: 'unknown-datagram', ...where }
    const whose = this.#whose(near.key, near.window, at)
    const why = near.opened && !whose.isAccepted ? 'window' : 'damaged'
    return { kind: 'datagram', ...where, ...whose, why, request: near.opened?.request ?? null }
  }

  #ofCode(said: Said): Found {
    const { passcode, skew } = this.#config
    const having = this.#keys.filter((key) => key.passcode)
    const { fits, ...known } = judgeCode(said, passcode.pinDigits, having, skew)
    const { source, destination, first: at, last } = said
    return { kind: 'passcode', at, source, destination, ...known, fits: fits && this.#whose(fits.key.key, fits.window, last) }
  }

  #whose(key: Key, window: number, at: number): Whose {
    const { first, last } = acceptedWindows(at, key.period, this.#config.skew)
    return {
      key: this.#byKey.get(key)?.id ?? '',
      fingerprint: bytesToHex(key.fingerprint),
      window,
      seconds: Math.round((window + 0.5) * key.period - at / 1000),
      isAccepted: window >= first && window <= last,
    }
  }
}

/** Whether taps from `first` to `last` may be what was told of at that time. */
const isWithin = (at: number, first: number, last: number): boolean => at >= first && at <= last + LATER

function add<T>(lists: Map<string, T[]>, name: string, one: T): void {
  const known = lists.get(name)
  if (known) known.push(one)
  else lists.set(name, [one])
}

/** What kept a knock from being opened, the first that would have had to be otherwise. */
function whyOf({ rendezvous, symbols, needed, spread, opened }: Near, { isAccepted }: Whose): Why {
  if (opened && !isAccepted) return 'window'
  if (rendezvous < QUORUM) return 'rendezvous'
  if (symbols < needed) return spread > TAP_LIFE ? 'spread' : 'symbols'
  return isAccepted ? 'damaged' : 'window'
}
