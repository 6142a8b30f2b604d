import { MIN_PAGES, PAGE, RENDEZVOUS } from './codebook'

/** The default pool: IANA's dynamic range, exactly 2^14 ports (docs/protocol.md, "Words"). */
export const DEFAULT_POOL = '49152-65535'
/** Fewest ports that give the pages that an IPv4 request with full parity needs (docs/protocol.md, "Constants"). */
export const MIN_POOL = RENDEZVOUS + MIN_PAGES * PAGE
/** Most ranges in a pool's text: a bound on input, far above what anybody needs. */
const MAX_RANGES = 256

/**
 * Reads a pool such as `49152-65535` or `20000-29999,40000-49999`; ranges may overlap and come in any order.
 * @returns the ports, ascending and each once
 * @throws {RangeError} when the text is not a list of port ranges or gives fewer than 11,272 ports
 */
export function parsePool(text: string): Uint16Array {
  const ranges = text.split(',')
  if (ranges.length > MAX_RANGES) throw new RangeError(`expected at most ${MAX_RANGES} ranges, got ${ranges.length}`)
  const inside = new Uint8Array(65536)
  for (const range of ranges) {
    const match = /^\s*(\d{1,5})(?:\s*-\s*(\d{1,5}))?\s*$/.exec(range)
    const low = Number(match?.[1])
    const high = Number(match?.[2] ?? match?.[1])
    if (!match || low < 1 || high > 65535 || low > high) {
      throw new RangeError(`expected port ranges such as "${DEFAULT_POOL}", got "${range.trim().slice(0, 40)}"`)
    }
    inside.fill(1, low, high + 1)
  }
  const pool = portsOf(inside)
  if (pool.length < MIN_POOL) throw new RangeError(`expected at least ${MIN_POOL} ports, got ${pool.length}`)
  return pool
}

/** All ports of several pools. */
export function unite(pools: Iterable<Uint16Array>): Uint16Array {
  const inside = new Uint8Array(65536)
  for (const pool of new Set(pools)) for (const port of pool) inside[port] = 1
  return portsOf(inside)
}

function portsOf(inside: Uint8Array): Uint16Array {
  const ports: number[] = []
  for (let port = 1; port < 65536; port++) if (inside[port]) ports.push(port)
  return Uint16Array.from(ports)
}

/** A pool as the shortest text that {@link parsePool} reads back. */
export function formatPool(pool: Uint16Array): string {
  return poolRanges(pool)
    .map(([low, high]) => (low === high ? `${low}` : `${low}-${high}`))
    .join(',')
}

/** A pool's ranges `[low, high]`, both inclusive, ascending. */
export function poolRanges(pool: Uint16Array): [number, number][] {
  const ranges: [number, number][] = []
  for (const port of pool) {
    const last = ranges.at(-1)
    if (last && last[1] === port - 1) last[1] = port
    else ranges.push([port, port])
  }
  return ranges
}
