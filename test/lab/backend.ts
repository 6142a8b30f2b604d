import type { Host } from './host'

/* Whose rules the leases of the lab's servers are, and what is done to them and read of them, whichever backend they have. */

export const BACKENDS = ['iptables', 'nftables'] as const
export type Backend = (typeof BACKENDS)[number]

/** Our table of nftables. */
const TABLE = ['inet', 'knockturn']
const FAMILIES = ['iptables', 'ip6tables']

/** What servers have that are not told otherwise: what the environment says, or else iptables. */
export const usualBackend = (): Backend => BACKENDS.find((one) => one === process.env.KNOCKTURN_BACKEND) ?? 'iptables'

/** Whether a guard shuts the ports of servers that are not told otherwise: always by nftables, and by iptables where that is asked for. */
export const isUsuallyGuarded = (): boolean => usualBackend() === 'nftables' || process.env.KNOCKTURN_GUARD === 'yes'

/** Has a guard of iptables shut the ports of the servers of this process, or the administrator's own rules. */
export function chooseGuard(isGuarded: boolean): void {
  process.env.KNOCKTURN_GUARD = isGuarded ? 'yes' : 'no'
}

/**
 * Has the servers of this process, and of those that it starts, have a backend.
 * @param name as the user gave it; undefined: what is usual
 * @returns what is wrong with it, for the user; null where nothing is
 */
export function chooseBackend(name: string = usualBackend()): string | null {
  const chosen = BACKENDS.find((one) => one === name)
  if (!chosen) return `unknown backend "${name}"\nhint: give --backend ${BACKENDS.join(' or --backend ')}`
  process.env.KNOCKTURN_BACKEND = chosen
  return null
}

/** Has the kernel forget all leases of a server with the usual backend; its other rules stay. */
export async function flushLeases(server: Host): Promise<void> {
  if (usualBackend() === 'iptables') {
    for (const iptables of FAMILIES) await server.must([iptables, '-F', 'KNOCKTURN-LEASES'])
    return
  }
  const table = await server.must(['nft', '-t', 'list', 'table', ...TABLE])
  const sets = [...table.matchAll(/\t(set|map) ((?:leases|open|once)\w+) \{/g)]
  await server.must(['nft', '-f', '-'], {
    input: sets.map(([, kind, name]) => `flush ${kind} ${TABLE.join(' ')} ${name}\n`).join(''),
  })
}

/** How many packets the log rules of a server with the usual backend have logged. @param version of IP, where the rules are of one */
export async function loggedOn(server: Host, version: 4 | 6): Promise<number> {
  if (usualBackend() === 'nftables') {
    const rules = await server.must(['nft', 'list', 'chain', ...TABLE, 'heard'])
    return sum([...rules.matchAll(/counter packets (\d+) bytes \d+ log /g)])
  }
  const rules = await server.must([version === 4 ? 'iptables' : 'ip6tables', '-v', '-S', 'KNOCKTURN-TAPS'])
  return sum([...rules.matchAll(/-c (\d+) \d+ -j (?:NF)?LOG/g)])
}

const sum = (counts: readonly RegExpMatchArray[]) => counts.reduce((all, [, packets]) => all + Number(packets), 0)
