import { sha256 } from '@noble/hashes/sha2.js'
import { bytesToHex, concatBytes } from '@noble/hashes/utils.js'
import type { Logger } from 'pino'
import type { Now } from './gate/clock'
import type { Firewall, Lease, Leases, Lock } from './gate/leases'
import type { Claim, Ledger } from './gate/ledger'
import type { Knock, Listener, Tap } from './gate/listener'
import type { Passcodes } from './gate/passcodes'
import {
  boundAddress,
  decide,
  type Grant,
  isOver,
  passcodeKey,
  passcodeRequest,
  type Refusal,
  type ServerKey,
} from './gate/policy'
import { Quiet } from './gate/quiet'
import { reason } from './host/fault'
import { formatService } from './host/service'
import { isoTime } from './host/time'
import { type Cidr, inCidr, isZeroAddress } from './protocol/address'
import { u64 } from './protocol/bytes'
import { datagramIdentity } from './protocol/datagram'
import type { Key } from './protocol/key'
import { PASSCODE_V } from './protocol/passcode-ports'

/** Milliseconds between looks at what is due: when nothing waits, and when a burst is arriving. */
const IDLE = 250
const BUSY = 10
/** A refusal is said once a minute for each knock, so that nobody fills the log by repeating one. */
const QUIET = 60_000
/** A lease that could not be ended is tried again after this many milliseconds. */
const RETRY = 1_000
/** Milliseconds by which the wall clock must jump to be told: a usual window, which the skew forgives. */
const JUMP = 30_000

