import { setMaxListeners } from 'node:events'
import { type Trouble, Unavailable } from './etcd'
import { Refused } from './refused'

/** The members of an etcd, of which the one that has answered last is asked first. */
export class Turns<Member> {
  readonly members: readonly Member[]
  #first = 0

  constructor(members: readonly Member[]) {
    this.members = members
  }

  /** The members, from the one that is asked first on. */
  get inTurn(): readonly Member[] {
    return [...this.members.slice(this.#first), ...this.members.slice(0, this.#first)]
  }

  answered(member: Member): void {
    this.#first = this.members.indexOf(member)
  }

  /** Has the next one asked first, where this one was. */
  failed(member: Member): void {
    if (this.members[this.#first] === member) this.#first = (this.#first + 1) % this.members.length
  }
}

/** Milliseconds that one member is waited for alone: longer than its disk takes, much shorter than anybody waits for a port. */
const PASS_OVER = 1_000
/** In how many parts the time is shared out where it is shorter: an election takes two of five. */
const PARTS = 5

/** How a call is made at members in turn. */
export interface Asking<Member, T> {
  readonly turns: Turns<Member>
  /** Milliseconds, all members together */
  readonly timeout: number
  /** Asks one; rejects at once when aborted */
  ask(member: Member, signal: AbortSignal): Promise<T>
  /** A member has not answered for a while, and the next one is asked */
  passedOver(member: Member): void
  /** Ends it, as its time does */
  readonly signal: AbortSignal
}

/**
 * Asks member after member: the next one where one fails or does not answer for a while, and all of them again until the time is over, as what
 * was asked while a leader is elected may stay without an answer when there is one. What is asked may so be done twice.
 * @throws {Unavailable} at once where no member can be reached, or one says what all would
 */
export function askInTurn<Member, T>({ turns, timeout, ask, passedOver, signal }: Asking<Member, T>): Promise<T> {
  const order = turns.inTurn
  const until = performance.now() + timeout
  const over = new AbortController()
  // One listener for each member that is asked.
  setMaxListeners(0, over.signal)
  const failures = new Map<Member, Unavailable>()
  const waiting = new Map<number, Member>()
  let asked = 0
  let isUnknown = false
  return new Promise((resolve, reject) => {
    const next = () => {
      const turn = asked++
      const member = order[turn % order.length]
      waiting.set(turn, member)
      ask(member, over.signal).then(
        (answer) => {
          turns.answered(member)
          end()
          resolve(answer)
        },
        (error) => {
          waiting.delete(turn)
          failed(member, error)
        },
      )
    }
    const failed = (member: Member, error: unknown) => {
      if (!(error instanceof Unavailable)) {
        end()
        return reject(error)
      }
      isUnknown ||= error.isUnknown
      const isFinal = error instanceof Refused && error.isFinal
      if (isFinal) failures.clear()
      // When the time is over, they all say just that: what was said before tells more.
      if (!over.signal.aborted || failures.size === 0) failures.set(member, error)
      if (over.signal.aborted || isFinal) return giveUp()
      turns.failed(member)
      if (asked < order.length) next()
      else if (waiting.size === 0 && order.every((one) => !isPassing(failures.get(one)))) giveUp()
    }
    const pause = Math.min(PASS_OVER, timeout / PARTS)
    const step = setInterval(() => {
      // What is asked at the very end is only made unknown by it.
      if (until - performance.now() < pause / 2) return
      for (const member of new Set(waiting.values())) passedOver(member)
      next()
    }, pause)
    const end = () => {
      clearInterval(step)
      clearTimeout(deadline)
      signal.removeEventListener('abort', giveUp)
      over.abort()
    }
    /** What is on its way may have been done: that is known when each has ended. */
    const giveUp = () => {
      end()
      if (waiting.size === 0) reject(together([...failures.values()], isUnknown))
    }
    const deadline = setTimeout(giveUp, timeout)
    signal.addEventListener('abort', giveUp)
    next()
    if (signal.aborted) giveUp()
  })
}

/** Whether a member may say something else soon. */
const isPassing = (failure: Unavailable | undefined) => failure?.trouble === 'no-quorum' || failure?.trouble === 'timeout'

/** Which trouble of several is said, if there are several: the one that is to be mended, and then the one that says most. */
const RANK: readonly Trouble[] = ['login', 'full', 'tls', 'no-quorum', 'strange', 'timeout', 'unreachable']
/** Members whose words are in one message. */
const MAX_TOLD = 3
const BETWEEN = '; '

/** What a member says of itself in a message that may be of several; null: it says nothing there. */
export const ownWords = (endpoint: string, message: string): string | null =>
  message
    .split(BETWEEN)
    .find((words) => words.startsWith(`${endpoint}: `))
    ?.slice(endpoint.length + 2) ?? null

function together(failures: readonly Unavailable[], isUnknown: boolean): Unavailable {
  const [worst, ...others] = failures.toSorted((a, b) => RANK.indexOf(a.trouble) - RANK.indexOf(b.trouble))
  // Where it took a login first, the words of one are those of several.
  const words = new Set([worst, ...others].flatMap(({ message }) => message.split(BETWEEN)))
  return new Unavailable([...words].slice(0, MAX_TOLD).join(BETWEEN), worst.trouble, isUnknown)
}
