import { Fault, reason } from '../../../system/fault'
import { checkHidden, readText } from '../../../system/files'
import { readBy } from '../../../system/json'
import { askMember } from './ask'
import { Unavailable } from './etcd'
import { tokenSchema } from './json'
import type { Member } from './member'
import { CODE, type Refused } from './refused'

/** Longest file with a user and a password, in bytes. */
const MAX_LOGIN = 4_096

/** A user of etcd's. */
export interface Credentials {
  readonly name: string
  readonly password: string
}

/**
 * Reads a file with a user and a password, a line each.
 * @throws {Fault} where it can't be read, others may read it, or it has something else in it, which is not said
 */
export async function readLogin(path: string): Promise<Credentials> {
  const text = await readText(path, MAX_LOGIN, (file, stats) => checkHidden(file, stats, 0o600))
  const [name = '', password = '', ...rest] = text.replace(/\r?\n$/, '').split(/\r?\n/)
  if (name === '' || password === '' || rest.length > 0)
    throw new Fault(`${path}: expected two lines, a user and a password, got something else (not shown)`)
  return { name, password }
}

/** Knows the token that etcd has given for user and password, and asks for another one when that is over. */
export class Login {
  readonly #path: string | null
  readonly #authenticate: (credentials: Credentials) => Promise<string>
  #token: string | null = null
  #asked: Promise<string> | null = null

  /** @param path null: etcd asks for none */
  constructor(path: string | null, authenticate: (credentials: Credentials) => Promise<string>) {
    this.#path = path
    this.#authenticate = authenticate
  }

  /** The token; null where etcd asks for none. @param signal what waits for it @throws {Unavailable} */
  async token(signal: AbortSignal): Promise<string | null> {
    if (this.#path === null || this.#token !== null) return this.#token
    // All who wait for one get the same.
    this.#asked ??= this.#ask(this.#path).finally(() => {
      this.#asked = null
    })
    return unlessAborted(this.#asked, signal)
  }

  /** Forgets a token that etcd does not take. */
  forget(token: string): void {
    if (this.#token === token) this.#token = null
  }

  async #ask(path: string): Promise<string> {
    // Read each time, so that a new password needs no restart.
    const credentials = await readLogin(path).catch((error) => {
      throw error instanceof Fault ? new Unavailable(reason(error), 'login', false) : error
    })
    this.#token = await this.#authenticate(credentials)
    return this.#token
  }
}

/** What a promise comes to, or at once that nobody waits any longer. @throws {Unavailable} */
function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const stop = () => reject(new Unavailable('etcd has given no token in time', 'timeout', false))
    signal.addEventListener('abort', stop)
    if (signal.aborted) stop()
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop))
  })
}

/** Asks a member for a token. @throws {Unavailable} in words of our own: what is said about a password is never said on */
export function askToken(member: Member, credentials: Credentials, signal: AbortSignal): Promise<string> {
  const asked = {
    path: '/v3/auth/authenticate',
    body: credentials,
    isLook: true,
    read: (answer: unknown) => readBy(tokenSchema, answer)?.token ?? null,
    refused: (refused: Refused) => {
      const { code, isFinal, trouble } = refused
      if (!isFinal) throw new Unavailable(`${member.endpoint}: gives no token: error ${code}`, trouble, false)
      const isOff = code === CODE.precondition
      const why = isOff ? 'asks nobody for a password: its authentication is off' : 'does not take the user and the password'
      refused.message = `${member.endpoint}: ${why}`
      throw refused
    },
  }
  return askMember(member, null, asked, signal)
}
