import { ClockWatch } from '../gate/clock-watch'
import type { Lease, Lock } from '../gate/firewall'
import type { Named } from '../gate/fitting'
import type { Knock } from '../gate/knock'
import { boundAddress, decide } from '../gate/policy'
import { passcodeKey, type ServerKey } from '../gate/server-key'
import type { Tap } from '../gate/tap'
import type { Cidr } from '../protocol/address'
import { explained } from '../system/fault'
import { clockJumped } from './ahead'
import { ruledOut } from './allowed'
import { CurrentKeys } from './current-keys'
import { type Ended, Enforcement } from './enforcement'
import { BUSY, LookTimer } from './look-timer'
import { Refusals } from './refusals'
import type { Stages } from './stages'

/**
 * The daemon: tap source → listener → ledger → policy → leases → firewall. It answers nobody; what it says, it says to its log.
 * Whoever starts it feeds it taps, keys and an end.
 */
export class Daemon {
  readonly #stages: Stages
  readonly #refusals: Refusals
  readonly #clock = new ClockWatch()
  /** Knocks that are on their way. */
  readonly #running = new Set<Promise<void>>()
  readonly #looks = new LookTimer(() => this.tick())
  /** For what other gateways tell. */
  readonly keys = new CurrentKeys()
  readonly enforcement: Enforcement
  /** Taps that were heard so far. */
  heard = 0

  constructor(stages: Stages) {
    this.#stages = stages
    this.#refusals = new Refusals(stages)
    this.enforcement = new Enforcement(stages, this.keys)
  }

  /** Tap source → listener or passcodes, which open what they can. */
  hear(tap: Tap): void {
    this.heard++
    const { leases, listener, passcodes, now } = this.#stages
    const at = now()
    // A tap that ends a rest finds windows and clock as if there had been none.
    if (this.#looks.isLate(at.steady)) this.tick()
    // Asked first, so that the text of a stranger's address need not be written.
    const lock = leases.locks > 0 ? leases.locked(tap.source) : undefined
    if (lock) this.#refusals.ofTap(tap, lock)
    else if (passcodes?.hears(tap.port)) {
      // A passcode is a knock whose request stands in the key's file.
      this.#take(passcodes.hear(tap, at))
      if (passcodes.waits(at)) this.#refusals.ofPasscodes(at)
    } else this.#take(listener.hear(tap, at))
    if (listener.busy) this.#looks.hurry()
  }

  /** Admits what was opened. Nobody waits for it here: a disk or a firewall that takes its time holds up no tap. */
  #take(knocks: readonly Knock[]): void {
    for (const knock of knocks) {
      const running = this.#admit(knock)
        .catch((error) => this.#stages.log.error(explained(error), 'internal error, please report'))
        .finally(() => this.#running.delete(running))
      this.#running.add(running)
    }
  }

  /** What was opened → ledger → policy → leases → firewall (docs/protocol.md, "Receiving" 6). */
  async #admit(knock: Knock): Promise<void> {
    const { ledger, leases, now } = this.#stages
    const { request, source, destination, arrival } = knock
    const refusals = this.#refusals
    const key = this.keys.of(knock.key)
    if (!key) return
    if (arrival === 'stale') {
      // What is spent is no sign of a wrong clock: somebody plays it.
      const known = ledger.ask(knock, key.fingerprint)
      return known === 'unknown' ? refusals.ofKnock(knock, key, 'stale') : refusals.ofUnclaimed(knock, key, { outcome: known })
    }

    const address = boundAddress(request, source, key.grant)
    // Also of a future one: a quicker listener's copy must not burn what another gateway, whose clock is ahead of ours, takes for timely.
    if (address === null) return refusals.ofKnock(knock, key, 'address-mismatch')

    const claim = await ledger.claim(knock, key.fingerprint)
    if (claim.outcome !== 'spent') return refusals.ofUnclaimed(knock, key, claim)
    if (arrival === 'future') return refusals.ofKnock(knock, key, 'future')

    // The ledger took its time: what is locked by now, and the key as it is now, count.
    if (leases.locked(source)) return refusals.ofKnock(knock, key, 'locked')
    const current = this.keys.of(knock.key)
    if (!current) return refusals.ofKnock(knock, key, 'revoked')
    const granting = knock.by ? passcodeKey(current) : current
    if (!granting) return refusals.ofKnock(knock, key, 'not-granted', { rule: 'passcode' })
    const { neverLock } = this.keys
    const grant = decide(request, address, source, destination, granting, neverLock, now().wall)
    if ('refusal' in grant) return refusals.ofKnock(knock, key, grant.refusal, ruledOut(grant, granting, neverLock))

    const enforced = this.enforcement.enforce(knock, granting, grant)
    if ('refused' in enforced) return refusals.ofKnock(knock, granting, 'not-granted', { reason: enforced.refused })
    if (await enforced.told) this.#noteUse(knock, granting)
  }

  /** Notes a knock that has come into force, and how far off its sender's clock was. */
  #noteUse({ key, window, source, request: { action }, heard }: Knock, { id, fingerprint }: ServerKey): void {
    const { wall, steady } = this.#stages.now()
    const windowsOff = window - Math.floor((wall - (steady - heard)) / 1000 / key.period)
    this.#stages.chronicle?.accepted(fingerprint, { at: wall, key: id, source, action, windowsOff })
  }

