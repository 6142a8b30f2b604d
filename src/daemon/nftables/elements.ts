import { type Entry, isLease, type Lease, readEntry } from '../../gate/firewall'

/*
 * Leases and locks as elements of nftables' sets, and back. Each has an element of its own in a list, which names it and whose it is, and which no
 * packet meets: what is read back after a restart. The sets that packets meet have address, protocol and port, so that a lookup costs the same
 * however many leases there are; there the leases of several keys for one door share an element (see standing.ts).
 */

/** Our table. */
export const TABLE = 'inet knockturn'
/** Most leases: the kernel holds more, and reading so many back takes ten seconds. */
export const MAX_LEASES = 65_536
/** The sets have room for so many: those of a batch are there before others go. */
export const ROOM = 2 * MAX_LEASES

/** The versions of IP: each has lists and sets of its own. */
export const VERSIONS = [4, 6] as const
export type Version = (typeof VERSIONS)[number]
/** How nft names the addresses of a version: as a type, and in a packet; and how many bits they have. */
export const ADDRESSES = {
  4: { type: 'ipv4_addr', source: 'ip saddr', bits: 32 },
  6: { type: 'ipv6_addr', source: 'ip6 saddr', bits: 128 },
} as const

/** The version of an address or a block. */
export const versionOf = (address: string): Version => (address.includes(':') ? 6 : 4)

/** An element: its set, and what tells it from the others there. */
export interface Element {
  readonly set: string
  readonly key: string
}

/** The lists of leases and of locks, and the types of their elements. */
export const LISTS: Readonly<Record<string, string>> = Object.fromEntries(
  VERSIONS.flatMap((version) => [
    [`leases${version}`, `mark . ${ADDRESSES[version].type} . inet_proto . inet_service`],
    [`locks${version}`, `mark . ${ADDRESSES[version].type}`],
  ]),
)

/** An address or a block, as its first address and the bits of its network. */
export function networkOf(address: string): { readonly first: string; readonly bits: number } {
  const [first = '', bits] = address.split('/')
  return { first, bits: bits === undefined ? ADDRESSES[versionOf(address)].bits : Number(bits) }
}

/** An entry's element in its list. */
export function listed(entry: Entry): Element {
  const version = versionOf(entry.address)
  const who = `0x${entry.id.slice(0, 8)} . ${networkOf(entry.address).first}`
  return isLease(entry)
    ? { set: `leases${version}`, key: `${who} . ${entry.protocol} . ${entry.port}` }
    : { set: `locks${version}`, key: who }
}

/** What the list says of an entry beside its element: 97 of the 128 bytes that nft keeps, at most. */
export function commentOf(entry: Entry): string {
  const { id, key, fingerprint, until } = entry
  const { bits } = networkOf(entry.address)
  return [id, key, fingerprint, until ?? '', bits, isLease(entry) && entry.once ? 'once' : ''].join(':')
}

const NUMBER = /^\d{1,10}$/

/**
 * Reads an element of a list.
 * @param values of its key, as nft prints them: number, address, and of a lease protocol and port
 * @returns null where it is not of our making
 */
export function readListed(values: readonly unknown[], comment: unknown): Entry | null {
  if (typeof comment !== 'string') return null
  const [id = '', key = '', fingerprint = '', end = '', bits = '', once, ...more] = comment.split(':')
  const [, first, protocol, port] = values
  if (once === undefined || more.length > 0 || typeof first !== 'string') return null
  if ((end !== '' && !NUMBER.test(end)) || !NUMBER.test(bits)) return null
  return readEntry({
    ...{ kind: KINDS[values.length], id, key, fingerprint },
    address: `${first}/${bits}`,
    ...{ protocol, port },
    once: once === 'once',
    until: end === '' ? null : Number(end),
  })
}

/** By how many values the key of an element has. */
const KINDS: Readonly<Record<number, string>> = { 2: 'lock', 4: 'lease' }

/** By their numbers in an IP header: nft knows no names where there is no /etc/protocols. */
const PROTOCOLS: Readonly<Record<string, unknown>> = { 6: 'tcp', 17: 'udp' }

/** The values of an element's key, as nft prints them, with a protocol by its name: it stands in front of the port. */
export function named(values: readonly unknown[]): unknown[] {
  return values.map((value, i) => (i === values.length - 2 ? (PROTOCOLS[String(value)] ?? value) : value))
}

/** The object that lets one connection pass, for all leases of one knock together. */
export const limitOf = ({ id }: Lease): string => `once_${id.slice(0, 8)}`
