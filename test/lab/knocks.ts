import { join } from 'node:path'
import { BIN } from '../root'
import { logged } from './gate'
import type { Host } from './host'
import type { Child } from './processes'
import type { Touch } from './taps'
import { PATIENCE } from './waiters'

/** A line of the daemon's log on a knock, with what those have that are accepted: whose key, and what is open until when, by which leases. */
export interface Verdict extends Record<string, unknown> {
  fingerprint: string
  service: string
  until: string
  leases: string[]
}

/** The command of a knock. */
export function knock(gate: { key: string }, ...options: string[]) {
  return [join(BIN, 'knockclient'), '-k', gate.key, ...options]
}

/**
 * What the daemon says of a knock: its first line `accepted` or `refused` from now on.
 * @param sources whose knock it is; none: whoever's
 */
export async function verdict(
  daemon: Child,
  send: () => Promise<unknown>,
  timeoutMs = PATIENCE,
  sources: string[] = [],
): Promise<Verdict> {
  const since = daemon.lines.length
  await send()
  const isVerdict = (line: string) => logged('accepted')(line) || logged('refused')(line)
  const isOurs = (line: string) => sources.length === 0 || sources.includes(JSON.parse(line).source)
  return JSON.parse(await daemon.line((line) => isVerdict(line) && isOurs(line), since, timeoutMs))
}

/**
 * Knocks once over and gives the daemon's verdict. A door is open before the log says so: what is said late of somebody else's
 * is none of it.
 */
export function knocked(host: Host, daemon: Child, key: string, ...options: string[]) {
  const send = () => host.must(knock({ key }, '--passes', '1', ...options))
  return verdict(daemon, send, PATIENCE, [host.ipv4, host.ipv6])
}

/** A knock that is not sent: what to touch, the rendezvous ports first. */
export async function compose(host: Host, key: string, ...options: string[]): Promise<{ window: number; touches: Touch[] }> {
  const { window, ports } = JSON.parse(await host.must(knock({ key }, '--dry-run', '--json', ...options)))
  return { window, touches: ports.map((port: number) => ({ protocol: 'tcp', port })) }
}
