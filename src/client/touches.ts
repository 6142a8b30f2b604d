import type { Socket } from 'node:net'
import { isLoopback } from '../protocol/address'
import { failureOf } from './look'

/**
 * A touched port is waited for so many milliseconds. A proxy that sends on what has completed its handshake needs a round trip for that; the SYN is
 * said again after 1 s, and must not be.
 */
const LIFE = 900
/**
 * Most touches that are kept, by both families together, the oldest are given up for further ones: those of the 16 knocks that one command may send
 * in a pass. A process may have 1,024 files open where nobody has said otherwise.
 */
export const MOST = 850
/** All that are kept. */
const all = new Set<Socket>()
/**
 * A run takes so many neighbouring local ports at most: the first, and others for what is said again while the same is still on its way, as in a pass
 * that comes early, or by a further knock of the same window.
 */
const SOURCES = 4
/**
 * They lie from here to there: Linux gives these out itself. A knock and a passcode touch higher ones, where what goes to this machine would meet itself.
 */
const LOWEST_SOURCE = 32_768
const HIGHEST_SOURCE = 47_999 - SOURCES
/** Where sockets that go to different ports may share their own one, as Node binds them. */
const CAN_SHARE = ['linux', 'android'].includes(process.platform)

/**
 * The touches of a run by TCP, and what they have come back with. A server that hears knocks is silent on all ports of its pool: who accepts, resets
 * or rejects there is somebody else.
 */
export class Touches {
  readonly #kept = new Set<Socket>()
  readonly #seen = new Set<string>()
  /** The first port that has come back with each. */
  readonly #first = new Map<string, number>()
  readonly #isFarAway: boolean
  #isOver = false
  /**
   * The local ports to touch from, each where the one before it will not do; 0: what the system chooses. One for the whole run, as far as can be: a
   * router keeps a mapping for each, and may have few for one guest.
   */
  readonly sources: readonly number[]

  /** @param address of the server; where that is this machine, nobody is on the way, and what has come back tells of nobody */
  constructor(address: string) {
    this.#isFarAway = !isLoopback(address)
    const first = LOWEST_SOURCE + Math.floor(Math.random() * (HIGHEST_SOURCE - LOWEST_SOURCE))
    const own = CAN_SHARE ? Array.from({ length: SOURCES }, (_, n) => first + n) : []
    this.sources = [...own, 0]
  }

  /**
   * What has come back, of two ports at least: `open` where they were accepted, else what {@link failureOf} says. Empty: nothing has. One port alone may
   * be another machine's, to which the server's router leads it, and tells of nobody on the way.
   */
  get seen(): ReadonlySet<string> {
    return this.#seen
  }

  /** Whether somebody accepts what the server never would: what else is accepted may be theirs, too. */
  get areAccepted(): boolean {
    return this.#seen.has('open')
  }

  /** Whether somebody has answered: what only says that there is no way on, may be a router in front of everybody. */
  get areAnswered(): boolean {
    return this.areAccepted || this.#seen.has('refused')
  }

  /** Whether no more are wanted: see {@link end}. */
  get isOver(): boolean {
    return this.#isOver
  }

  /** Keeps one to a port that is on its way, until it is answered or its time is up. */
  keep(socket: Socket, port: number): void {
    if (this.#isOver) return void socket.destroy()
    const [oldest] = all
    if (all.size >= MOST) giveUp(oldest)
    all.add(socket)
    this.#kept.add(socket)
    socket
      .setTimeout(LIFE, () => socket.destroy())
      .once('connect', () => {
        this.#saw('open', port)
        socket.end()
      })
      .on('error', (error) => this.#saw(failureOf(error), port))
      .once('close', () => {
        all.delete(socket)
        this.#kept.delete(socket)
      })
  }

  /** Gives up the one that is on its way for longest, for another's file. @returns whether there was one */
  spare(): boolean {
    const [oldest] = this.#kept
    if (oldest) giveUp(oldest)
    return this.#kept.delete(oldest)
  }

  #saw(what: string, port: number): void {
    if (!this.#isFarAway) return
    const first = this.#first.get(what) ?? port
    this.#first.set(what, first)
    if (first !== port) this.#seen.add(what)
  }

  /** Gives up those that are still on their way, and further ones: one that waits for its answer keeps the process from ending. */
  end(): void {
    this.#isOver = true
    for (const socket of this.#kept) giveUp(socket)
  }
}

/** Gives one up: its end is heard of later, and it counts no more now. */
function giveUp(socket: Socket): void {
  all.delete(socket)
  socket.destroy()
}
