import { isIP } from 'node:net'
import { domainToASCII } from 'node:url'
import { execFile } from '../system/child-process'
import { commandPath } from '../system/commands'
import { errorCode, Fault } from '../system/fault'

/* What addresses a name has, as the system says it and other programs see it, within a time that is ours to set. */

/** Milliseconds for which names are waited for at most: glibc asks a server for 5 s, and there are two of them as a rule. */
export const NAME_LIMIT = 10_000
/** Error code where they have been waited for as long as that. */
export const NO_ANSWER = 'ETIMEDOUT'
/** What getent(1) ends with where the name has no address, or no server has said one. */
const NONE = 2

/**
 * Finds all addresses of a name, in the system's order. It is looked up in a process of its own, which can be ended: a name server that says
 * "truncated" and then nothing keeps the system's resolver waiting for ever, and in our process we could not end before it does.
 * @param family 4 or 6 where only that one will do, else 0
 * @param limit milliseconds
 * @returns one at least
 * @throws {Error} whose message says why there is none; with the code {@link NO_ANSWER} where its time is up
 */
export async function lookUp(name: string, family: 0 | 4 | 6, limit: number): Promise<readonly string[]> {
  const found = isIP(name) ? [name] : ((await askSystem(name, limit)) ?? (await askHere(name)))
  const fitting = found.filter((address) => family === 0 || isIP(address) === family)
  if (fitting.length === 0) throw new Fault(`the system knows no ${family === 0 ? '' : `IPv${family} `}address of ${name}`)
  return fitting
}

/** By getent(1); null where that is not to be had. */
async function askSystem(name: string, limit: number): Promise<readonly string[] | null> {
  // What is no name, a URL's parser would cut off, decode or take away.
  const ascii = /[\s/\\?#%]/.test(name) ? '' : domainToASCII(name)
  const env = { ...process.env, PATH: commandPath() }
  const how = { env, timeout: Math.max(1, Math.ceil(limit)), killSignal: 'SIGKILL' } as const
  return new Promise((resolve, reject) => {
    execFile('getent', ['ahosts', ascii || encodeURI(name)], how, (error, text) => {
      // The address comes first in each line, and stands once for each kind of socket.
      if (!error || error.code === NONE)
        resolve([...new Set(text.split('\n').flatMap((line) => line.match(/^\S+/) ?? []))].filter(isIP))
      else if (error.killed)
        reject(Object.assign(new Fault(`no name server has answered within ${seconds(limit)} s`), { code: NO_ANSWER }))
      else resolve(null)
    })
  })
}

/** In our own process, where there is no getent: with musl, whose resolver has a time limit for all that it does. */
async function askHere(name: string): Promise<readonly string[]> {
  const { lookup } = process.getBuiltinModule('node:dns/promises')
  try {
    return (await lookup(name, { all: true })).map(({ address }) => address)
  } catch (error) {
    if (errorCode(error) === 'ENOTFOUND') return []
    throw error
  }
}

/** Milliseconds in seconds, to a tenth, for a fault; where there was no time left, none. */
export function seconds(milliseconds: number): number {
  return Math.round(Math.max(milliseconds, 0) / 100) / 10
}
