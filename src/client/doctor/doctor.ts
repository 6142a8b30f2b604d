import { isIP } from 'node:net'
import { DEFAULT_PERIOD, hintOf, type KeyFile } from '../../keys/key-file'
import { isLoopback } from '../../protocol/address'
import { DEFAULT_POOL, parsePool } from '../../protocol/pool'
import type { TypedService } from '../../protocol/service'
import { type Check, faulty, remedyOf } from '../../system/check'
import { Fault, reason, hintOf as remedyIn } from '../../system/fault'
import { askTime } from '../evidence'
import { type Families, findHost, type Place } from '../place'
import { localAddressTo } from '../transport'
import { judgeClock } from './clock-check'
import { isAnsweredForServer, judgeWays, type Tried } from './judge-ways'
import { judgeKey } from './key-check'
import { addressesOf, judgeName } from './name-check'
import { askPlain, judgePortal } from './portal'
import { isRejection, MAX_NAMED, type Probe, probesOf } from './probes'
import { routersToRejection, tryAll } from './try'

/* What a client can find out of itself and of the network that it is in, without a knock: only the user's server is sent to, and whom they name. */

/** What is looked at. */
export interface Patient {
  /** The key, or why there is none. */
  readonly key: KeyFile | Fault
  /** The server, as somebody has named it; undefined: the key's own host. */
  readonly host: string | undefined
  /** Whether it was named by -r, which means it, whatever the key says. */
  readonly isMeant: boolean
  readonly families: Families
  /** Services to try, besides those that the key's file names. */
  readonly services: readonly TypedService[]
  /** The port for datagrams; undefined: only the usual ones. */
  readonly datagram: number | undefined
  /** Whom the user has named for the time; undefined: nobody is asked. */
  readonly timeSource: URL | undefined
  /** --time-offset, in seconds. */
  readonly timeOffset: number
}

/** What was sent by one family. */
export interface SentBy {
  readonly address: string
  readonly from: string
  readonly ports: readonly Pick<Probe, 'protocol' | 'port'>[]
}

/** All that was found out. */
export interface Findings {
  readonly host: string | null
  readonly checks: readonly Check[]
  readonly sent: readonly SentBy[]
}

/**
 * Looks at key, clock, name and network. Takes up to some ten seconds, and as many for a name that nobody knows.
 * @param told has each check as soon as it has ended
 */
export async function examine(patient: Patient, told: (check: Check) => void): Promise<Findings> {
  const checks: Check[] = []
  const add = (...more: readonly Check[]) => {
    for (const check of more) {
      checks.push(check)
      told(check)
    }
  }
  const { key, timeOffset } = patient
  const wall = Date.now() + timeOffset * 1000
  add(...(key instanceof Fault ? [faulty('key', key)] : judgeKey(key, wall)))
  add(await lookAtClock(patient))
  const found = await lookAtName(patient)
  add(found.check)
  const { place } = found
  if (place === null) return { host: null, checks, sent: [] }
  const named = namedServices(patient)
  if (named.length > MAX_NAMED)
    add({ name: 'services', verdict: 'note', evidence: `${named.length - MAX_NAMED} of ${named.length} services are not tried` })
  const tried = await tryFamilies(patient, place, probesOf(poolOf(patient), named, Math.random))
  add(...tried.flatMap((one) => ('shown' in one ? judgeWays(one) : one)))
  const ways = tried.filter((one) => 'shown' in one)
  if (ways.length > 0) add(await lookForPortal(place, ways))
  const sent = ways.map(({ address, local, shown }) => ({
    address,
    from: local,
    ports: shown.map(({ protocol, port }) => ({ protocol, port })),
  }))
  return { host: place.host, checks, sent }
}

async function lookAtClock({ key, timeSource, timeOffset }: Patient): Promise<Check> {
  const clock = timeSource ? await askTime(timeSource, timeOffset) : null
  const [period, created] = key instanceof Fault ? [DEFAULT_PERIOD, 0] : [key.key.period, key.created]
  return judgeClock({ clock, period, timeOffset }, Date.now() + timeOffset * 1000, created)
}

async function lookAtName({ key, host, isMeant, families }: Patient): Promise<{ check: Check; place: Place | null }> {
  const known = key instanceof Fault ? null : key
  if (host === undefined && known === null) {
    const evidence = 'no server to look at: there is no key that names it'
    return { check: { name: 'name', verdict: 'unknown', evidence, remedy: 'name it with -r' }, place: null }
  }
  try {
    // Without a key, there is nothing that the server would have to fit.
    const aim = { key: known, host, isMeant: isMeant || known === null }
    // That the key names no host has been said of the key.
    const place = await findHost(families, aim, 0, Infinity, () => {})
    return { check: judgeName(place), place }
  } catch (error) {
    return { check: faulty('name', error), place: null }
  }
}

const poolOf = ({ key }: Patient) => (key instanceof Fault ? parsePool(DEFAULT_POOL) : key.key.pool)

/** What is tried beside the usual: the port of datagrams, what was named, and what the key opens by its file. */
function namedServices({ key, datagram, services }: Patient): TypedService[] {
  const own = key instanceof Fault ? [] : (hintOf(key)?.services ?? [])
  return [...(datagram === undefined ? [] : [{ protocol: 'udp' as const, port: datagram }]), ...services, ...own]
}

/** Tries the ways by each family that the server has, or says why that can't be done. */
async function tryFamilies({ families }: Patient, place: Place, probes: readonly Probe[]): Promise<(Tried | Check)[]> {
  const addresses = addressesOf(place)
  const wanted = ([4, 6] as const).filter((family) => !(family === 4 ? families.ipv6 : families.ipv4))
  const tried = await Promise.all(
    wanted.map((family) => {
      const address = addresses.find((one) => isIP(one) === family)
      return address === undefined ? absent(place.host, family) : tryFamily(address, family, probes)
    }),
  )
  // Where one family goes, the other is not missed.
  const goes = tried.some((one) => 'shown' in one)
  return tried.map((one) => ('verdict' in one && one.verdict === 'fault' && goes ? { ...one, verdict: 'note' } : one))
}

function absent(host: string, family: 4 | 6): Check {
  return { name: `IPv${family}`, verdict: 'note', evidence: `${host} has no IPv${family} address: not tried` }
}

async function tryFamily(address: string, family: 4 | 6, probes: readonly Probe[]): Promise<Tried | Check> {
  const name = `IPv${family}`
  if (isLoopback(address))
    return { name, verdict: 'note', evidence: `${address} is this machine itself: there is no network to be looked at` }
  try {
    const local = await localAddressTo(address)
    const shown = await tryAll(address, probes)
    const rejected = shown.find(({ protocol, isHigh, saw }) => protocol === 'udp' && isHigh && isRejection(saw))
    const routers = rejected ? await routersToRejection(address, rejected.port) : null
    return { family, address, local, shown, routers }
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    return { name, verdict: 'fault', evidence: reason(error), ...remedyOf(remedyIn(error)) }
  }
}

async function lookForPortal(place: Place, tried: readonly Tried[]): Promise<Check> {
  const asked = tried.find(({ shown }) =>
    shown.some(({ protocol, port, saw }) => protocol === 'tcp' && port === 80 && saw === 'open'),
  )
  const answer = asked ? await askPlain(asked.address) : null
  return judgePortal([place.host, ...addressesOf(place)], answer, tried.some(isAnsweredForServer))
}
