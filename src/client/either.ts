import { isIP, type Socket } from 'node:net'
import { TimeFault } from '../system/fault'
import { placeOf } from './place'
import type { Beside, WaitResult } from './wait-result'

/* A server that has an address of each family, where one of the two may lead nowhere: as IPv6 does in a café whose router only says that it has it. */

/** A knock by one address of a server. */
interface Aimed<A> {
  readonly host: string
  readonly address: string
  /** The same by the other family; null: there is none. */
  readonly other: (() => Promise<A>) | null
  readonly say: ((text: string) => void) | null
}

/** How it has ended. */
interface EitherEnded<A, T> {
  /** By which it has. */
  readonly by: A
  readonly result: T
  /** What is to be known of the other family; null: nothing. */
  readonly note: string | null
}

/** What a result is worth: an end to both knocks; or to be told of, since somebody has answered, before one of which there is only silence; or nothing. */
type Worth = 'end' | 'told' | 'nothing'

/** What it is worth how a knocking has ended. */
export function worthOf(result: WaitResult | Socket): Worth {
  if (!('outcomes' in result) || result.isOpen || result.isFinal) return 'end'
  return result.touched.size > 0 ? 'told' : 'nothing'
}

/**
 * Knocks by one family, and where that is silent for some seconds, or no packet can be sent, by the other, too: that is a knock of its own.
 * @param limit milliseconds, for both together
 * @param worth what a result is worth
 * @param drop is given the result of the other one, where that comes all the same
 * @throws {Fault} where neither can be sent
 */
export async function knockByEither<A extends Aimed<A>, T>(
  first: A,
  limit: number,
  knock: (one: A, limit: number, beside: Beside) => Promise<T>,
  worth: (result: T) => Worth,
  drop: (result: T) => void = () => {},
): Promise<EitherEnded<A, T>> {
  const end = performance.now() + limit
  const stop = new AbortController()
  let silent = () => {}
  const silence = new Promise<'silent'>((resolve) => {
    silent = () => resolve('silent')
  })
  const run = async (by: A) => ({ by, result: await knock(by, end - performance.now(), { signal: stop.signal, silent }) })
  const one = run(first)
  // One that can't be sent is told of below, if the other can't either.
  const ended = one.catch(() => 'failed')
  if (first.other === null || typeof (await Promise.race([silence, ended])) === 'object') return { ...(await one), note: null }

  const two = first.other().then((second) => {
    // Its address may have had to be asked for.
    if (performance.now() >= end) throw new TimeFault(`no time left to knock by ${familyOf(second)}`)
    first.say?.(`no answer by ${familyOf(first)}: knocking at ${placeOf(first.host, second.address)}, too`)
    return run(second)
  })
  const settled = async (going: typeof one) => {
    const ended = await going
    if (worth(ended.result) !== 'end') throw new Error('nothing has come of it')
    return ended
  }
  const won = await Promise.any([settled(one), settled(two)]).catch(() => null)
  if (won === null) {
    const sent = (await Promise.allSettled([one, two])).flatMap((going) => (going.status === 'fulfilled' ? going.value : []))
    // Where neither could be sent, of the first.
    const [first = await one] = sent
    const ended = sent.find(({ result }) => worth(result) === 'told') ?? first
    return { ...ended, note: sent.length > 1 ? 'knocked by IPv4 and by IPv6, and neither opened' : null }
  }
  stop.abort()
  // The other one may have come to something by now, too.
  for (const going of [one, two])
    going.then(
      ({ by, result }) => by === won.by || drop(result),
      () => {},
    )
  return { ...won, note: won.by === first ? null : familyToUse(first, won.by) }
}

type Placed = Pick<Aimed<unknown>, 'host' | 'address'>

const familyOf = ({ address }: Placed) => `IPv${isIP(address)}`

function familyToUse(silent: Placed, open: Placed): string {
  const option = `-${isIP(open.address)}`
  return `${open.host} answers by ${familyOf(open)} (${open.address}), and not by ${familyOf(silent)} (${silent.address}): use ${option} next time; other programs may need it, too (ssh ${option})`
}
