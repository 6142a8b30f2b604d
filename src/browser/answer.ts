import { formatAddress } from '../protocol/address'

/**
 * The answer of a peer that there is not: it claims to wait for TCP connections at these ports, and the browser, which is to make one
 * to each, touches them.
 * @param mid the media section's name in the browser's offer
 * @param address bytes of an IPv4 or IPv6 address; browsers resolve no names here
 * @see RFC 6544 (ICE-TCP), RFC 8839 (its lines in SDP)
 */
export function answer(mid: string, address: Uint8Array, ports: readonly number[]): string {
  const host = formatAddress(address)
  // Falling, so that browsers which go by priority touch the ports in our order: the rendezvous first.
  const candidates = ports.map(
    (port, i) => `a=candidate:${i + 1} 1 tcp ${1_518_280_447 - i} ${host} ${port} typ host tcptype passive`,
  )
  return [
    'v=0',
    'o=- 1 1 IN IP4 0.0.0.0',
    's=-',
    't=0 0',
    `a=group:BUNDLE ${mid}`,
    'm=application 9 UDP/DTLS/SCTP webrtc-datachannel',
    'c=IN IP4 0.0.0.0',
    'a=ice-ufrag:knock',
    // Nobody will ever be asked for it; the grammar wants 22 characters.
    `a=ice-pwd:${'k'.repeat(22)}`,
    `a=fingerprint:sha-256 ${Array(32).fill('00').join(':')}`,
    'a=setup:passive',
    `a=mid:${mid}`,
    'a=sctp-port:5000',
    ...candidates,
    '',
  ].join('\r\n')
}
