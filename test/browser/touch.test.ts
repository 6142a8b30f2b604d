import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'

/* What a page makes of touches that are accepted, by browsers that are made up; test/e2e/page-cafe.test.ts has real ones. */

/** By a path that is no literal: its types are a browser's, which the tests are without. */
const { ways } = await import(join(import.meta.dirname, '../../src/browser/touch.ts'))
const SERVER = '198.51.100.1'
let accepting: readonly number[] = []

/** A browser's attempts to connect, as its WebRTC tells of them. */
class Peer {
  ports: number[] = []
  createDataChannel() {}
  close() {}
  async createOffer() {
    return {}
  }
  async setLocalDescription() {}
  async setRemoteDescription({ sdp }: { sdp: string }) {
    this.ports = [...sdp.matchAll(/ (\d+) typ host/g)].map(([, port]) => Number(port))
  }
  async getStats() {
    const pair = (port: number) => ({ type: 'candidate-pair', requestsSent: Number(accepting.includes(port)) })
    return new Map(this.ports.map((port) => [port, pair(port)]))
  }
}

beforeEach(() => {
  vi.stubGlobal('location', { protocol: 'file:' })
  vi.stubGlobal('RTCPeerConnection', Peer)
  vi.stubGlobal('fetch', async (url: string) => {
    if (!accepting.includes(Number(new URL(url).port))) throw new TypeError('failed')
  })
})
afterEach(() => vi.unstubAllGlobals())

describe.each([
  ['WebRTC', 0],
  ['HTTP requests', 1],
])('touches by %s', (_, way) => {
  /** Whether touches of these ports are taken for accepted, where so many ports accept. */
  async function areAccepted(ports: readonly number[], open: readonly number[]) {
    accepting = open
    const touch = await ways([SERVER], [SERVER])[way].world.touch(SERVER, ports)
    await new Promise(setImmediate)
    return (await touch.seen()).accepted !== null
  }

  it.each([
    ['is accepted where there is one', [22], [22], true],
    ['are accepted where two are', [50_000, 50_001, 50_002], [50_000, 50_002], true],
    ['are not where one is, which may be another machine’s', [50_000, 50_001, 50_002], [50_001], false],
    ['are not where none is', [50_000, 50_001], [], false],
  ])('%s', async (_, ports, open, expected) => {
    expect(await areAccepted(ports, open)).toBe(expected)
  })
})
