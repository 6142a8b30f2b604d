import { bytesToHex } from '@noble/hashes/utils.js'
import type { Told } from '../gate/chronicle'
import type { Now } from '../gate/clock'
import type { Lock } from '../gate/firewall'
import type { Knock } from '../gate/knock'
import type { Unclaimed } from '../gate/ledger'
import type { Refusal } from '../gate/policy'
import { Quiet } from '../gate/quiet'
import type { ServerKey } from '../gate/server-key'
import { REFUSAL_RATE, REFUSALS, Shares } from '../gate/share'
import type { Tap } from '../gate/tap'
import { isZeroAddress } from '../protocol/address'
import { datagramIdentity } from '../protocol/datagram'
import { formatService } from '../protocol/service'
import { inOneLine } from '../system/fault'
import { isoTime } from '../system/time'
import { whyAhead } from './ahead'
import type { RefusedBy } from './allowed'
import type { Stages } from './stages'

/** A refusal is said once a minute for each knock, and so is it that passcodes wait: who repeats or guesses must not fill the log. */
const QUIET = 60_000

/** Tells the log what is refused, and keeps it from being filled: nobody's refusals take the place of what others should read. */
export class Refusals {
  readonly #stages: Pick<Stages, 'listener' | 'ledger' | 'log' | 'now' | 'chronicle'>
  readonly #quiet = new Quiet(QUIET)
  /** How many of each key's refusals are said. */
  readonly #shares = new Shares(REFUSALS, REFUSAL_RATE)
  /** key → its refusals that were not said. */
  readonly #unsaid = new Map<string, number>()
  /** Knocks that their own source has said again. */
  retransmits = 0

  constructor(stages: Pick<Stages, 'listener' | 'ledger' | 'log' | 'now' | 'chronicle'>) {
    this.#stages = stages
  }

  /** A tap from a locked address: no news where it belongs to the knock that locked, as its rest and its second pass do. */
  ofTap(tap: Tap, { id, key, until }: Lock): void {
    const { listener, now } = this.#stages
    const { source, payload } = tap
    const isRepeated = payload ? bytesToHex(datagramIdentity(payload)).startsWith(id) : listener.repeats(tap, now())
    if (!isRepeated) this.#say('locked', { key, source, until: isoTime(until * 1000) }, `locked ${source}`)
  }

  /** Passcodes, of which so many were wrong that all of them wait. */
  ofPasscodes({ steady }: Now): void {
    if (this.#quiet.may('passcodes wait', steady))
      this.#stages.log.warn('too many wrong passcodes: none is accepted before the next window')
  }

  /** A knock that was understood. @param more what to say beyond the refusal's word */
  ofKnock(knock: Knock, key: ServerKey, refusal: Refusal, more: RefusedBy = {}): void {
    const { request, source, window, v, arrival, by } = knock
    const isOff = arrival !== 'timely' && refusal === arrival && more.reason === undefined
    const clock = isOff ? { clock: clockError(this.#secondsOff(knock)) } : {}
    const about = {
      key: key.id,
      fingerprint: key.fingerprint,
      source,
      action: request.action,
      ...(by ? { by } : {}),
      address: isZeroAddress(request.address) ? source : request.address,
      service: by && key.passcode ? key.passcode.services.map(formatService).join(',') : `${request.port}/${request.protocol}`,
      seconds: request.seconds,
      until: null,
      ...clock,
      // Whether that may be the same sender, by another of their addresses, its reader can tell.
      ...(refusal === 'replayed' ? { first: this.#stages.ledger.firstSource(knock, key.fingerprint) } : {}),
      ...more,
    }
    // A disk that fails refuses every knock alike: each key is told of it once in a while.
    const name = refusal === 'ledger-unavailable' ? key.fingerprint : `${key.fingerprint} ${v} ${window}`
    this.#say(refusal, about, `${refusal} ${name}`, { key: key.id, source, action: request.action })
  }

  /** A knock that could not be claimed; its own source saying it again is no news, and is counted. */
  ofUnclaimed(knock: Knock, key: ServerKey, claim: Unclaimed): void {
    if (claim.outcome === 'retransmitted') this.retransmits++
    else if (claim.outcome === 'unavailable') this.ofKnock(knock, key, 'ledger-unavailable', { reason: inOneLine(claim.reason) })
    else if (claim.outcome === 'full')
      this.ofKnock(knock, key, 'ledger-unavailable', { reason: 'the ledger is full for this key' })
    else this.ofKnock(knock, key, claim.outcome, claim.outcome === 'stale' ? { reason: this.#whyBelow(knock, key) } : {})
  }

  /** How many refusals of each key were not said: who has a key must not fill the log, and is not to be overlooked either. */
  tellUnsaid(): void {
    const { log, now } = this.#stages
    if (this.#unsaid.size === 0 || !this.#quiet.may('unsaid', now().steady)) return
    for (const [key, count] of this.#unsaid) log.warn({ key, count }, 'too many refusals of this key: some were not logged')
    this.#unsaid.clear()
  }

  /** @param name of what is said once in a while only @param knock absent where a tap alone was refused */
  #say(
    refusal: Refusal,
    about: { readonly key: string; readonly [field: string]: unknown },
    name: string,
    knock?: Omit<Told, 'at' | 'outcome'>,
  ): void {
    const { log, now, chronicle } = this.#stages
    const { steady, wall } = now()
    if (!this.#quiet.may(name, steady)) return
    chronicle?.refused(refusal, wall, knock)
    if (!this.#shares.take(about.key, 1, steady)) this.#unsaid.set(about.key, 1 + (this.#unsaid.get(about.key) ?? 0))
    else if (refusal === 'ledger-unavailable') log.error({ refusal, ...about }, 'refused')
    else log.warn({ refusal, ...about }, 'refused')
  }

  /** Why a knock below the floor opens nothing. Where no floor is ahead, no clock need be wrong: it may be a replay. */
  #whyBelow(knock: Knock, key: ServerKey): string {
    const { ledger, now } = this.#stages
    const ahead = whyAhead(ledger, key, now().wall)
    const seconds = this.#secondsOff(knock)
    const when = seconds < 0 ? ` (${-seconds} s ago)` : ''
    return ahead ?? `its window${when} is below the floor: the ledger no longer knows which knocks were spent there`
  }

  /** By how many seconds a knock's window lies ahead of its arrival, to half a window; below zero, behind. */
  #secondsOff({ key, window, heard }: Knock): number {
    const { wall, steady } = this.#stages.now()
    return Math.round((window + 0.5) * key.period - (wall - (steady - heard)) / 1000)
  }
}

function clockError(seconds: number): string {
  return seconds < 0 ? `the sender's clock is ${-seconds} s behind` : `the sender's clock is ${seconds} s ahead`
}
