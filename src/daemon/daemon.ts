import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex, concatBytes } from '@noble/hashes/utils.js'
import type { Logger } from 'pino'
import type { Now } from '../gate/clock'
import type { Firewall, Lease, Lock } from '../gate/firewall'
import type { Knock } from '../gate/knock'
import { isLease, type Leases } from '../gate/leases'
import type { Claim, Ledger } from '../gate/ledger'
import type { Listener } from '../gate/listener/listener'
import type { Passcodes } from '../gate/passcodes/passcodes'
import {
  boundAddress,
  decide,
  type Grant,
  isOver,
  passcodeKey,
  passcodeRequest,
  type Refusal,
  type ServerKey,
} from '../gate/policy'
import { Quiet } from '../gate/quiet'
import { REFUSAL_RATE, REFUSALS, SHARE, SHARE_RATE, Shares } from '../gate/share'
import type { Tap } from '../gate/tap'
import { type Cidr, inCidr, isZeroAddress } from '../protocol/address'
import { u64 } from '../protocol/bytes'
import { datagramIdentity } from '../protocol/datagram'
import type { Key } from '../protocol/key'
import { PASSCODE_V } from '../protocol/passcode'
import { formatService } from '../protocol/service'
import { reason } from '../system/fault'
import { isoTime } from '../system/time'
import { baseAhead, floorsAhead, whyAhead } from './ahead'
import { Doors, type Outcome } from './doors'

/** Milliseconds between looks at what is due: when there is nothing that could be, when nothing waits, and when a burst is arriving. */
const REST = 1_000
const IDLE = 250
const BUSY = 10
/** A refusal is said once a minute for each knock, so that nobody fills the log by repeating one. */
const QUIET = 60_000
/** Milliseconds by which the wall clock must jump to be told: a usual window, which the skew forgives. */
const JUMP = 30_000

/** What the pipeline runs through, in this order, and the log that says what came of it. */
export interface Stages {
  readonly listener: Listener
  /** Absent where none are heard. */
  readonly passcodes?: Passcodes
  readonly ledger: Ledger
  readonly leases: Leases
  readonly firewall: Firewall
  readonly log: Logger
  readonly now: () => Now
}

/**
 * The daemon: tap source → listener → ledger → policy → leases → firewall. It answers nobody; what it says, it says to its log.
 * Whoever starts it feeds it taps, keys and an end.
 */
export class Daemon {
  readonly #stages: Stages
  readonly #doors: Doors
  readonly #quiet = new Quiet(QUIET)
  /** What each key may have opened, and closed or locked; and how many of its refusals are said. */
  readonly #openings = new Shares(SHARE, SHARE_RATE)
  readonly #ends = new Shares(SHARE, SHARE_RATE)
  readonly #refusals = new Shares(REFUSALS, REFUSAL_RATE)
  /** key → its refusals that were not said. */
  readonly #unsaid = new Map<string, number>()
  /** Knocks that are on their way. */
  readonly #running = new Set<Promise<void>>()
  #keys = new Map<Key, ServerKey>()
  #byFingerprint = new Map<string, ServerKey>()
  #neverLock: readonly Cidr[] = []
  #timer: NodeJS.Timeout | undefined
  #soon = false
  /** When it was last looked what is due, in steady milliseconds. */
  #ticked = Infinity
  #settled = false
  /** By how much the wall clock is ahead of the monotonic one; undefined before the first look. */
  #drift: number | undefined
  retransmits = 0

  constructor(stages: Stages) {
    this.#stages = stages
    this.#doors = new Doors(stages)
  }

