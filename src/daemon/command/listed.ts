import type { Lease } from '../../gate/firewall'
import { formatCidr, parseCidr } from '../../protocol/address'
import { parseService } from '../../protocol/service'

/** A way in that the user's program opens and closes: one for all leases that it lets in. */
export type Way = Pick<Lease, 'address' | 'protocol' | 'port'>

/** What tells a way from every other. */
export const wayName = ({ address, protocol, port }: Way): string => `${address} ${protocol} ${port}`

/** What a program has listed. */
export interface Listed {
  /** With the lease's id, where it says one. */
  readonly ways: readonly (Way & { readonly lease: string | null })[]
  /** The first line that is not understood; null: all are. */
  readonly odd: string | null
}

/** An id or a fingerprint as we make them. */
export const NAME = /^[A-Za-z0-9][\w.-]{0,63}$/

/** Reads what a program has listed: `ADDRESS PROTOCOL PORT`, and the lease's id behind that if it likes; one way in a line. */
export function readListed(output: string): Listed {
  const lines = output.split('\n').flatMap((line) => line.trim() || [])
  const found = lines.map((line) => ({ line, way: readWay(line) }))
  return {
    ways: found.flatMap(({ way }) => way ?? []),
    odd: found.find(({ way }) => !way)?.line ?? null,
  }
}

function readWay(line: string) {
  const [address, protocol, port, lease = null, ...more] = line.split(/\s+/)
  const block = parseCidr(address)
  const service = parseService(`${port}/${protocol}`)
  if (!block || !service || more.length > 0 || (lease !== null && !NAME.test(lease))) return null
  return { address: formatCidr(block), ...service, lease }
}
