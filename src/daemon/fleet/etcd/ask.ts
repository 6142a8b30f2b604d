import { Unavailable } from './etcd'
import type { Member } from './member'
import { Refused, readAnswer } from './refused'

/** Longest answer in bytes: a page of the longest rows, of 2 KiB each, is an eighth of it. */
const MAX_ANSWER = 8 * 1024 * 1024

/** What is asked of a member. */
export interface Asked<T> {
  readonly path: string
  readonly body: object
  /** Whether it only looks, so that it makes no difference whether it was done. */
  readonly isLook?: boolean
  /** Whether a member without a leader is not to answer; absent: it is not. */
  readonly needsLeader?: boolean
  /** Reads the answer; null where it is none to this */
  read(answer: unknown): T | null
  /** What a refusal means, where that is an answer, too */
  refused?(refused: Refused): T | null
}

/** Asks a member, once. @throws {Unavailable} */
export async function askMember<T>(
  member: Member,
  token: string | null,
  { path, body, isLook = false, needsLeader = true, read, refused }: Asked<T>,
  signal: AbortSignal,
): Promise<T> {
  try {
    const call = { method: 'POST', path, body: JSON.stringify(body), token, most: MAX_ANSWER, needsLeader } as const
    const found = read(readAnswer(member.endpoint, await member.call(call, signal)))
    if (found !== null) return found
    throw new Unavailable(`${member.endpoint}: expected an answer of etcd's, got something else`, 'strange', true)
  } catch (error) {
    const found = error instanceof Refused ? (refused?.(error) ?? null) : null
    if (found !== null) return found
    if (!isLook || !(error instanceof Unavailable) || !error.isUnknown) throw error
    throw new Unavailable(error.message, error.trouble, false)
  }
}
