import { isOver, type ServerKey } from '../gate/server-key'
import { type Cidr, inCidr } from '../protocol/address'
import type { Key } from '../protocol/key'

/** The keys as they are now, and whom no lock may name. Whoever waits for something asks again afterwards: a key may be gone by then. */
export class CurrentKeys {
  #byKey = new Map<Key, ServerKey>()
  #byFingerprint = new Map<string, ServerKey>()
  neverLock: readonly Cidr[] = []

  /** Takes over other keys, all of them. */
  set(keys: readonly ServerKey[], neverLock: readonly Cidr[]): void {
    this.#byKey = new Map(keys.map((key) => [key.key, key]))
    this.#byFingerprint = new Map(keys.map((key) => [key.fingerprint, key]))
    this.neverLock = neverLock
  }

  all(): Iterable<ServerKey> {
    return this.#byKey.values()
  }

  /** What the daemon knows of a key; undefined where it is not one of its own any more. */
  of(key: Key): ServerKey | undefined {
    return this.#byKey.get(key)
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
