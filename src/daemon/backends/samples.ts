import type { Lease, Lock } from '../../gate/firewall'

/** Leases and a lock of one version of IP, with all that they can have, for trying what a kernel can. */
export interface Samples {
  /** For one connection from a block, and for any from an address. */
  readonly leases: readonly [block: Lease, plain: Lease]
  readonly lock: Lock
}

/** By their addresses, which are documentation's. */
function samplesOf(address: string, block: string): Samples {
  // Any time does: 2030-01-01.
  const whose = { id: '00000000', key: 'check', fingerprint: '0'.repeat(32), until: 1_893_456_000 }
  return {
    leases: [
      { ...whose, address: block, protocol: 'tcp', port: 22, once: true },
      { ...whose, address, protocol: 'udp', port: 53, once: false },
    ],
    lock: { ...whose, address },
  }
}

/** What is tried of each version of IP. */
export const SAMPLES: Readonly<Record<4 | 6, Samples>> = {
  4: samplesOf('192.0.2.1', '192.0.2.0/24'),
  6: samplesOf('2001:db8::1', '2001:db8::/64'),
}
