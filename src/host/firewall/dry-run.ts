import { writeSync } from 'node:fs'
import type { Firewall, Lease, Lock } from '../../gate/leases'
import { isoTime } from '../time'

/** Says on standard output what it would do, one JSON line each, written before the call returns. */
export function dryRunFirewall(): Firewall {
  const say = (act: 'open' | 'close' | 'lock' | 'expire', { id, key, address, until, ...rest }: Lease | Lock) => {
    const { protocol, port, once } = { protocol: 'any', port: 0, once: false, ...rest }
    const line = { do: act, lease: id, key, address, protocol, port, until: until === null ? null : isoTime(until * 1000), once }
    writeSync(1, `${JSON.stringify(line)}\n`)
  }
  return {
    list: async () => ({ leases: [], locks: [] }),
    open: async (lease) => say('open', lease),
    end: async (lease, why) => say(why, lease),
    lock: async (lock) => say('lock', lock),
    unlock: async (lock) => say('expire', lock),
    mend: async () => false,
  }
}
