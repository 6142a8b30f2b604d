import { addressBytes } from '../protocol/address'
import { answer } from './answer'
import type { Attempt, World } from './knock'

/** Browsers gather their own addresses in well under a second; who has none by then (in milliseconds) makes no connections. */
const GATHERING_MS = 2_000

const sleep = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds))

/** By WebRTC, from any page: ICE connects to each port, and stops when it is closed. */
export const byIce: World = { now: Date.now, sleep, lasting: false, touch: touchByIce }

/** By HTTP requests, from pages that are not https themselves. */
export const byFetch: World = { now: Date.now, sleep, lasting: true, touch: touchByFetch }

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
  let made = 0
  for (const start = performance.now(); performance.now() - start < GATHERING_MS; await sleep(20)) {
    made = (await pairs()).length
    if (made >= ports.length) break
  }
  return {
    made,
    // A check is sent by who has a connection to send it by.
    accepted: async () => (await pairs()).some(({ requestsSent, bytesSent }) => requestsSent > 0 || bytesSent > 0),
    end: () => peer.close(),
  }
}

async function touchByFetch(host: string, ports: readonly number[]): Promise<Attempt> {
  const stop = new AbortController()
  let answered = false
  for (const port of ports) {
    // Only that something has answered can be seen, not what.
    fetch(`http://${host}:${port}/`, { mode: 'no-cors', cache: 'no-store', credentials: 'omit', signal: stop.signal })
      .then(() => {
        answered = true
      })
      .catch(() => {})
  }
  return { made: ports.length, accepted: () => answered, end: () => stop.abort() }
}
