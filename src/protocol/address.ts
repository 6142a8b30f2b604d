import ipaddr from 'ipaddr.js'

/** Longest text of an address: an exploded IPv6 address with an IPv4 tail. */
const MAX_ADDRESS_TEXT = 45

/**
 * Reads an address strictly: dotted decimal with four parts and no leading zero, or IPv6, exploded or short, without a zone.
 * @returns 4 or 16 bytes, or null where the text is no such address
 */
export function addressBytes(text: string): Uint8Array | null {
  if (text.length > MAX_ADDRESS_TEXT) return null
  if (text.includes(':')) return ipv6Bytes(text)
  return ipv4Bytes(text)
}

function ipv4Bytes(text: string): Uint8Array | null {
  const bits = ipv4Number(text)
  return bits === null ? null : Uint8Array.of(bits >>> 24, bits >>> 16, bits >>> 8, bits)
}

/**
 * Reads an IPv4 address as {@link addressBytes} does, character by character: a listener reads one for each line of a flood.
 * @param from where it begins in the text, and `to` where it has ended
 * @returns its 32 bits (signed: V8 keeps such a number without an object), or null
 */
export function ipv4Number(text: string, from = 0, to = text.length): number | null {
  let bits = 0
  let part = 0
  let parts = 0
  let digits = 0
  for (let i = from; i < to; i++) {
    const digit = text.charCodeAt(i) - 48
    if (digit === -2) {
      if (digits === 0 || ++parts > 3) return null
      bits = (bits << 8) | part
      part = 0
      digits = 0
      continue
    }
    if (digit < 0 || digit > 9 || (digits > 0 && part === 0)) return null
    part = 10 * part + digit
    if (part > 255) return null
    digits++
  }
  return parts === 3 && digits > 0 ? (bits << 8) | part : null
}

/** An IPv4 address's 32 bits as text. */
export const ipv4Text = (bits: number): string => `${bits >>> 24}.${(bits >>> 16) & 255}.${(bits >>> 8) & 255}.${bits & 255}`

function ipv6Bytes(text: string): Uint8Array | null {
  const head = text.slice(0, text.lastIndexOf(':') + 1)
  let tail = text.slice(head.length)
  if (tail.includes('.')) {
    // ipaddr.js takes octal and hexadecimal parts here, and reads ::a.b.c.d as ::ffff:a.b.c.d: it gets to see groups only.
    const bytes = ipv4Bytes(tail)
    if (!bytes) return null
    tail = `${((bytes[0] << 8) | bytes[1]).toString(16)}:${((bytes[2] << 8) | bytes[3]).toString(16)}`
  }
  // It also takes zones, which mean nothing on another machine.
  if (text.includes('%') || !ipaddr.IPv6.isValid(head + tail)) return null
  return Uint8Array.from(ipaddr.IPv6.parse(head + tail).toByteArray())
}

/** 4 or 16 bytes as text, IPv6 by RFC 5952. */
export function formatAddress(bytes: Uint8Array): string {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}`
  return new ipaddr.IPv6([...bytes]).toRFC5952String()
}

/**
 * An address in the one form in which addresses are compared: RFC 5952, with `::ffff:a.b.c.d` as `a.b.c.d`.
 * @returns null where the text is no address
 */
export function canonicalAddress(text: string): string | null {
  const bytes = addressBytes(text)
  return bytes && formatAddress(unmapped(bytes))
}

/** Whether a text is an all-zero address: "the address that you see me come from". */
export function isZeroAddress(text: string): boolean {
  const bytes = addressBytes(text)
  return bytes !== null && unmapped(bytes).every((byte) => byte === 0)
}

/** Whether an address, in its canonical form, is this machine's own, which no network lies in front of. */
export function isLoopback(address: string): boolean {
  return address.startsWith('127.') || address === '::1'
}

/** An IPv4-mapped IPv6 address counts as IPv4 (docs/protocol.md, "Request"). */
function unmapped(bytes: Uint8Array): Uint8Array {
  const mapped = bytes.length === 16 && bytes[10] === 0xff && bytes[11] === 0xff && bytes.subarray(0, 10).every((b) => b === 0)
  return mapped ? bytes.subarray(12) : bytes
}

/** A block of addresses of one family. */
export interface Cidr {
  readonly bytes: Uint8Array
  readonly bits: number
}

/**
 * Reads `a.b.c.d/n`, `a:b::/n` or a single address, or null. Bits behind the prefix must be zero: `10.0.0.1/8` is a slip; and
 * so is an IPv4-mapped block, since a mapped address counts as IPv4.
 */
export function parseCidr(text: string): Cidr | null {
  const [address, prefix, rest] = text.split('/')
  const bytes = addressBytes(address)
  if (!bytes || unmapped(bytes) !== bytes || rest !== undefined) return null
  if (prefix !== undefined && !/^(0|[1-9]\d{0,2})$/.test(prefix)) return null
  const bits = prefix === undefined ? 8 * bytes.length : Number(prefix)
  if (bits > 8 * bytes.length) return null
  for (let i = bits; i < 8 * bytes.length; i++) if (bytes[i >> 3] & (0x80 >> (i & 7))) return null
  return { bytes, bits }
}

/** Whether a block holds an address (text); false for another family and for what is no address. */
export function inCidr(cidr: Cidr, address: string): boolean {
  const bytes = addressBytes(address)
  if (!bytes || bytes.length !== cidr.bytes.length) return false
  for (let i = 0; i < cidr.bits; i++) {
    const mask = 0x80 >> (i & 7)
    if ((bytes[i >> 3] & mask) !== (cidr.bytes[i >> 3] & mask)) return false
  }
  return true
}

/** A block as {@link parseCidr} reads it; one that is a single address has no prefix. */
export function formatCidr({ bytes, bits }: Cidr): string {
  return bits === 8 * bytes.length ? formatAddress(bytes) : `${formatAddress(bytes)}/${bits}`
}

/** The block of so many bits around an address (text); null for what is no address. */
export function blockAround(address: string, bits: number): Cidr | null {
  const bytes = addressBytes(address)
  if (!bytes) return null
  for (let i = bits; i < 8 * bytes.length; i++) bytes[i >> 3] &= ~(0x80 >> (i & 7))
  return { bytes, bits }
}

/** Whether two blocks have an address in common: then one lies within the other. */
export function overlap(a: Cidr, b: Cidr): boolean {
  return a.bits <= b.bits ? inCidr(a, formatAddress(b.bytes)) : inCidr(b, formatAddress(a.bytes))
}