/** Milliseconds between two looks at the firewall: other programs flush it. */
const MEND = 5_000

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
  readonly #quiet = new Quiet(QUIET)
  /** What is on its way: knocks that are admitted, leases that are ended. */
  readonly #running = new Set<Promise<void>>()
  #keys = new Map<Key, ServerKey>()
  #byFingerprint = new Map<string, ServerKey>()
  #neverLock: readonly Cidr[] = []
  #timer: NodeJS.Timeout | undefined
  #soon = false
  #settled = false
  /** By how much the wall clock is ahead of the monotonic one; undefined before the first look. */
  #drift: number | undefined
  #mended = 0
  retransmits = 0

  constructor(stages: Stages) {
    this.#stages = stages
  }

  /** Tap source → listener. */
  hear(tap: Tap): void {
    const { leases, listener, passcodes, now } = this.#stages
    const lock = leases.locked(tap.source)
    if (lock) this.#ignore(tap, lock)
    else if (passcodes?.hears(tap.port)) this.#hearPasscode(passcodes, tap)
    else this.#take(listener.hear(tap, now()))
    if (listener.busy && !this.#soon) this.#wake(BUSY)
  }

  /** A tap from a locked address: no news where it belongs to the knock that locked, as its rest and its second pass do. */
  #ignore(tap: Tap, { id, key, until }: Lock): void {
    const { listener, now } = this.#stages
    const { payload } = tap
    if (payload ? bytesToHex(datagramIdentity(payload)).startsWith(id) : listener.repeats(tap, now())) return
    this.#refuse('locked', { source: tap.source, key, until: isoTime(until * 1000) }, `locked ${tap.source}`)
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
    const { ledger, now } = this.#stages
    const { request, source, destination, arrival } = knock
    const key = this.#keys.get(knock.key)
    if (!key) return
    if (arrival === 'stale') return this.#refuseKnock(knock, key, 'stale')

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

    // The disk took its time: the key as it is now counts.
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
    else this.#refuseKnock(knock, key, outcome, outcome === 'stale' ? this.#floorAhead(key) : undefined)
  }

  /** Leases → firewall, and one line in the log. */
  async #enforce(knock: Knock, key: ServerKey, grant: Grant): Promise<void> {
    const id = knock.by ? passcodeLease(knock) : knock.v.slice(0, 8)
    const { action, address, until } = grant
    const by = knock.by ? { by: knock.by } : {}
    const said = { key: key.id, fingerprint: key.fingerprint, action, ...by, source: knock.source, address }
    const done =
      action === 'open'
        ? await this.#open(id, said, key, grant)
        : await this.#shut(id, said, key, { ...grant, until: until ?? 0 })
    if (typeof done === 'string') this.#refuseKnock(knock, key, 'not-granted', done)
    else if (done) this.#stages.log.info({ ...said, ...done }, 'accepted')
  }

  /** Opens every service of a grant. @returns what to say of it, why it is refused, or null where the firewall failed */
  async #open(id: string, said: object, key: ServerKey, grant: Grant): Promise<object | string | null> {
    const { leases, firewall, now } = this.#stages
    const opened = leases.open(id, key.id, key.fingerprint, grant, now())
    if (!opened) return 'too many leases are in force'
    const open: Lease[] = []
    for (const { lease, replaced } of opened) {
      const about = { ...said, service: formatService(lease) }
      const isThere =
        lease === replaced ||
        (await this.#try(
          () => firewall.open(lease, replaced),
          about,
          () => leases.undo(lease),
        ))
      if (isThere) open.push(lease)
    }
    if (open.length === 0) return null
    const until = open[0].until === null ? null : isoTime(open[0].until * 1000)
    return { service: open.map(formatService).join(','), until, leases: open.map((lease) => lease.id), once: grant.once }
  }

  /** Closes what the key has open for the address; a lock then keeps it shut. @returns as {@link Daemon.#open} */
  async #shut(id: string, said: object, key: ServerKey, grant: Grant & { until: number }): Promise<object | string | null> {
    const { leases, firewall, now } = this.#stages
    const { action, address, services, until } = grant
    const ended = leases.close(key.fingerprint, address, services)
    await this.#end(ended, 'close')
    const about = { service: services.map(formatService).join(',') || 'all', leases: ended.map((lease) => lease.id) }
    if (action !== 'lock') return { ...about, until: null }
    const locked = leases.lock({ id, key: key.id, fingerprint: key.fingerprint, address, until }, now())
    if (!locked) return 'too many locks are in force'
    const { lock, replaced } = locked
    // Where the firewall fails, the lock holds all the same: it is we who ignore the taps. Only a restart would forget it.
    if (lock !== replaced) await this.#try(() => firewall.lock(lock, replaced), { ...said, ...about })
    return { ...about, until: isoTime(lock.until * 1000) }
  }

  /** Takes over the keys, at the start and whenever they change; resolves when all of them are heard. Leases of keys that are gone end. */
  async setKeys(keys: readonly ServerKey[], neverLock: readonly Cidr[]): Promise<void> {
    this.#keys = new Map(keys.map((key) => [key.key, key]))
    this.#byFingerprint = new Map(keys.map((key) => [key.fingerprint, key]))
    this.#neverLock = neverLock
    const { listener, passcodes, now } = this.#stages
    listener.setKeys(keys.map(({ key }) => key))
    passcodes?.setKeys(keys.flatMap(({ key, passcode }) => (passcode ? [{ key, pin: passcode.pin }] : [])))
    if (this.#timer) this.#wake(0)
    do await new Promise(setImmediate)
    while (!listener.prepare(now()))
    while (passcodes && !passcodes.prepare(now())) await new Promise(setImmediate)
  }

  /** Reads back what an earlier run left in force, keeps what is valid and sweeps the rest. */
  async restore(): Promise<void> {
    const { leases, firewall, now, log } = this.#stages
    const found = await firewall.list()
    const over = leases.restore(found.leases, found.locks, this.#isAlive, now())
    await this.#unlock(over.locks)
    await this.#end(over.leases, 'expire')
    this.#wake(0)
    if (found.leases.length > 0) log.info({ kept: leases.size, swept: over.leases.length }, 'restored')
  }

  /** Warns of keys whose floor is ahead of the clock: nothing of theirs opens until the clock has caught up. */
  warnOfFloors(): void {
    for (const key of this.#keys.values()) {
      const why = this.#floorAhead(key)
      if (why) this.#stages.log.warn({ key: key.id, fingerprint: key.fingerprint }, why)
    }
  }

  /** Says when the clock has jumped: windows, floors and leases go by it. */
  #watchClock({ wall, steady }: Now): void {
    const jump = wall - steady - (this.#drift ?? wall - steady)
    this.#drift = wall - steady
    const way = jump < 0 ? 'back' : 'forward'
    if (Math.abs(jump) < JUMP || !this.#quiet.may(`clock ${way}`, steady)) return
    let opens = 0
    for (const { key, fingerprint } of this.#keys.values())
      opens = Math.max(opens, this.#stages.ledger.opensAt(fingerprint, key.period, wall) ?? 0)
    const next =
      opens > 0
        ? `: keys whose floor is ahead of it open nothing before ${isoTime(opens)}`
        : jump > 0
          ? ': if it is wrong now, set it before the next knock: the key of that knock would wait for this time'
          : ''
    this.#stages.log.warn(`the clock has jumped ${way} by ${Math.round(Math.abs(jump) / 1000)} s${next}`)
  }

  /** Why a key opens nothing right now: its floor, where that is ahead of the clock. */
  #floorAhead({ fingerprint, key }: ServerKey): string | undefined {
    const { ledger, now } = this.#stages
    const opens = ledger.opensAt(fingerprint, key.period, now().wall)
    return opens === null
      ? undefined
      : `the floor is ahead of the clock: nothing opens before ${isoTime(opens)}, but by a new key`
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

  /** Stops looking for what is due and waits for the knocks that are on their way; running leases are left to the kernel. */
  async settle(): Promise<void> {
    this.#settled = true
    clearTimeout(this.#timer)
    while (this.#running.size > 0) await Promise.all(this.#running)
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
    const { listener, passcodes, leases, now } = this.#stages
    this.#watchClock(now())
    this.#take(listener.due(now()))
    passcodes?.due(now())
    const ended = leases.ended(this.#isAlive, this.#isSpared, now())
    this.#run(this.#end(ended.expired, 'expire'))
    this.#run(this.#end(ended.orphaned, 'close'))
    this.#run(this.#unlock(ended.locks))
    if (now().steady - this.#mended >= MEND) this.#run(this.#mend())
    this.#wake(listener.busy || passcodes?.busy ? BUSY : IDLE)
  }

  #wake(after: number): void {
    clearTimeout(this.#timer)
    if (this.#settled) return
    this.#soon = after <= BUSY
    this.#timer = setTimeout(() => this.tick(), after)
  }

  /** Another program may have flushed our chains: what should be in force is put back, leases too. */
  async #mend(): Promise<void> {
    const { firewall, log, now } = this.#stages
    // Not again before this one has ended, however long the firewall takes.
    this.#mended = Infinity
    const mended = await firewall.mend().catch((error) => {
      if (this.#quiet.may('not mended', now().steady)) log.error({ reason: reason(error) }, 'the firewall cannot be looked after')
      return false
    })
    this.#mended = now().steady
    if (mended && this.#quiet.may('mended', now().steady))
      log.warn('another program has changed the firewall: our rules are put back')
  }

  async #unlock(locks: readonly Lock[]): Promise<void> {
    for (const lock of locks) await this.#try(() => this.#stages.firewall.unlock(lock), lock)
  }

  async #end(ended: readonly Lease[], why: 'close' | 'expire'): Promise<void> {
    const { firewall, leases, now, log } = this.#stages
    for (const lease of ended) {
      const line = { key: lease.key, lease: lease.id, address: lease.address, service: formatService(lease) }
      const isGone = await this.#try(
        () => firewall.end(lease, why),
        line,
        () => leases.retry(lease, now().steady + RETRY),
      )
      if (isGone) log.info(line, why === 'close' ? 'closed' : 'expired')
    }
  }

  /** @returns whether it went well; where it did not, the log says so */
  async #try(change: () => Promise<void>, about: object, undo = () => {}): Promise<boolean> {
    try {
      await change()
      return true
    } catch (error) {
      undo()
      this.#stages.log.error({ ...about, reason: reason(error) }, 'the firewall failed')
      return false
    }
  }

  readonly #isAlive = (fingerprint: string): boolean => {
    const key = this.#byFingerprint.get(fingerprint)
    return key !== undefined && !isOver(key, this.#stages.now().wall)
  }

  readonly #isSpared = (address: string): boolean => this.#neverLock.some((block) => inCidr(block, address))

  #refuseKnock(knock: Knock, key: ServerKey, refusal: Refusal, why?: string | undefined): void {
    const { request, source, window, v, arrival, by } = knock
    const { now } = this.#stages
    const clock = arrival === 'timely' ? {} : { clock: clockError(window, key, now().wall - (now().steady - knock.heard)) }
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
      ...(why ? { reason: why } : {}),
    }
    // A disk that fails refuses every knock alike: each key is told of it once in a while.
    this.#refuse(
      refusal,
      about,
      refusal === 'ledger-unavailable' ? `${refusal} ${key.fingerprint}` : `${refusal} ${key.fingerprint} ${v} ${window}`,
    )
  }

  #refuse(refusal: Refusal, about: object, name: string): void {
    const { log, now } = this.#stages
    if (!this.#quiet.may(name, now().steady)) return
    if (refusal === 'ledger-unavailable') log.error({ refusal, ...about }, 'refused')
    else log.warn({ refusal, ...about }, 'refused')
  }
}

/** Names the leases of a passcode as V's first bytes name those of other knocks: V is the same for all passcodes. */
function passcodeLease({ key, window }: Knock): string {
  return bytesToHex(sha256(concatBytes(key.fingerprint, u64(window)))).slice(0, 8)
}

/** By how many seconds the sender's clock seems wrong, to half a window: negative is behind. */
function clockError(window: number, { key }: ServerKey, wall: number): string {
  const seconds = Math.round((window + 0.5) * key.period - wall / 1000)
  return seconds < 0 ? `the sender's clock is ${-seconds} s behind` : `the sender's clock is ${seconds} s ahead`
}
