import type { Cidr } from '../protocol/address'
import { MAX_PORT, type Ports } from '../protocol/ports'
import { parseService, type Service } from '../protocol/service'
import type { FailOpen } from './fail-open'

/** What is guarded, and whom the guard spares. */
export interface Guard {
  /** Ports that nobody reaches without a lease, by {@link merged}; none: there is no guard. */
  readonly ports: readonly Guarded[]
  /** Interfaces whose packets are spared: a name, or the beginning of names with a `*` behind it. */
  readonly interfaces: readonly string[]
  /** Addresses whose packets are spared. Whoever forges one reaches UDP services. */
  readonly blocks: readonly Cidr[]
  /** Networks behind this machine to which nobody begins a connection from outside, past the guarded ports. */
  readonly networks: readonly Cidr[]
  /** Interfaces that are not outside of these networks: the bridges of this machine. */
  readonly inside: readonly string[]
  /** Whether the kernel knows every connection to a guarded port: then what belongs to none is dropped, too, and not only what begins one. */
  readonly isStrict: boolean
  /** For whom bin/knockturn-fail-open may open the ports; absent: for nobody. */
  readonly failOpen?: FailOpen
}

export const NO_GUARD: Guard = { ports: [], interfaces: [], blocks: [], networks: [], inside: [], isStrict: false }

/** Ports of one protocol that nobody reaches without a lease. */
export interface Guarded {
  readonly protocol: Service['protocol']
  readonly ports: Ports
}

/** Reads `22/tcp` or `60000-61000/udp`, or null. */
export function parseGuarded(text: string): Guarded | null {
  const [, low, high] = /^(?:(\d+)-)?(\d+\/\w+)$/.exec(text) ?? []
  const last = parseService(high ?? '')
  if (!last) return null
  const first = low === undefined ? last : parseService(`${low}/${last.protocol}`)
  if (!first || first.port > last.port) return null
  return { protocol: last.protocol, ports: [first.port, last.port] }
}

/** Ports as {@link parseGuarded} reads them. */
export function formatGuarded({ protocol, ports: [first, last] }: Guarded): string {
  return `${first === last ? '' : `${first}-`}${last}/${protocol}`
}

/** The same ports by both protocols. */
export function byBoth(ranges: readonly Ports[]): Guarded[] {
  return (['tcp', 'udp'] as const).flatMap((protocol) => ranges.map((ports) => ({ protocol, ports })))
}

/** The same ports, each once, in ascending ranges that do not touch. */
export function merged(guard: readonly Guarded[]): Guarded[] {
  const sorted = [...guard].sort((a, b) =>
    a.protocol === b.protocol ? a.ports[0] - b.ports[0] : a.protocol < b.protocol ? -1 : 1,
  )
  const ranges: Guarded[] = []
  for (const { protocol, ports } of sorted) {
    const before = ranges.at(-1)
    if (before?.protocol !== protocol || before.ports[1] + 1 < ports[0]) ranges.push({ protocol, ports })
    else ranges[ranges.length - 1] = { protocol, ports: [before.ports[0], Math.max(before.ports[1], ports[1])] }
  }
  return ranges
}

/**
 * Answers to DHCP's broadcasts: they belong to no flow that the kernel knows, and without them a machine loses its address.
 */
const DHCP_ANSWERS: readonly Guarded[] = [
  { protocol: 'udp', ports: [68, 68] },
  { protocol: 'udp', ports: [546, 546] },
]

/** All ports but these and those to which DHCP answers. */
export function allBut(open: readonly Guarded[]): Guarded[] {
  const spared = merged([...open, ...DHCP_ANSWERS])
  return (['tcp', 'udp'] as const).flatMap((protocol) => {
    const ranges: Guarded[] = []
    let next = 1
    for (const { ports } of spared.filter((one) => one.protocol === protocol)) {
      if (next < ports[0]) ranges.push({ protocol, ports: [next, ports[0] - 1] })
      next = ports[1] + 1
    }
    return next > MAX_PORT ? ranges : [...ranges, { protocol, ports: [next, MAX_PORT] }]
  })
}

/** Longest name of an interface (IFNAMSIZ without its end). */
const MAX_INTERFACE = 15

/** Reads the name of an interface, or the beginning of names with a `*` behind it; null for any other text. */
export function parseInterface(text: string): string | null {
  return /^[A-Za-z0-9][\w.:@-]{0,14}\*?$/.test(text) && text.length <= MAX_INTERFACE ? text : null
}

/** Whether a service is guarded. */
export function guards(guard: readonly Guarded[], { protocol, port }: Service): boolean {
  return guard.some(({ protocol: own, ports: [low, high] }) => own === protocol && low <= port && port <= high)
}
