import { formatService, type TypedService } from '../../protocol/service'

/* Which ports of the server are tried, to find out what this network sends on. Nothing here knows a key's secret: see {@link highPorts}. */

/** Ports of the pool that are tried. With them come ports that were named; all together are fewer than the 32 that the smallest knock has. */
const HIGH = 4
/** Most services that are tried: with as many, a run sends some 50 packets. */
export const MAX_NAMED = 16
/** What a network lets out that lets out little; 80 is where a login page shows itself. */
const USUAL = [
  { protocol: 'tcp', port: 443 },
  { protocol: 'tcp', port: 80 },
  { protocol: 'tcp', port: 53 },
  { protocol: 'udp', port: 443 },
  { protocol: 'udp', port: 53 },
] as const

/** One port that is tried. */
export interface Probe {
  readonly protocol: 'tcp' | 'udp'
  readonly port: number
  /** Whether it stands for all ports of a knock. */
  readonly isHigh: boolean
}

/** What a port has shown. */
export interface Shown extends Probe {
  /** `open`, `answered` (UDP), `silence`, or what a failure has shown: see {@link failureOf}. */
  readonly saw: string
  /** Milliseconds until then. */
  readonly ms: number
}

/** Whether somebody has rejected what was sent. */
export function isRejection(saw: string): boolean {
  return saw !== 'open' && saw !== 'answered' && saw !== 'silence'
}

/**
 * What is tried: the usual ports, then what was named, and last the high ports, which a guard against port scans may mind.
 * @param pool the ports of a knock
 * @param named services of the key or profile, and what the command line names; without a protocol, TCP. Those beyond {@link MAX_NAMED} are left out
 * @param random from 0 to 1, as Math.random
 */
export function probesOf(pool: Uint16Array, named: readonly TypedService[], random: () => number): Probe[] {
  const asked = named
    .filter(({ port }) => port !== 0)
    .slice(0, MAX_NAMED)
    .map(({ protocol, port }) => ({ protocol: protocol === 'udp' ? ('udp' as const) : ('tcp' as const), port, isHigh: false }))
  const high = highPorts(pool, random)
  const all: Probe[] = [
    ...USUAL.map((one) => ({ ...one, isHigh: false })),
    ...asked,
    ...(['tcp', 'udp'] as const).flatMap((protocol) => high.map((port) => ({ protocol, port, isHigh: true }))),
  ]
  const once = new Map<string, Probe>()
  for (const probe of all) if (!once.has(nameOf(probe))) once.set(nameOf(probe), probe)
  return [...once.values()]
}

const nameOf = ({ port, protocol }: Probe) => formatService({ port, protocol })

/**
 * Ports of a pool, one of each part of it. They follow from chance and from the pool alone: so they tell whoever sees them nothing of a secret,
 * and not which ports are the rendezvous of any window.
 */
function highPorts(pool: Uint16Array, random: () => number): number[] {
  const part = Math.floor(pool.length / HIGH)
  // Not by a sum with a fraction, which may be rounded up into the next part.
  return Array.from({ length: HIGH }, (_, n) => pool[n * part + Math.floor(random() * part)])
}
