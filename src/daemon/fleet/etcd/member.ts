import http from 'node:http'
import https from 'node:https'
import { Unavailable } from './etcd'
import { type Answer, Broken, type Call, exchange, send } from './send'
import type { Trust } from './tls'

/** Connections to one member at a time: more claims than these wait for a free one. */
const MAX_CONNECTIONS = 64
/** Those that are kept for later: a claim takes milliseconds, so that a few carry all there are. */
const MAX_IDLE = 16

interface Agents {
  /** Keeps connections. */
  readonly calls: http.Agent
  /** For what takes a connection for good. */
  readonly streams: http.Agent
}

/** One member of etcd, by its endpoint. */
export class Member {
  readonly endpoint: string
  readonly #renew: () => Promise<Trust | null>
  #trust: Trust | null
  #agents: Agents

  /** @param trust null: in the clear @param renew reads what is trusted anew */
  constructor(endpoint: string, trust: Trust | null, renew: () => Promise<Trust | null>) {
    this.endpoint = endpoint
    this.#trust = trust
    this.#renew = renew
    this.#agents = agentsFor(endpoint, trust)
  }

  /** Calls, and reads the answer, whole. @throws {Unavailable} */
  call(call: Call, signal: AbortSignal): Promise<Answer> {
    return this.#try(() => exchange(this.endpoint, this.#agents.calls, call, signal), signal)
  }

  /** Calls, and hears the answer piece by piece, as long as it lasts. @throws {Unavailable} */
  stream(call: Call, heard: Parameters<typeof send>[3], signal: AbortSignal): Promise<void> {
    return this.#try(() => send(this.endpoint, this.#agents.streams, call, heard, signal), signal)
  }

  /** Lets go of connections that are not in use: they may lead nowhere. */
  dropIdle(): void {
    for (const sockets of Object.values(this.#agents.calls.freeSockets)) for (const socket of sockets ?? []) socket.destroy()
  }

  close(): void {
    this.#agents.calls.destroy()
    this.#agents.streams.destroy()
  }

  /** Tries again what failed by a connection that was over, or by certificates that have been renewed. */
  async #try<T>(act: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const trust = this.#trust
    try {
      return await act()
    } catch (error) {
      if (!(error instanceof Broken) || signal.aborted) throw error
      const isAgain = error.wasReused ? error.trouble === 'unreachable' : await this.#isRenewed(error, trust)
      if (!isAgain || signal.aborted) throw error
      try {
        return await act()
      } catch (next) {
        if (!error.isUnknown || !(next instanceof Unavailable) || next.isUnknown) throw next
        throw new Unavailable(next.message, next.trouble, true)
      }
    }
  }

  /** Whether TLS may go otherwise than it went with what was trusted then: what a server does not like about a certificate it seldom says. */
  async #isRenewed({ trouble, isUnknown }: Broken, then: Trust | null): Promise<boolean> {
    if (then === null || (trouble !== 'tls' && !isUnknown)) return false
    if (this.#trust !== then) return true
    const trust = await this.#renew()
    if (trust === null || trust.digest === then.digest) return false
    // What is on its way stays there, and is kept no longer.
    this.#agents.calls.maxFreeSockets = 0
    this.dropIdle()
    this.#trust = trust
    this.#agents = agentsFor(this.endpoint, trust)
    return true
  }
}

function agentsFor(endpoint: string, trust: Trust | null): Agents {
  const kept = { keepAlive: true, maxSockets: MAX_CONNECTIONS, maxFreeSockets: MAX_IDLE, scheduling: 'lifo' } as const
  if (!endpoint.startsWith('https:')) return { calls: new http.Agent(kept), streams: new http.Agent() }
  // Said here so that no variable of the environment says otherwise; no session is taken up that was begun with other certificates.
  const secure = { secureContext: trust?.context, rejectUnauthorized: true, maxCachedSessions: 0 }
  return { calls: new https.Agent({ ...kept, ...secure }), streams: new https.Agent(secure) }
}
