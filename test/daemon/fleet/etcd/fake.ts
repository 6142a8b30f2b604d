import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { afterEach, vi } from 'vitest'
import type { FleetConfig } from '../../../../src/daemon/fleet/config'
import { openEtcd } from '../../../../src/daemon/fleet/etcd/client'
import { type Etcd, Unavailable } from '../../../../src/daemon/fleet/etcd/etcd'

/* Members that say what a test has them say, well or ill. */

/** What a member has been asked. */
export interface Asked {
  readonly path: string
  readonly headers: IncomingMessage['headers']
  readonly body: unknown
}

export type Answering = (asked: Asked, response: ServerResponse, socket: Socket) => void

/** A member of an etcd that is none. */
export class FakeMember {
  readonly asked: Asked[] = []
  readonly sockets = new Set<Socket>()
  #answer: Answering
  #server: Server

  private constructor(answer: Answering) {
    this.#answer = answer
    this.#server = createServer((request, response) => {
      let text = ''
      request.on('data', (piece) => {
        text += piece
      })
      request.on('end', () => {
        const asked = { path: request.url ?? '', headers: request.headers, body: text && JSON.parse(text) }
        this.asked.push(asked)
        this.#answer(asked, response, request.socket)
      })
    })
    this.#server.on('connection', (socket) => {
      this.sockets.add(socket)
      socket.on('close', () => this.sockets.delete(socket))
    })
  }

  static async start(answer: Answering): Promise<FakeMember> {
    const member = new FakeMember(answer)
    await new Promise<void>((resolve) => member.#server.listen(0, '127.0.0.1', resolve))
    ends.push(() => member.end())
    return member
  }

  /** Has it answer otherwise from now on. */
  answers(answer: Answering): void {
    this.#answer = answer
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  async end(): Promise<void> {
    for (const socket of this.sockets) socket.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
  }
}

const ends: (() => unknown)[] = []
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end()
})

export const HEADER = { cluster_id: '14841639068965178418', member_id: '1', revision: '7', raft_term: '2' }

export const json = (answer: unknown, status = 200): Answering => text(JSON.stringify(answer), 'application/json', status)
export const text =
  (body: string, type = 'application/json', status = 200): Answering =>
  (_, response) =>
    response.writeHead(status, { 'content-type': type }).end(body)
/** What etcd says when it refuses. */
export const refuses = (code: number, message: string, status = 503): Answering => json({ error: message, message, code }, status)
export const never: Answering = () => {}

/** A client of members. */
export async function open(members: readonly (FakeMember | string)[], more: Partial<FleetConfig> = {}): Promise<Etcd> {
  const endpoints = members.map((member) => (typeof member === 'string' ? member : member.endpoint))
  const tls = { ca: null, cert: null, key: null }
  const etcd = await openEtcd({
    endpoints,
    prefix: 'p/',
    timeout: 1_500,
    gateway: 'gw1',
    pinned: false,
    tls,
    login: null,
    ...more,
  })
  ends.push(() => etcd.close())
  return etcd
}

/** Waits until an assertion holds: for longer than it takes on a busy machine. */
export const eventually = (assertion: () => void): Promise<void> => vi.waitFor(assertion, 20_000)

/** Why something has failed; null where it has not. */
export const failureOf = (asked: Promise<unknown>): Promise<Unavailable | null> =>
  asked.then(
    () => null,
    (error) => {
      if (error instanceof Unavailable) return error
      throw error
    },
  )

/** Begins an answer that never ends, as fast as it is read. */
export const endless: Answering = (_, response) => {
  response.writeHead(200, { 'content-type': 'application/json' })
  const more = () => {
    while (!response.destroyed && response.write(' '.repeat(1024 * 1024)));
  }
  response.on('drain', more)
  more()
}
