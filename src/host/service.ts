import type { Service } from '../gate/policy'

/** Reads a service such as `22/tcp`, or null. */
export function parseService(text: string): Service | null {
  const match = /^([1-9]\d{0,4})\/(tcp|udp)$/.exec(text)
  if (!match || Number(match[1]) > 65535) return null
  return { port: Number(match[1]), protocol: match[2] as Service['protocol'] }
}

export function formatService({ port, protocol }: Service): string {
  return `${port}/${protocol}`
}
