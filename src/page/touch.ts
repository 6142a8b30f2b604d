import { addressBytes } from '../protocol/address'
import { answer } from './answer'
import type { Attempt, World } from './knock'

/** Browsers gather their own addresses in well under a second; who has none by then (in milliseconds) makes no connections. */
const GATHERING_MS = 2_000

const sleep = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds))

/**
 * The ways in which this page can touch ports, the best first.
 * @param addresses of the server, for WebRTC: ICE connects to each port, from any page, and stops when it is closed
 * @param http its hosts for HTTP requests, which are not for pages from https
 */
export function ways(addresses: readonly string[], http: readonly string[]): { world: World; addresses: readonly string[] }[] {
  const ask = location.protocol === 'https:' || http.length === 0 ? null : (port: number) => askByFetch(http, [port])
  const common = { now: Date.now, sleep, ask }
  const byIce = { ...common, lasting: false, touch: touchByIce }
  const byFetch = { ...common, lasting: true, touch: (host: string, ports: readonly number[]) => askByFetch([host], ports) }
  return [
    ...(typeof RTCPeerConnection === 'function' ? [{ world: byIce, addresses }] : []),
    ...(ask ? [{ world: byFetch, addresses: http }] : []),
  ]
}

async function touchByIce(address: string, ports: readonly number[]): Promise<Attempt> {
  const bytes = addressBytes(address)
  if (!bytes) throw new RangeError(`expected an address, got "${address}"`)
  const peer = new RTCPeerConnection()
  peer.createDataChannel('knock')
  const offer = await peer.createOffer()
  await peer.setLocalDescription(offer)
  const mid = /^a=mid:(\S+)/m.exec(offer.sdp ?? '')?.[1] ?? '0'
  await peer.setRemoteDescription({ type: 'answer', sdp: answer(mid, bytes, ports) })
  const pairs = async () => [...(await peer.getStats()).values()].filter(({ type }) => type === 'candidate-pair')
  let all = await pairs()
  for (const start = performance.now(); performance.now() - start < GATHERING_MS; await sleep(20)) {
    all = await pairs()
    if (all.length >= ports.length) break
  }
  return {
    made: all.length,
    // Firefox does not count them.
    tells: all.some((pair) => 'requestsSent' in pair),
    // A check is sent by who has a connection to send it by.
    accepted: async () => (await pairs()).some(({ requestsSent }) => requestsSent > 0),
    end: () => peer.close(),
  }
}

async function askByFetch(hosts: readonly string[], ports: readonly number[]): Promise<Attempt> {
  const stop = new AbortController()
  const urls = hosts.flatMap((host) => ports.map((port) => `http://${host}:${port}/`))
  let answered = false
  for (const url of urls) {
    // Only that something has answered can be seen, not what.
    fetch(url, { mode: 'no-cors', cache: 'no-store', credentials: 'omit', signal: stop.signal })
      .then(() => {
        answered = true
      })
      .catch(() => {})
  }
  return { made: urls.length, tells: false, accepted: () => answered, end: () => stop.abort() }
}
