import { isIP } from 'node:net'
import { type Check, remedyOf } from '../../system/check'
import { errorCode, quoted, reason } from '../../system/fault'
import { isSameName } from '../host'

/* Whether this network answers for the server at port 80, where login pages show themselves. Only the server's address is asked. */

/** Milliseconds for an answer. */
const LIMIT = 3_000
/** Longest head of an answer that is read, in bytes: the address of a login page may have much in it. */
const MAX_HEAD = 8 * 1024
const PORT = 80
const STATUS_LOGIN = 511
const LOG_IN = 'open any page by http:// in a browser, and log in to this network if a login page comes'

/** What port 80 has answered. */
export interface PlainAnswer {
  readonly status: number
  /** Where it leads to; undefined: nowhere. */
  readonly location: string | undefined
}

/**
 * Asks port 80 of an address for its first page, as a browser would, but that neither a name nor anything else of ours is in the question.
 * @returns what was answered, or why nothing was
 */
export function askPlain(address: string, port = PORT): Promise<PlainAnswer | string> {
  const { request } = process.getBuiltinModule('node:http')
  return new Promise((resolve) => {
    const signal = AbortSignal.timeout(LIMIT)
    const host = isIP(address) === 6 ? `[${address.replace(/%.*/, '')}]` : address
    const options = {
      host: address,
      port,
      path: '/',
      agent: false,
      signal,
      maxHeaderSize: MAX_HEAD,
      headers: { host },
    } as const
    const asked = request(options, (response) => {
      const { statusCode = 0, headers } = response
      resolve({ status: statusCode, location: headers.location })
      response.destroy()
    })
    asked
      .on('error', (error) => resolve(signal.aborted ? 'no answer' : (errorCode(error) ?? reason(error))))
      // What switches to another protocol ends it without an error and without a page, and nothing more would ever come.
      .on('close', () => resolve('no page'))
      .end()
  })
}

/**
 * Whether a login page shows itself.
 * @param names those of the server: its name, and its addresses
 * @param answer of port 80; null: it accepts no connection
 * @param isAnsweredForServer whether something on the path answers high ports, too
 */
export function judgePortal(names: readonly string[], answer: PlainAnswer | string | null, isAnsweredForServer: boolean): Check {
  const check = (verdict: Check['verdict'], evidence: string): Check => ({
    name: 'login page',
    verdict,
    evidence,
    ...remedyOf(verdict === 'ok' ? undefined : LOG_IN),
  })
  if (answer === null) return check('unknown', 'none shows itself: port 80 of the server accepts no connection')
  if (typeof answer === 'string') return check('unknown', `port 80 accepts connections, and gives no page (${answer})`)
  const { status, location } = answer
  if (status === STATUS_LOGIN) return check('fault', `port 80 answers ${status}: this network requires a login`)
  const other = otherHost(names, location)
  if (other !== null) {
    const evidence = `port 80 answers ${status} and leads to ${quoted(other)}`
    return isAnsweredForServer
      ? check('fault', `${evidence}, and high ports are answered, too: that is a login page`)
      : check('note', `${evidence}: if that is none of the server's, it is a login page`)
  }
  if (isAnsweredForServer) return check('unknown', `port 80 answers ${status}, as every port is answered from here`)
  return check('unknown', `port 80 answers ${status}: whose page that is, nothing shows`)
}

/** The host that an answer leads to, where it is another one than the server. */
function otherHost(names: readonly string[], location: string | undefined): string | null {
  if (location === undefined || !URL.canParse(location)) return null
  const host = new URL(location).hostname.replace(/^\[|\]$/g, '')
  return host === '' || names.some((name) => isSameName(name, host) || isSameName(`www.${name}`, host)) ? null : host
}