  /** Tap source → listener. */
  hear(tap: Tap): void {
    const { leases, listener, passcodes, now } = this.#stages
    const at = now()
    // A tap that ends a rest finds windows and clock as if there had been none.
    if (at.steady - this.#ticked >= IDLE) this.tick()
    // Asked first, so that the text of a stranger's address need not be written.
    const lock = leases.locks > 0 ? leases.locked(tap.source) : undefined
    if (lock) this.#ignore(tap, lock)
    else if (passcodes?.hears(tap.port)) this.#hearPasscode(passcodes, tap)
    else this.#take(listener.hear(tap, at))
    if (listener.busy && !this.#soon) this.#wake(BUSY)
  }

  /** A tap from a locked address: no news where it belongs to the knock that locked, as its rest and its second pass do. */
  #ignore(tap: Tap, { id, key, until }: Lock): void {
    const { listener, now } = this.#stages
    const { payload } = tap
    if (payload ? bytesToHex(datagramIdentity(payload)).startsWith(id) : listener.repeats(tap, now())) return
    this.#refuse('locked', { key, source: tap.source, until: isoTime(until * 1000) }, `locked ${tap.source}`)
  }

  /** Passcodes → ledger and so on: a passcode is a knock whose request stands in the key's file. */
  #hearPasscode(passcodes: Passcodes, tap: Tap): void {
    const { log, now } = this.#stages
    const passed = passcodes.hear(tap, now())
    const asked = passed && this.#keys.get(passed.key)?.passcode
    const heard = now().steady
    if (asked)
      this.#take([{ ...passed, v: PASSCODE_V, request: passcodeRequest(asked), heard, arrival: 'timely', by: 'passcode' }])
    if (passcodes.waits(now()) && this.#quiet.may('passcodes wait', now().steady))
      log.warn('too many passcodes were wrong: all of them wait for the next window')
  }

  /** Listener → ledger → policy → leases → firewall (docs/protocol.md, "Receiving" 6). */
  async #admit(knock: Knock): Promise<void> {
    const { ledger, leases, now } = this.#stages
    const { request, source, destination, arrival } = knock
    const key = this.#keys.get(knock.key)
    if (!key) return
    if (arrival === 'stale') {
      // What is spent is no sign of a wrong clock: somebody plays it.
      const known = ledger.ask(knock, key.fingerprint)
      return known === 'unknown' ? this.#refuseKnock(knock, key, 'stale') : this.#unclaimed(knock, key, known)
    }

    const address = boundAddress(request, source, key.grant)
    if (address === null && arrival === 'timely') return this.#refuseKnock(knock, key, 'address-mismatch')

    const claim = ledger.claim(knock, key.fingerprint)
    if (claim.outcome !== 'spent') return this.#unclaimed(knock, key, claim.outcome)
    try {
      await claim.durable
    } catch (error) {
      return this.#refuseKnock(knock, key, 'ledger-unavailable', reason(error))
    }
    if (arrival === 'future' || address === null) return this.#refuseKnock(knock, key, 'future')

    // The disk took its time: what is locked by now, and the key as it is now, count.
    if (leases.locked(source)) return this.#refuseKnock(knock, key, 'locked')
    const current = this.#keys.get(knock.key)
    if (!current) return this.#refuseKnock(knock, key, 'revoked')
    const granting = knock.by ? passcodeKey(current) : current
    if (!granting) return this.#refuseKnock(knock, key, 'not-granted')
    const grant = decide(request, address, source, destination, granting, this.#neverLock, now().wall)
    if (typeof grant === 'string') return this.#refuseKnock(knock, key, grant)
    await this.#enforce(knock, granting, grant)
  }

  /** A knock that could not be claimed; its own source saying it again is no news. */
  #unclaimed(knock: Knock, key: ServerKey, outcome: Exclude<Claim['outcome'], 'spent'>): void {
    if (outcome === 'retransmitted') this.retransmits++
    else if (outcome === 'full') this.#refuseKnock(knock, key, 'ledger-unavailable', 'it holds as many knocks as it may')
    else this.#refuseKnock(knock, key, outcome, outcome === 'stale' ? this.#whyBelow(knock, key) : undefined)
  }

