import http from 'node:http'
import https from 'node:https'
import type { Socket } from 'node:net'
import { errorCode, printable, reason } from '../../../system/fault'
import { type Trouble, Unavailable } from './etcd'

/** One call of a member. */
export interface Call {
  readonly method: 'GET' | 'POST'
  readonly path: string
  /** What is sent; empty with GET */
  readonly body: string
  /** What etcd has given us for user and password; null: it asks for none */
  readonly token: string | null
  /** Longest answer in bytes */
  readonly most: number
  /**
   * Whether a member that has no leader is not to answer: it says so at once, and a watch there ends, while without that it would stay silent
   * for ever.
   */
  readonly needsLeader: boolean
}

/** What came back, whole. */
export interface Answer {
  readonly status: number
  readonly type: string
  readonly text: string
}

/** Why a call has failed on the way. */
export class Broken extends Unavailable {
  /** Whether the connection had been used before: it may have been over for long. */
  readonly wasReused: boolean

  constructor(message: string, trouble: Trouble, isUnknown: boolean, wasReused: boolean) {
    super(message, trouble, isUnknown)
    this.wasReused = wasReused
  }
}

const BROKE = 'the connection broke before its answer was whole'
/** Characters of somebody else's words that are said: enough to know what they mean. */
const MAX_SAID = 200

/**
 * Sends a call, and follows its answer piece by piece; no redirect is followed.
 * @param heard gets the head of the answer, and gives who gets the pieces: what that throws ends the call
 * @param signal ends it
 * @returns when all of the answer has come @throws {Unavailable}
 */
export function send(
  endpoint: string,
  agent: http.Agent,
  { method, path, body, token, needsLeader }: Call,
  heard: (response: http.IncomingMessage) => (piece: Buffer) => void,
  signal: AbortSignal,
): Promise<void> {
  const isTls = endpoint.startsWith('https:')
  return new Promise((resolve, reject) => {
    let isSent = false
    const request = (isTls ? https : http).request(endpoint + path, {
      method,
      agent,
      headers: {
        accept: 'application/json',
        ...(needsLeader ? { 'grpc-metadata-hasleader': 'true' } : {}),
        ...(token === null ? {} : { authorization: token }),
        ...(method === 'POST' ? { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) } : {}),
      },
    })
    let isOver = false
    const fail = (error: unknown) => {
      if (isOver) return
      isOver = true
      signal.removeEventListener('abort', onAbort)
      request.destroy()
      reject(error)
    }
    const broken = (message: string, trouble: Trouble, isUnknown = isSent) =>
      fail(new Broken(`${endpoint}: ${message}`, trouble, isUnknown, request.reusedSocket))
    const onAbort = () => broken('no answer in time', 'timeout')
    request.on('socket', (socket) => {
      // One that another call has let go of is open, too, where this one has waited for it.
      if (request.reusedSocket || !isOpening(socket, isTls)) isSent = true
      // Until then nothing of the request has left.
      else socket.once(isTls ? 'secureConnect' : 'connect', () => (isSent = true))
    })
    request.on('response', (response) => {
      isSent = true
      try {
        const next = heard(response)
        response.on('data', (piece) => {
          try {
            next(piece)
          } catch (error) {
            fail(error)
          }
        })
      } catch (error) {
        fail(error)
      }
      response.on('error', () => broken(BROKE, 'unreachable'))
      response.on('close', () => broken(BROKE, 'unreachable'))
      response.on('end', () => {
        // The connection is another call's from here on.
        isOver = true
        signal.removeEventListener('abort', onAbort)
        resolve()
      })
    })
    request.on('error', (error) => {
      const isRefused = !request.reusedSocket && REFUSED.test(errorCode(error) ?? '')
      broken(wordsOf(error), troubleOf(error, isTls && !isSent), isSent && !isRefused)
    })
    request.on('close', () => broken(BROKE, 'unreachable'))
    signal.addEventListener('abort', onAbort)
    if (signal.aborted) return onAbort()
    request.end(body)
  })
}

const isOpening = (socket: Socket, isTls: boolean): boolean =>
  isTls ? 'secureConnecting' in socket && socket.secureConnecting === true : socket.connecting

/** What a server's TLS says of a client's certificate, before it reads anything of the request: with TLS 1.3 only when that is on its way. */
const REFUSED = /^ERR_SSL_.*ALERT_.*(CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED)/
/** What Node says of TLS that fails. */
const TLS = /^(ERR_(TLS|SSL)_|CERT_|UNABLE_TO_|INVALID_|DEPTH_ZERO_|SELF_SIGNED_|PATH_LENGTH_|HOSTNAME_|EPROTO$)/

function troubleOf(error: unknown, isHandshake: boolean): Trouble {
  const code = errorCode(error) ?? ''
  if (TLS.test(code) || (isHandshake && code === 'ECONNRESET')) return 'tls'
  return code.startsWith('HPE_') ? 'strange' : 'unreachable'
}

/** OpenSSL's errors name its own source; what a certificate says is somebody else's. */
function wordsOf(error: unknown): string {
  const [, alert] = /\balert ([a-z ]+)/.exec(reason(error)) ?? []
  const words = alert ? `does not take this gateway's certificate: ${alert}` : reason(error)
  return printable(words.slice(0, MAX_SAID))
}

/** Sends a call and reads its answer, whole. @throws {Unavailable} */
export async function exchange(endpoint: string, agent: http.Agent, call: Call, signal: AbortSignal): Promise<Answer> {
  const pieces: Buffer[] = []
  let [status, type, size] = [0, '', 0]
  const heard = ({ statusCode, headers }: http.IncomingMessage) => {
    status = statusCode ?? 0
    type = headers['content-type'] ?? ''
    return (piece: Buffer) => {
      size += piece.length
      if (size > call.most) throw new Unavailable(`${endpoint}: expected at most ${call.most} bytes, got more`, 'strange', true)
      pieces.push(piece)
    }
  }
  await send(endpoint, agent, call, heard, signal)
  return { status, type, text: Buffer.concat(pieces).toString('utf8') }
}
