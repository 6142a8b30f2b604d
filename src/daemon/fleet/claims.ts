import { randomBytes } from 'node:crypto'
import { acceptedWindows, type Now } from '../../gate/clock'
import type { Knock } from '../../gate/knock'
import type { Claim, Ledger, OneTimeRule, Unclaimed } from '../../gate/ledger'
import { reason } from '../../system/fault'
import { Burning } from './burning'
import { type Attempt, claimOf, type Ground, isBelowBase, judge, untilOf, type Verdict } from './claim'
import { type Etcd, Unavailable } from './etcd/etcd'
import type { Link } from './link'
import { baseFloor, sourceCode } from './rows'

/** Milliseconds for which a knock that is refused here is left to other gateways, before it is made dead for all of them. */
export const GRACE = 5_000
/** Milliseconds that another gateway's clock may be ahead beyond what is known of it. */
export const MARGIN = 2_000
/** Claims that may wait for etcd at a time: a second's worth of what it can do. More would be answered when nobody waits any more. */
export const MAX_CLAIMS = 1_024
/**
 * Claims of one key among them, so that none can use up the room of the others: whoever says hundreds of different knocks a second is alone in
 * having some refused.
 */
export const MAX_CLAIMS_OF_KEY = 128
/** How often a claim is asked, where its key had no floor at first: it has one then, unless somebody removes it. */
const ROUNDS = 2

/** What a fleet's ledger works with. */
export interface FleetLedgerSetup {
  /** Windows. */
  readonly skew: number
  /** Milliseconds that a claim may take. */
  readonly timeout: number
  readonly now: () => Now
  readonly warn: (message: string) => void
}

/** `doubted`: it is said by an etcd that has forgotten something. */
type Answer = Verdict | { readonly is: 'doubted' }

/** Answers by which a knock is dead in etcd, for every gateway. */
const DEAD: ReadonlySet<Answer['is']> = new Set<Answer['is']>(['claimed', 'own', 'revoked', 'retransmitted', 'replayed', 'stale'])

/**
 * The one-time rule of several gateways: a knock is spent where this gateway's own file and etcd both say so. Whatever is not known opens nothing;
 * and what was claimed in the file alone is made dead in etcd, too, as soon as that can be asked.
 */
export class FleetLedger implements OneTimeRule {
  readonly #own: Ledger
  readonly #etcd: Etcd
  readonly #link: Link
  readonly #setup: FleetLedgerSetup
  readonly #burning: Burning
  /** fingerprint and period → the highest floor that etcd has refused a knock by. */
  readonly #floors = new Map<string, number>()
  /** fingerprint → its claims that wait for etcd; and all of them. */
  readonly #askingOf = new Map<string, number>()
  #asking = 0

  constructor(own: Ledger, etcd: Etcd, link: Link, setup: FleetLedgerSetup) {
    this.#own = own
    this.#etcd = etcd
    this.#link = link
    this.#setup = setup
    this.#burning = new Burning({ ...setup, burn: (attempt) => this.#burn(attempt) })
  }

  /** Knocks that are dead here, and wait to be so in etcd. */
  get burning(): number {
    return this.#burning.size
  }

  /** As this gateway's file knows it. */
  ask(knock: Knock, fingerprint: string): ReturnType<OneTimeRule['ask']> {
    return this.#own.ask(knock, fingerprint)
  }

  /** As this gateway's file knows it: etcd has no address. */
  firstSource(knock: Knock, fingerprint: string): string | null {
    return this.#own.firstSource(knock, fingerprint)
  }

