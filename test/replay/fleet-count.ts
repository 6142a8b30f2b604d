/* What several gateways have let in, by their own logs: never by what is expected of them. */

/** Messages by which a gateway says that it has granted a knock, whether its firewall has followed in time or not. */
const GRANTED = ['accepted', 'closed before it was open', 'cannot change the firewall rules']

/** A knock, by its key's fingerprint and the name of the leases that it has come to, which is the beginning of its V. */
export type KnockName = `${string} ${string}`

export const knockName = (fingerprint: string, v: string): KnockName => `${fingerprint} ${v.slice(0, 8)}`

/**
 * Who has granted which knock to open something.
 * @param logs of each gateway: all lines of all its daemons
 * @returns the gateways of each knock that was granted at all, one for each time
 */
export function grants(logs: ReadonlyMap<string, readonly string[]>): Map<KnockName, string[]> {
  const granted = new Map<KnockName, string[]>()
  for (const [gateway, lines] of logs) {
    for (const line of lines) {
      const record = recordOf(line)
      if (!record || !GRANTED.includes(String(record.msg)) || record.action !== 'open') continue
      // All leases of one knock have its name, and one line each time.
      for (const lease of new Set(record.leases as string[])) {
        const name = knockName(String(record.fingerprint), lease)
        granted.set(name, [...(granted.get(name) ?? []), gateway])
      }
    }
  }
  return granted
}

/** How many acceptances there are beyond the first one of each knock, and of which knocks. */
export function secondAcceptances(granted: ReadonlyMap<KnockName, readonly string[]>): { count: number; told: string[] } {
  const twice = [...granted].filter(([, gateways]) => gateways.length > 1)
  return {
    count: twice.reduce((sum, [, gateways]) => sum + gateways.length - 1, 0),
    told: twice.map(([name, gateways]) => `knock ${name} was accepted at ${gateways.join(' and ')}`),
  }
}

function recordOf(line: string): Record<string, unknown> | null {
  try {
    return line.startsWith('{') ? JSON.parse(line) : null
  } catch {
    // A daemon that is killed may leave half a line.
    return null
  }
}
