import { addressBytes, ipv4Number, ipv4Text } from '../protocol/address'

/** One packet seen on one port: what a tap source delivers. Addresses are canonical text (RFC 5952, IPv4-mapped as IPv4). */
export interface Tap {
  readonly source: string
  readonly destination: string
  readonly port: number
  /** What a UDP datagram carried, where it may be a knock by itself: a copy of its 36 or 48 bytes. Such a tap says nothing by its port. */
  readonly payload?: Uint8Array
  /** The source as 32 bits (signed), where it is an IPv4 address and they are at hand. */
  readonly ipv4?: number
}

/** A tap from an IPv4 address, whose text is written when somebody asks for it: under a flood from forged addresses nobody does. */
export class Ipv4Tap implements Tap {
  readonly ipv4: number
  readonly destination: string
  readonly port: number

  constructor(ipv4: number, destination: string, port: number) {
    this.ipv4 = ipv4
    this.destination = destination
    this.port = port
  }

  get source(): string {
    return ipv4Text(this.ipv4)
  }
}

/** The /64 of an IPv6 address, which one host has whole, so that its addresses count as one; null for IPv4, where each is one by itself. */
export function prefixOf(source: string): string | null {
  const bytes = source.includes(':') ? addressBytes(source) : null
  return bytes ? bytes.subarray(0, 8).join(':') : null
}

/** What taps that count together are told by: the same source and destination have the same name, and no others have it. */
export type Name = number | string

/**
 * Names sources. Nearly always only one destination is heard, and one that has it is named by its source alone: an IPv4 address by 32 bits,
 * as a flood's taps cost half as much then. V8 puts numbers into its tables by a hash that everybody can compute, so that who forges addresses
 * could have all of them in one place, and each tap walk past all others. So these bits are scrambled first, by numbers that nobody knows.
 */
export class Names {
  readonly #mask: number
  readonly #first: number
  readonly #second: number
  /** The first destination that was heard. */
  #home: string | null = null

  /** @param random numbers from 0 to 1, which no stranger can foresee */
  constructor(random: () => number) {
    this.#mask = random() * 2 ** 32
    this.#first = (random() * 2 ** 32) | 1
    this.#second = (random() * 2 ** 32) | 1
  }

  of(tap: Tap): Name {
    this.#home ??= tap.destination
    if (tap.destination !== this.#home) return `${tap.source} ${tap.destination}`
    const ipv4 = tap.ipv4 ?? ipv4Number(tap.source)
    return ipv4 === null ? tap.source : this.#scramble(ipv4)
  }

  /** Each step can be undone, so that no two addresses have one name. */
  #scramble(bits: number): number {
    let mixed = Math.imul(bits ^ this.#mask, this.#first)
    mixed = Math.imul(mixed ^ (mixed >>> 16), this.#second)
    return mixed ^ (mixed >>> 15)
  }
}
