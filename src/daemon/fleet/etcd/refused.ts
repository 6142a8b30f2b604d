import * as v from 'valibot'
import { parseJson, readBy } from '../../../system/json'
import { type Trouble, Unavailable } from './etcd'
import type { Answer } from './send'

/** gRPC's codes that we tell apart. */
export const CODE = {
  invalid: 3,
  late: 4,
  notFound: 5,
  denied: 7,
  exhausted: 8,
  precondition: 9,
  outOfRange: 11,
  unimplemented: 12,
  unavailable: 14,
  unauthenticated: 16,
} as const

/** What etcd says instead of an answer. */
export class Refused extends Unavailable {
  readonly code: number
  /** Whether each member would say the same. */
  readonly isFinal: boolean
  /** Whether it may be the token that is over. */
  readonly isToken: boolean

  constructor(endpoint: string, code: number, message: string) {
    const said = message.replace(/^rpc error: code = \w+ desc = /, '')
    const { trouble, isUnknown } = judge(code, said)
    // Nothing is said back but what is of etcd's own words: it might be a secret of ours.
    super(`${endpoint}: ${OWN_WORDS.test(said) ? said : `error ${code}`}`, trouble, isUnknown)
    this.code = code
    this.isFinal = FINAL.includes(code) && trouble !== 'timeout'
    this.isToken = code === CODE.unauthenticated || TOKEN.test(said)
  }
}

/** Codes by which nothing was done, and that all members would say. */
const FINAL: readonly number[] = [
  CODE.invalid,
  CODE.notFound,
  CODE.denied,
  CODE.exhausted,
  CODE.precondition,
  CODE.outOfRange,
  CODE.unauthenticated,
]
const OWN_WORDS = /^etcdserver: [a-z][a-z ,:()-]{0,120}$/i
const TOKEN = /invalid auth token|revision of auth store is old/
const LOGIN = /user name|authentication|auth token|auth store|permission denied/

function judge(code: number, said: string): { trouble: Trouble; isUnknown: boolean } {
  if (said.includes('database space exceeded')) return { trouble: 'full', isUnknown: false }
  if (code === CODE.unauthenticated || code === CODE.denied || LOGIN.test(said)) return { trouble: 'login', isUnknown: false }
  // "too many requests"
  if (code === CODE.exhausted) return { trouble: 'timeout', isUnknown: false }
  // A member that has no leader says so before it does anything; what it has begun without an end may come to one yet.
  if (code === CODE.unavailable) return { trouble: 'no-quorum', isUnknown: !said.endsWith(': no leader') }
  if (FINAL.includes(code) || code === CODE.unimplemented) return { trouble: 'strange', isUnknown: false }
  return { trouble: 'timeout', isUnknown: true }
}

/** What etcd says, before it looks at anything else, where it has users and is asked with a certificate that could be one. */
const COMMON_NAME = 'CommonName of client'

const errorSchema = v.object({ code: v.number(), message: v.string() })
const streamErrorSchema = v.object({
  error: v.object({ grpc_code: v.optional(v.number()), code: v.optional(v.number()), message: v.optional(v.string(), '') }),
})

/**
 * Reads what a member says, in JSON.
 * @throws {Unavailable} where that is an error, or nothing of etcd's
 */
export function readAnswer(endpoint: string, { status, type, text }: Answer): unknown {
  const json = /^application\/json\b/.test(type) ? parseJson(text) : undefined
  if (status === 200 && json !== undefined) return json
  const error = readBy(errorSchema, json)
  if (status !== 200 && error) throw new Refused(endpoint, error.code, error.message)
  if (status === 400 && text.startsWith(COMMON_NAME))
    throw new Unavailable(`${endpoint}: takes no certificate with a common name beside a user`, 'tls', true)
  throw new Unavailable(`${endpoint}: expected an answer of etcd's JSON gateway, got status ${status}`, 'strange', true)
}

/** The error in a line of a stream, which ends with it; null where it is none. */
export function streamError(endpoint: string, line: unknown): Refused | null {
  const said = readBy(streamErrorSchema, line)
  if (!said) return null
  const { grpc_code, code, message } = said.error
  return new Refused(endpoint, grpc_code ?? code ?? 0, message)
}
