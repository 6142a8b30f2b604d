import type { Ports } from '../protocol/ports'
import { parseService, type Service } from '../protocol/service'

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

/** Whether a service is guarded. */
export function guards(guard: readonly Guarded[], { protocol, port }: Service): boolean {
  return guard.some(({ protocol: own, ports: [low, high] }) => own === protocol && low <= port && port <= high)
}
