import { createSocket } from 'node:dgram'
import { isIP, type LookupFunction } from 'node:net'
import { Fault, reason } from '../system/fault'
import { lookUp, seconds } from './name'

/* One question to one server that the user has named, and its answer: by UDP, or by HTTPS. */

/** Milliseconds until a question is asked again, doubled each time (RFC 8489, 6.2.1), and after which nobody waits any more. */
const FIRST_TRY = 500
export const ASK_LIMIT = 5_000
/** Longest answer by HTTPS that is read: an address and a line end, with room for a greeting that is then refused. */
const MAX_ANSWER = 1_024

/**
 * Asks by UDP, again and again until an answer is understood or the time is over. Only what comes from the asked address and port is
 * read: the kernel sees to that.
 * @param ask makes the packet; called anew for each try
 * @param read makes something of an answer's bytes; null: it is no answer to this, and is passed over
 * @param within milliseconds
 * @throws {Fault} where nothing comes in time, or `read` throws one
 */
export function askUdp<T>(
  { name, address, port }: { readonly name: string; readonly address: string; readonly port: number },
  ask: () => Uint8Array,
  read: (answer: Uint8Array) => T | null,
  within: number,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(isIP(address) === 6 ? 'udp6' : 'udp4')
    let again: NodeJS.Timeout | undefined
    let last = ''
    const end = (done: () => void) => {
      clearTimeout(again)
      clearTimeout(limit)
      socket.close()
      done()
    }
    const give = (error: unknown) => end(() => reject(error))
    const late = () => give(new Fault(`${name} (${address}) has not answered within ${seconds(within)} s${last && `: ${last}`}`))
    const limit = setTimeout(late, Math.max(within, 0))
    // A refusal may be forged, and pass: the time limit alone ends the waiting.
    socket.on('error', (error) => {
      last = reason(error)
    })
    socket.on('message', (answer) => {
      try {
        const value = read(answer)
        if (value !== null) end(() => resolve(value))
        else last = 'what came was no answer to this question'
      } catch (error) {
        give(error instanceof Fault ? new Fault(`${name}: ${error.message}`) : error)
      }
    })
    const tryIt = (pause: number) => {
      socket.send(ask(), (error) => {
        if (error) last = reason(error)
      })
      again = setTimeout(tryIt, pause, 2 * pause)
    }
    socket.connect(port, address, (error?: Error) => {
      if (error) give(new Fault(`${name} (${address}): cannot be asked: ${reason(error)}`))
      else tryIt(FIRST_TRY)
    })
  })
}

/** What an HTTPS server has answered. */
export interface HttpsAnswer {
  readonly text: string
  /** Its Date header. */
  readonly date: string | undefined
}

/**
 * Asks by HTTPS. The certificate is checked as Node does, whatever NODE_TLS_REJECT_UNAUTHORIZED says, and no redirect is followed: the user has named whom to ask.
 * @param family 4 or 6 where it must be asked by that, else 0
 * @param limit milliseconds
 * @throws {Fault}
 */
export async function askHttps(url: URL, method: 'GET' | 'HEAD', family: 0 | 4 | 6, limit: number): Promise<HttpsAnswer> {
  const { request } = process.getBuiltinModule('node:https')
  return new Promise((resolve, reject) => {
    const give = (why: string) => reject(new Fault(`${url.origin}: ${why}`))
    const signal = AbortSignal.timeout(Math.max(Math.ceil(limit), 0))
    const failed = (error: Error) =>
      give(signal.aborted ? `no answer within ${seconds(limit)} s` : `cannot be asked: ${reason(error)}`)
    const lookup: LookupFunction = (name, { all }, done) => {
      lookUp(name, family, limit).then(
        (found) =>
          all
            ? done(
                null,
                found.map((address) => ({ address, family: isIP(address) })),
              )
            : done(null, found[0], isIP(found[0])),
        (error) => done(error, ''),
      )
    }
    // A HEAD is asked for its date, which every answer has.
    const options = { method, family, lookup, signal, agent: false, rejectUnauthorized: true, headers: { accept: 'text/plain' } }
    const asked = request(url, options, (response) => {
      const { statusCode, headers } = response
      if (method === 'GET' && statusCode !== 200) {
        give(`expected the status 200, got ${statusCode}`)
        return void response.destroy()
      }
      let text = ''
      response.on('error', failed)
      response.setEncoding('latin1').on('data', (part: string) => {
        text += part
        if (text.length <= MAX_ANSWER) return
        give(`expected at most ${MAX_ANSWER} bytes, got more`)
        response.destroy()
      })
      response.on('end', () => resolve({ text, date: headers.date }))
    })
    asked.on('error', failed).end()
  })
}