  /** Why a knock below the floor opens nothing. Where no floor is ahead, no clock need be wrong: it may be a replay. */
  #whyBelow(knock: Knock, key: ServerKey): string {
    const { ledger, now } = this.#stages
    const ahead = whyAhead(ledger, key, now().wall)
    const seconds = this.#secondsOff(knock)
    const when = seconds < 0 ? `, ${-seconds} s ago,` : ''
    return ahead ?? `its window${when} lies below the floor: what was spent there is forgotten`
  }

  /** By how many seconds a knock's window lies ahead of its arrival, to half a window; below zero, behind. */
  #secondsOff({ key, window, heard }: Knock): number {
    const { wall, steady } = this.#stages.now()
    return Math.round((window + 0.5) * key.period - (wall - (steady - heard)) / 1000)
  }

  /** Leases → firewall, and one line in the log. What is granted is noted at once, and said when it is in force. */
  async #enforce(knock: Knock, key: ServerKey, grant: Grant): Promise<void> {
    const { steady } = this.#stages.now()
    const { action, address } = grant
    // After the claim: a knock that was not spent could be played when there is a share again.
    const isWithin =
      action === 'open'
        ? this.#openings.take(key.fingerprint, grant.services.length, steady)
        : this.#ends.take(key.fingerprint, 1, steady)
    if (!isWithin) return this.#refuseKnock(knock, key, 'not-granted', "it is beyond the key's share")
    const id = knock.by ? passcodeLease(knock) : knock.v.slice(0, 8)
    const by = knock.by ? { by: knock.by } : {}
    const said = { key: key.id, fingerprint: key.fingerprint, action, ...by, source: knock.source, address }
    const tell = action === 'open' ? this.#open(id, said, key, grant) : this.#shut(id, said, key, grant)
    if (typeof tell === 'string') return this.#refuseKnock(knock, key, 'not-granted', tell)
    this.#doors.follow()
    await tell()
  }

  /** Opens every service of a grant. @returns why it is refused, or what waits until the firewall has followed, and tells of it */
  #open(id: string, said: object, key: ServerKey, grant: Grant): string | (() => Promise<void>) {
    const { leases, log, now } = this.#stages
    const opened = leases.open(id, key.id, key.fingerprint, grant, now())
    if (!opened) return 'too many leases are in force'
    return async () => {
      const outcomes = await Promise.all(opened.map(async (lease) => ({ lease, outcome: await this.#doors.opened(lease) })))
      const all = (fits: (outcome: Outcome) => boolean) =>
        outcomes.filter(({ outcome }) => fits(outcome)).map(({ lease }) => lease)
      const failed = all((outcome) => typeof outcome === 'object')
      const open = all((outcome) => outcome === 'in force')
      const ended = all((outcome) => outcome === 'ended')
      // They are of one change, and have one reason.
      const why = outcomes.flatMap(({ outcome }) => (typeof outcome === 'object' ? outcome.failed : []))[0]
      if (failed.length > 0) log.error({ ...said, ...aboutOf(failed), reason: why }, 'the firewall failed')
      if (open.length > 0) log.info({ ...said, ...aboutOf(open), once: grant.once }, 'accepted')
      if (ended.length > 0) log.info({ ...said, ...aboutOf(ended) }, 'closed before it was open')
    }
  }

  /** Closes what the key has open for the address; a lock then keeps it shut. @returns as {@link Daemon.#open} */
  #shut(id: string, said: object, key: ServerKey, grant: Grant): string | (() => Promise<void>) {
    const { leases, log, now } = this.#stages
    const { action, address, services, until } = grant
    const whose = { key: key.id, fingerprint: key.fingerprint, address }
    const lock = action === 'lock' ? leases.lock({ id, ...whose, until: until ?? 0 }, now()) : undefined
    if (lock === null) return 'too many locks are in force'
    const ended = leases.close(key.fingerprint, address, services)
    const about = {
      service: services.map(formatService).join(',') || 'all',
      leases: ended.map((lease) => lease.id),
      ...(action === 'close' && ended.length === 0 ? { elsewhere: leases.count(key.fingerprint, services) } : {}),
    }
    return async () => {
      const awaited = [...(lock ? [this.#doors.opened(lock)] : []), ...ended.map((lease) => this.#doors.shut(lease))]
      const failure = (await Promise.all(awaited)).find((outcome) => typeof outcome === 'object')
      const until = lock ? isoTime(lock.until * 1000) : null
      // It is tried again. A lock holds all the same, since it is we who ignore the taps: only a restart would forget it.
      if (failure) log.error({ ...said, ...about, until, reason: failure.failed }, 'the firewall failed')
      else log.info({ ...said, ...about, until }, 'accepted')
    }
  }

  /** Takes over the keys, at the start and whenever they change; resolves when all of them are heard. Leases of keys that are gone end. */
  async setKeys(keys: readonly ServerKey[], neverLock: readonly Cidr[]): Promise<void> {
    this.#keys = new Map(keys.map((key) => [key.key, key]))
    this.#byFingerprint = new Map(keys.map((key) => [key.fingerprint, key]))
    this.#neverLock = neverLock
    const { listener, passcodes, now } = this.#stages
    listener.setKeys(keys.map(({ key }) => key))
    passcodes?.setKeys(keys.flatMap(({ key, passcode }) => (passcode ? [{ key, pin: passcode.pin }] : [])))
    // At once: a key that is revoked must not wait for anything.
    this.#expire()
    if (this.#timer) this.#wake(0)
    do await new Promise(setImmediate)
    while (!listener.prepare(now()))
    while (passcodes && !passcodes.prepare(now())) await new Promise(setImmediate)
  }

  /** Reads back what an earlier run left in force, keeps what is valid and sweeps the rest. */
  async restore(): Promise<void> {
    const { leases, now, log } = this.#stages
    const found = await this.#doors.adopt()
    leases.restore(found, this.#isAlive, now())
    this.#doors.follow()
    await this.#doors.settle()
    this.#wake(0)
    const there = found.filter(isLease).length
    if (there > 0) log.info({ kept: leases.size, swept: there - leases.size }, 'restored')
  }

  /**
   * Says which floors are ahead of the clock: below them nothing opens until it has caught up.
   * @param isToldOfMinute whether it has been said that nothing opens in the first minute
   */
  warnOfFloors(isToldOfMinute: boolean): void {
    const { ledger, log, now } = this.#stages
    for (const { key, isFar, message } of floorsAhead(ledger, this.#keys.values(), now().wall)) {
      const about = key ? { key: key.id, fingerprint: key.fingerprint } : {}
      if (isFar) log.error(about, message)
      else if (key || !isToldOfMinute) log.warn(about, message)
    }
  }

  /** Says when the clock has jumped: windows, floors and leases go by it. */
  #watchClock({ wall, steady }: Now): void {
    const jump = wall - steady - (this.#drift ?? wall - steady)
    this.#drift = wall - steady
    const way = jump < 0 ? 'back' : 'forward'
    if (Math.abs(jump) < JUMP || !this.#quiet.may(`clock ${way}`, steady)) return
    const opens = [...this.#keys.values()].map(({ key, fingerprint }) =>
      this.#stages.ledger.opensAt(fingerprint, key.period, wall),
    )
    const base = opens.reduce((last, { base }) => Math.max(last, base ?? 0), 0)
    const own = opens.reduce((last, { own }) => Math.max(last, own ?? 0), 0)
    const next = [
      ...(base > 0 ? [baseAhead(base, wall)] : []),
      ...(own > base ? [`keys whose floor is ahead of it open nothing before ${isoTime(own)}`] : []),
      ...(base + own === 0 && jump > 0
        ? ['if it is wrong now, set it before the next knock: the key of that knock would wait for this time']
        : []),
    ]
    this.#stages.log.warn([`the clock has jumped ${way} by ${Math.round(Math.abs(jump) / 1000)} s`, ...next].join(': '))
  }

  /** Waits until all that was heard has been dealt with: at the end of input, or before the process ends. */
  async finish(): Promise<void> {
    const { listener, now } = this.#stages
    while (listener.busy) {
      this.#take(listener.due(now()))
      await new Promise((resolve) => setTimeout(resolve, BUSY))
    }
    this.#take(listener.end(now()))
    await this.settle()
  }

  /**
   * Stops looking for what is due and waits for the knocks that are on their way. Running leases are left to the kernel; those that it can't
   * end are ended now, since nobody else would.
   */
  async settle(): Promise<void> {
    this.#settled = true
    clearTimeout(this.#timer)
    do {
      await this.#doors.settle()
      await Promise.all(this.#running)
    } while (this.#running.size > 0)
    const isOurs = (lease: Lease) => lease.until !== null && !this.#doors.endsByItself(lease)
    if (!this.#stages.leases.endAll(isOurs)) return
    this.#doors.follow()
    await this.#doors.settle()
  }

  #take(knocks: readonly Knock[]): void {
    for (const knock of knocks) this.#run(this.#admit(knock))
  }

  #run(work: Promise<void>): void {
    const running = work
      .catch((error) => this.#stages.log.error({ reason: reason(error) }, 'something failed that should not'))
      .finally(() => this.#running.delete(running))
    this.#running.add(running)
  }

  /**
   * What time brings: windows, waiting attempts, leases that end. It never waits for the firewall, which may take seconds. The daemon
   * calls it by a timer of its own, until it is settled.
   */
  tick(): void {
    const { listener, passcodes, now } = this.#stages
    const at = now()
    this.#ticked = at.steady
    this.#watchClock(at)
    this.#take(listener.due(at))
    passcodes?.due(at)
    this.#expire()
    this.#tellUnsaid()
    const rests = listener.isEmpty && this.#doors.isEmpty
    this.#wake(listener.busy || passcodes?.busy ? BUSY : rests ? REST : IDLE)
  }

  /** Ends the leases and locks whose time or key is over, and has the firewall follow. */
  #expire(): void {
    this.#stages.leases.expire(this.#isAlive, this.#isSpared, this.#stages.now())
    this.#doors.follow()
  }

  #wake(after: number): void {
    clearTimeout(this.#timer)
    if (this.#settled) return
    this.#soon = after <= BUSY
    this.#timer = setTimeout(() => this.tick(), after)
  }

  readonly #isAlive = (fingerprint: string): boolean => {
    const key = this.#byFingerprint.get(fingerprint)
    return key !== undefined && !isOver(key, this.#stages.now().wall)
  }

  readonly #isSpared = (address: string): boolean => this.#neverLock.some((block) => inCidr(block, address))

  #refuseKnock(knock: Knock, key: ServerKey, refusal: Refusal, why?: string | undefined): void {
    const { request, source, window, v, arrival, by } = knock
    const isOff = arrival !== 'timely' && refusal === arrival && why === undefined
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
      ...(why ? { reason: why } : {}),
    }
    // A disk that fails refuses every knock alike: each key is told of it once in a while.
    this.#refuse(
      refusal,
      about,
      refusal === 'ledger-unavailable' ? `${refusal} ${key.fingerprint}` : `${refusal} ${key.fingerprint} ${v} ${window}`,
    )
  }

  #refuse(refusal: Refusal, about: { readonly key: string; readonly [field: string]: unknown }, name: string): void {
    const { log, now } = this.#stages
    const { steady } = now()
    if (!this.#quiet.may(name, steady)) return
    if (!this.#refusals.take(about.key, 1, steady))
      return void this.#unsaid.set(about.key, 1 + (this.#unsaid.get(about.key) ?? 0))
    if (refusal === 'ledger-unavailable') log.error({ refusal, ...about }, 'refused')
    else log.warn({ refusal, ...about }, 'refused')
  }

  /** How many refusals of each key were not said: who has a key must not fill the log, and is not to be overlooked either. */
  #tellUnsaid(): void {
    const { log, now } = this.#stages
    if (this.#unsaid.size === 0 || !this.#quiet.may('unsaid', now().steady)) return
    for (const [key, count] of this.#unsaid) log.warn({ key, count }, 'refusals of this key were too many to be logged')
    this.#unsaid.clear()
  }
}

function aboutOf(leases: readonly Lease[]): object {
  const [{ until }] = leases
  return {
    service: leases.map(formatService).join(','),
    until: until === null ? null : isoTime(until * 1000),
    leases: leases.map(({ id }) => id),
  }
}

/** Names the leases of a passcode as V's first bytes name those of other knocks: V is the same for all passcodes. */
function passcodeLease({ key, window }: Knock): string {
  return bytesToHex(sha256(concatBytes(key.fingerprint, u64(window)))).slice(0, 8)
}

function clockError(seconds: number): string {
  return seconds < 0 ? `the sender's clock is ${-seconds} s behind` : `the sender's clock is ${seconds} s ahead`
}
