/** A port of one protocol. */
export interface Service {
  readonly port: number
  readonly protocol: 'tcp' | 'udp'
}

/** Reads a service such as `22/tcp`, as files have it, or null. */
export function parseService(text: string): Service | null {
  const match = /^([1-9]\d{0,4})\/(tcp|udp)$/.exec(text)
  if (!match || Number(match[1]) > 65535) return null
  return { port: Number(match[1]), protocol: match[2] as Service['protocol'] }
}

/** What somebody types for a service: a port from 0 to 65535, and its protocol where they say one. */
export interface TypedService {
  readonly port: number
  readonly protocol: Service['protocol'] | null
}

/** Reads a service as hands type it: `22`, `22/tcp`, `tcp/22`, `22:tcp`, `tcp:22`, in any case; null for any other text. */
export function readTyped(text: string): TypedService | null {
  const [, before, port, after] = /^(?:(tcp|udp)[/:])?(\d{1,5})(?:[/:](tcp|udp))?$/.exec(text.trim().toLowerCase()) ?? []
  if (port === undefined || Number(port) > 65535 || (before && after)) return null
  return { port: Number(port), protocol: ((before ?? after) as Service['protocol'] | undefined) ?? null }
}

/** As {@link readTyped}, for what a key may open: a port from 1 on, and TCP where no protocol is said. */
export function readService(text: string): Service | null {
  const typed = readTyped(text)
  return typed && typed.port > 0 ? { port: typed.port, protocol: typed.protocol ?? 'tcp' } : null
}

export function formatService({ port, protocol }: Service): string {
  return `${port}/${protocol}`
}
