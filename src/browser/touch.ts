import { addressBytes } from '../protocol/address'
import { LIFE } from '../protocol/opening'
import { answer } from './answer'
import type { World } from './knocking'
import type { Attempt } from './sight'

/** Browsers gather their own addresses in well under a second; who has none by then (in milliseconds) makes no connections. */
const GATHERING_MS = 2_000
/** Chromium and Firefox begin a second connection for a request whose first one is not answered within 250 ms. */
const REQUEST_LIFE = 200

/** So many ports have to be accepted, where there are more than one: a single one may be another machine's, to which the server's router leads it. */
const enough = (ports: readonly number[]) => Math.min(2, ports.length)

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
    // Where there is no way to the address, nothing will come of it.
    if (all.length >= ports.length || peer.iceConnectionState === 'disconnected') break
  }
  // Firefox does not count them.
  const tells = all.some((pair) => 'requestsSent' in pair)
  let accepted: number | null = null
  return {
    made: all.length,
    tells,
    began: Date.now(),
    life: LIFE,
    seen: async () => {
      const left = await pairs()
      // A check is sent by who has a connection to send it by.
      if (left.filter(({ requestsSent }) => requestsSent > 0).length >= enough(ports)) accepted ??= Date.now()
      // Chromium forgets what has been refused.
      return { accepted, rejected: tells && left.length === 0 }
    },
    end: () => peer.close(),
  }
}

async function askByFetch(hosts: readonly string[], ports: readonly number[]): Promise<Attempt> {
  const stop = new AbortController()
  const began = Date.now()
  const urls = hosts.flatMap((host) => ports.map((port) => `http://${host}:${port}/`))
  let accepted: number | null = null
  const answered = new Set<string>()
  for (const url of urls) {
    // Only that something has answered can be seen, not what.
    fetch(url, { mode: 'no-cors', cache: 'no-store', credentials: 'omit', signal: stop.signal })
      .then(() => {
        if (answered.add(new URL(url).port).size >= enough(ports)) accepted ??= Date.now()
      })
      .catch(() => {})
  }
  // Why a request has failed can't be seen: it may be the browser itself that forbids it.
  const seen = () => ({ accepted, rejected: false })
  return { made: urls.length, tells: false, began, life: REQUEST_LIFE, seen, end: () => stop.abort() }
}
