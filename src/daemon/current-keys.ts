import { isOver, type ServerKey } from '../gate/server-key'
import { type Cidr, inCidr } from '../protocol/address'
import type { Key } from '../protocol/key'

/** The keys as they are now, and whom no lock may name. Whoever waits for something asks again afterwards: a key may be gone by then. */
export class CurrentKeys {
  #byKey = new Map<Key, ServerKey>()
  #byFingerprint = new Map<string, ServerKey>()
  /** As the keyring has them. */
  #own: readonly ServerKey[] = []
  /** fingerprint → when it was heard that another gateway has revoked the key, in Unix milliseconds */
  readonly #revoked = new Map<string, number>()
  #changed: () => void = () => {}
  neverLock: readonly Cidr[] = []

  /** Takes over other keys, all of them. */
  set(keys: readonly ServerKey[], neverLock: readonly Cidr[]): void {
    this.#own = keys
    this.neverLock = neverLock
    this.#join()
    this.#changed()
  }

  /**
   * Holds a key for revoked from now on, whatever the keyring says; also one that is not there yet.
   * @param wall Unix milliseconds
   * @returns whether that is news
   */
  revoke(fingerprint: string, wall: number): boolean {
    if (this.#revoked.has(fingerprint)) return false
    this.#revoked.set(fingerprint, wall)
    // Not all of them: thousands may be heard of at once.
    const key = this.#byFingerprint.get(fingerprint)
    if (key) this.#put(this.#known(key))
    return true
  }

  #join(): void {
    this.#byKey = new Map()
    this.#byFingerprint = new Map()
    for (const key of this.#own) this.#put(this.#known(key))
  }

  #put(key: ServerKey): void {
    this.#byKey.set(key.key, key)
    this.#byFingerprint.set(key.fingerprint, key)
  }

  /** A key as it is known to be, by the keyring and by other gateways. */
  #known(key: ServerKey): ServerKey {
    const at = this.#revoked.get(key.fingerprint)
    return at === undefined || key.revoked !== null ? key : { ...key, revoked: at }
  }

  /** Has one be told whenever there are other keys. */
  follow(changed: () => void): void {
    this.#changed = changed
  }

  all(): Iterable<ServerKey> {
    return this.#byKey.values()
  }

  /** Fingerprints of those that another gateway has revoked, and the keyring has not. */
  get revokedElsewhere(): readonly string[] {
    return this.#own.flatMap(({ fingerprint, revoked }) =>
      revoked === null && this.#revoked.has(fingerprint) ? [fingerprint] : [],
    )
  }

  /** Those that the keyring itself says are revoked. */
  get ownRevoked(): readonly ServerKey[] {
    return this.#own.filter(({ revoked }) => revoked !== null)
  }

  /** What the daemon knows of a key; undefined where it is not one of its own any more. */
  of(key: Key): ServerKey | undefined {
    return this.#byKey.get(key)
  }

  /** As {@link CurrentKeys.of}, by a fingerprint. */
  named(fingerprint: string): ServerKey | undefined {
    return this.#byFingerprint.get(fingerprint)
  }

  /** Whether there is a key of this fingerprint that is neither revoked nor expired. @param wall Unix milliseconds */
  isAlive(fingerprint: string, wall: number): boolean {
    const key = this.#byFingerprint.get(fingerprint)
    return key !== undefined && !isOver(key, wall)
  }

  /** Whether no lock may name an address. */
  isSpared(address: string): boolean {
    return this.neverLock.some((block) => inCidr(block, address))
  }
}
