import type { Logger } from 'pino'
import type { Now } from '../../gate/clock'
import type { CurrentKeys } from '../current-keys'
import { behind, type Etcd, type Row } from './etcd/etcd'
import type { Repeated } from './repeated'
import { leasesOfKey, locksOfKey, readShared, revokedRow } from './rows'

/** Revoked keys that are remembered which are not in the keyring here. */
const MAX_UNKNOWN = 65_536
const FINGERPRINT = /^[0-9a-f]{32}$/

/** What revocations are shared by. */
export interface RevocationsSetup {
  readonly etcd: Etcd
  readonly keys: CurrentKeys
  /** Ends what is in force of keys that are over. */
  readonly expire: () => void
  readonly gateway: string
  readonly log: Logger
  readonly now: () => Now
}

/**
 * Keys that are revoked, at one gateway or another. What was heard to be revoked stays so until the daemon ends, whoever takes its row away; the
 * keyring is what lasts.
 */
export class Revocations {
  readonly #setup: RevocationsSetup
  readonly #repeated: Repeated
  /** Fingerprints of rows that are there. */
  #there = new Set<string>()
  #unknown = 0

  constructor(setup: RevocationsSetup, repeated: Repeated) {
    this.#setup = setup
    this.#repeated = repeated
  }

  /** Shares what this gateway's keyring says, as far as the fleet does not have it. */
  look(): void {
    for (const { fingerprint } of this.#setup.keys.ownRevoked)
      if (!this.#there.has(fingerprint)) this.#repeated.ask(`revoke ${fingerprint}`, () => this.#share(fingerprint))
  }

  async #share(fingerprint: string): Promise<boolean> {
    const { etcd, gateway, now } = this.#setup
    const row = revokedRow(fingerprint)
    const value = JSON.stringify({ gateway, at: Math.floor(now().wall / 1000) })
    const gone = [leasesOfKey(fingerprint), locksOfKey(fingerprint)]
    await etcd.transact({
      if: [{ row, is: 'absent' }],
      do: [{ put: row, value }, ...gone.map((from) => ({ removeFrom: from, to: behind(from) }))],
      else: [],
    })
    return true
  }

  reset(rows: readonly Row[]): void {
    this.#there = new Set()
    for (const row of rows) this.put(row)
    this.look()
  }

  put({ row }: Pick<Row, 'row'>): void {
    const { keys, expire, log, now } = this.#setup
    const fingerprint = readShared(row)?.rest ?? ''
    if (!FINGERPRINT.test(fingerprint)) return
    const key = keys.named(fingerprint)
    if (!key && this.#unknown >= MAX_UNKNOWN) return
    this.#there.add(fingerprint)
    if (!keys.revoke(fingerprint, now().wall)) return
    if (!key) this.#unknown++
    if (!key || key.revoked !== null) return
    log.warn({ key: key.id, fingerprint }, 'a key was revoked for the fleet')
    expire()
  }

  removed(row: string): void {
    this.#there.delete(readShared(row)?.rest ?? '')
    this.look()
  }
}