  /** Closes leases by an administrator's order. */
  closeNamed(named: Named): Promise<Ended<Lease>> {
    return this.enforcement.closeNamed(named)
  }

  /** Takes the locks off an address by an administrator's order. */
  unlock(address: string): Promise<Ended<Lock>> {
    return this.enforcement.unlock(address)
  }

  /** Knocks that their own source has said again. */
  get retransmits(): number {
    return this.#refusals.retransmits
  }

  // ---- keys, time, an end

  /** Takes over the keys, at the start and whenever they change; resolves when all of them are heard. Leases of keys that are gone end. */
  async setKeys(keys: readonly ServerKey[], neverLock: readonly Cidr[]): Promise<void> {
    this.keys.set(keys, neverLock)
    const { listener, passcodes, now } = this.#stages
    listener.setKeys(keys.map(({ key }) => key))
    passcodes?.setKeys(keys)
    // At once: a key that is revoked must not wait for anything.
    this.enforcement.expire()
    this.#looks.again()
    do await new Promise(setImmediate)
    while (!listener.prepare(now()))
    while (passcodes && !passcodes.prepare(now())) await new Promise(setImmediate)
  }

  /** Another program may have changed the firewall: it is looked at now. */
  alarm(): void {
    this.enforcement.alarm()
  }

  /** Reads back what an earlier run left in force, and begins to look what is due. */
  async restore(): Promise<void> {
    await this.enforcement.restore()
    this.#looks.start()
  }

  /**
   * What time brings: windows, waiting attempts, leases that end. It never waits for the firewall, which may take seconds. The daemon
   * calls it by a timer of its own, until it is settled.
   */
  tick(): void {
    const { listener, passcodes, ledger, log, now } = this.#stages
    const at = now()
    this.#looks.began(at.steady)
    const jump = this.#clock.look(at)
    if (jump !== null) log.warn(clockJumped(jump, ledger, this.keys.all(), at.wall))
    this.#take(listener.due(at))
    passcodes?.due(at)
    this.enforcement.expire()
    this.#refusals.tellUnsaid()
    const rests = listener.isEmpty && this.enforcement.isEmpty
    this.#looks.next(listener.busy || passcodes?.busy ? 'is busy' : rests ? 'rests' : 'idles')
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

  /** Stops looking for what is due, waits for the knocks that are on their way, and leaves the rest to the kernel. */
  async settle(): Promise<void> {
    this.#looks.stop()
    do {
      await this.enforcement.settle()
      await Promise.all(this.#running)
    } while (this.#running.size > 0)
    await this.enforcement.leave()
  }
}
