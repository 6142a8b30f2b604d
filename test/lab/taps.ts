/** A port to touch. */
export interface Touch {
  protocol: string
  port: number
  /** Of a datagram, in hex. */
  payload?: string
}

/** A SYN or a datagram on the wire. */
export interface Tap extends Touch {
  source: string
  sourcePort: number
  destination: string
  /** Since 1970. */
  ms: number
}

/** What tcpdump prints: `1700000000.123456 IP6 2001:db8::2.4711 > 2001:db8::1.50000: Flags [S], ...` or `UDP, length 0`. */
export function readTaps(text: string): Tap[] {
  const form = /^(\d+\.\d+) IP6? (\S+)\.(\d+) > (\S+)\.(\d+): (Flags \[S\],|UDP,)/
  return text.split('\n').flatMap((line) => {
    const [, seconds, source = '', sourcePort, destination = '', port, kind] = form.exec(line) ?? []
    if (!seconds) return []
    const protocol = kind === 'UDP,' ? 'udp' : 'tcp'
    return { source, sourcePort: Number(sourcePort), destination, protocol, port: Number(port), ms: Number(seconds) * 1000 }
  })
}