  /** As the file and the fleet have it: the later of both. The floor that a key has in etcd is known only where it has refused a knock. */
  opensAt(fingerprint: string, period: number, wall: number): ReturnType<OneTimeRule['opensAt']> {
    const { base, own } = this.#own.opensAt(fingerprint, period, wall)
    const known = this.#link.base
    return {
      base: later(base, (known ? baseFloor(known.base, period) : 0) * period * 1000, wall),
      own: later(own, (this.#floors.get(`${fingerprint} ${period}`) ?? 0) * period * 1000, wall),
    }
  }

  get remedy(): string {
    return `run "knockturn fleet floor", or where it is this gateway's own, ${this.#own.remedy}`
  }

  /** Claims a knock, first in the file, in this very tick; then in etcd. */
  async claim(knock: Knock, fingerprint: string): Promise<Claim> {
    const own = await this.#own.claim(knock, fingerprint)
    if (own.outcome !== 'spent' && own.outcome !== 'unavailable') return own
    const at = this.#setup.now()
    const isTimely = knock.arrival === 'timely'
    const attempt = { knock, fingerprint, spent: this.#spent(knock, at), raises: isTimely }
    if (own.outcome === 'unavailable') {
      this.#doom(attempt, GRACE)
      return own
    }
    const refusal = this.#link.refusal(at)
    const ground = this.#ground()
    if (refusal !== null || ground === null || (!isTimely && this.#isNear(knock, at))) {
      // Another gateway may hear it as well, and take it: it comes first.
      this.#doom(attempt, GRACE)
      return isTimely ? unavailable(refusal ?? 'this gateway is not known to the fleet yet') : own
    }
    if (isBelowBase(knock, ground)) return { outcome: 'stale' }
    if (this.#asking >= MAX_CLAIMS) return this.#refuse(attempt, `${MAX_CLAIMS} claims wait for etcd already`)
    const ofKey = this.#askingOf.get(fingerprint) ?? 0
    if (ofKey >= MAX_CLAIMS_OF_KEY) return this.#refuse(attempt, `${MAX_CLAIMS_OF_KEY} claims of this key wait for etcd already`)
    this.#count(fingerprint, 1)
    try {
      return this.#conclude(attempt, await this.#ask(attempt, ground))
    } catch (error) {
      return this.#refuse(attempt, reason(error))
    } finally {
      this.#count(fingerprint, -1)
    }
  }

  #count(fingerprint: string, more: 1 | -1): void {
    this.#asking += more
    const ofKey = (this.#askingOf.get(fingerprint) ?? 0) + more
    if (ofKey > 0) this.#askingOf.set(fingerprint, ofKey)
    else this.#askingOf.delete(fingerprint)
  }

  /** Makes dead what waits for it, as far as etcd answers in time. Nothing is claimed any more. */
  async end(): Promise<void> {
    await this.#burning.end(this.#setup.timeout)
  }

  /** What claims go by; null: that is not known yet, or no more. */
  #ground(): Ground | null {
    const { gateway, base, beaten } = this.#link
    return base && beaten !== null ? { ...base, gateway, beaten } : null
  }

  #spent(knock: Knock, { wall }: Now): Attempt['spent'] {
    return {
      attempt: randomBytes(16).toString('hex'),
      gateway: this.#link.gateway,
      source: sourceCode(knock.key, knock),
      until: untilOf(knock, wall),
    }
  }

  /** Whether a gateway whose clock is ahead of this one's may take a future knock for a timely one. */
  #isNear({ key, window }: Knock, at: Now): boolean {
    return acceptedWindows(at.wall + this.#link.ahead(at) + MARGIN, key.period, this.#setup.skew).last >= window
  }

  /** @throws {Unavailable} etcd can't be asked, or does not answer in time */
  async #ask(attempt: Attempt, ground: Ground): Promise<Answer> {
    const began = this.#setup.now().steady
    for (let round = 0; round < ROUNDS; round++) {
      const timeout = this.#setup.timeout - (this.#setup.now().steady - began)
      if (timeout <= 0) throw new Unavailable('etcd took too long to answer', 'timeout', false)
      const mark = this.#link.mark()
      const [outcome, isSame] = await Promise.all([
        this.#etcd.transact(claimOf(attempt, ground, this.#setup.skew), { timeout }),
        this.#link.isSame(),
      ])
      if (!this.#link.believes(mark, outcome.header) || !isSame) return { is: 'doubted' }
      const verdict = judge(outcome, attempt, ground)
      if (verdict.is !== 'floorless') return verdict
    }
    return { is: 'strange' }
  }

  #conclude(attempt: Attempt, answer: Answer): Claim {
    switch (answer.is) {
      case 'claimed':
      case 'own': {
        // etcd took its time: what is known of the fleet by now counts.
        const refusal = this.#link.refusal(this.#setup.now())
        return refusal === null || !attempt.raises ? { outcome: 'spent' } : unavailable(refusal)
      }
      case 'stale':
        this.#noteFloor(attempt, answer.floor)
        return { outcome: 'stale' }
      case 'replayed':
        this.#own.forgetSource(attempt.knock, attempt.fingerprint)
        return { outcome: 'replayed' }
      case 'revoked':
      case 'retransmitted':
        return { outcome: answer.is }
      case 'rebased':
        this.#link.look()
        return this.#refuse(attempt, 'the fleet has another base by now')
      case 'forgotten':
      case 'doubted':
        this.#link.look()
        return this.#refuse(attempt, 'etcd has forgotten something: it was restored, or is another one')
      default:
        return this.#refuse(attempt, 'etcd refused the claim, and what it says does not tell why')
    }
  }

  /** @returns whether a knock is known to be dead in etcd */
  async #burn(attempt: Attempt): Promise<boolean> {
    const ground = this.#ground()
    if (!ground) return false
    if (isBelowBase(attempt.knock, ground)) return true
    const { is } = await this.#ask(attempt, ground)
    if (is === 'rebased' || is === 'forgotten') this.#link.look()
    return DEAD.has(is)
  }

  #refuse(attempt: Attempt, why: string): Unclaimed {
    this.#doom(attempt)
    return unavailable(why)
  }

  /** Its floor is left as it is: by now, nobody knows whether the clock by which it is timely is right. */
  #doom(attempt: Attempt, grace?: number): void {
    this.#burning.add({ ...attempt, raises: false }, grace)
  }

  #noteFloor({ knock: { key }, fingerprint }: Attempt, floor: number): void {
    const name = `${fingerprint} ${key.period}`
    this.#floors.set(name, Math.max(floor, this.#floors.get(name) ?? 0))
  }
}

const unavailable = (reason: string): Unclaimed => ({ outcome: 'unavailable', reason })

/** The later of two moments; null where neither is to come. All in Unix milliseconds. */
const later = (one: number | null, other: number, wall: number): number | null => (other > wall ? Math.max(one ?? 0, other) : one)
