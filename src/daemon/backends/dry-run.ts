import pino from 'pino'
import { type Entry, type Firewall, isLease, nameOf } from '../../gate/firewall'
import { isoTime } from '../../system/time'
import type { Backend } from './backend'
import { iptables } from './iptables'

/** Opens nothing, and says on standard output what it would do. What is heard comes by the log rules of iptables. */
export const dryRun: Backend = {
  ...iptables,
  isReal: false,
  commands: [],
  rehearse: async () => [],
  counted: async () => [],
  standing: async () => [],
  open: async () => ({ firewall: dryRunFirewall(), logged: null, follow: () => {} }),
}

/** Says what it would do, one JSON line each. @param write told each line, before the call returns; standard output where nobody is named */
export function dryRunFirewall(write = onStandardOutput()): Firewall {
  const standing = new Map<string, Entry>()
  const say = (act: string, entry: Entry) => {
    const { id, key, address, until, ...rest } = entry
    const { protocol, port, once } = { protocol: 'any', port: 0, once: false, ...rest }
    const line = { do: act, lease: id, key, address, protocol, port, until: until === null ? null : isoTime(until * 1000), once }
    write(`${JSON.stringify(line)}\n`)
  }
  const add = (entry: Entry) => {
    standing.set(nameOf(entry), entry)
    say(isLease(entry) ? 'open' : 'lock', entry)
  }
  const remove = (entry: Entry, why: string) => {
    standing.delete(nameOf(entry))
    if (why !== 'replaced') say(why === 'expired' || !isLease(entry) ? 'expire' : 'close', entry)
  }
  return [
    {
      name: 'dry run',
      clock: 'wall',
      maxRemoved: Infinity,
      holds: () => true,
      endsByItself: () => true,
      read: async () => ({ entries: [...standing.values()], isWhole: true }),
      async change(batch) {
        for (const { entry, why } of batch.remove) remove(entry, why)
        for (const entry of batch.add) add(entry)
      },
      rewrite: async () => {},
    },
  ]
}

function onStandardOutput(): (line: string) => void {
  // It goes on where whoever reads is slower than we are, and an output that is gone is nobody's business.
  const output = pino.destination({ fd: 1, sync: true })
  output.on('error', () => {})
  return (line) => output.write(line)
}
