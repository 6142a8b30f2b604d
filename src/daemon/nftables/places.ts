import { ADDRESSES, ROOM, TABLE, type Version } from './elements'

/* The sets that packets meet: by version, prefix length, and for one connection by round. */

/** A set that packets meet. */
export interface Place {
  readonly version: Version
  /** Bits of a source address that count. */
  readonly bits: number
  /** Which of the maps for one connection; null: the set for any number of connections. */
  readonly round: number | null
}

/** The name of a place's set. */
export const setOf = ({ version, bits, round }: Place): string =>
  round === null ? `open${version}_${bits}` : `once${version}_${bits}_${round}`

/** Reads the name of a place's set. @returns null for any other name */
export function placeOf(name: string): Place | null {
  const [, version, bits, round] = /^(?:open|once)([46])_(\d{1,3})(?:_(\d{1,2}))?$/.exec(name) ?? []
  if (version === undefined || name.startsWith('once') !== (round !== undefined)) return null
  return { version: version === '4' ? 4 : 6, bits: Number(bits), round: round === undefined ? null : Number(round) }
}

/** What empties a place's set. */
export const emptyLine = (set: string): string => `flush ${placeOf(set)?.round === null ? 'set' : 'map'} ${TABLE} ${set}`

/** What a place's set is made from. */
export function placeLines(place: Place): string[] {
  const { type, source, bits } = ADDRESSES[place.version]
  const key = `${type} . inet_proto . inet_service`
  const set = setOf(place)
  const mask = place.bits === bits ? '' : ` & ${maskOf(place)}`
  const door = `${source}${mask} . meta l4proto . th dport`
  // No counter in a map: a lookup that ends in a limit counts nothing there. The rule counts for all.
  return place.round === null
    ? [
        `add set ${TABLE} ${set} { type ${key}; flags timeout; counter; size ${ROOM}; }`,
        `add rule ${TABLE} open ${door} @${set} accept comment "${set}"`,
      ]
    : [
        `add map ${TABLE} ${set} { type ${key} : limit; flags timeout; size ${ROOM}; }`,
        `add rule ${TABLE} once limit name ${door} map @${set} counter accept comment "${set}"`,
      ]
}

/** The mask of so many bits, as an address. */
function maskOf({ version, bits }: Place): string {
  const all = ADDRESSES[version].bits
  const mask = ((1n << BigInt(bits)) - 1n) << BigInt(all - bits)
  const byte = (n: number) => Number((mask >> BigInt(all - 8 * (n + 1))) & 0xffn)
  if (version === 4) return [0, 1, 2, 3].map(byte).join('.')
  return Array.from({ length: 8 }, (_, n) => ((byte(2 * n) << 8) | byte(2 * n + 1)).toString(16)).join(':')
}
