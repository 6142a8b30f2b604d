import { networkInterfaces } from 'node:os'
import { backendOf } from '../../daemon/backends/all'
import type { Config } from '../../daemon/config'
import { outerInterfaces } from '../../daemon/exposure/outer'
import { type Guard, guards } from '../../daemon/guard'
import { formatService, type Service } from '../../protocol/service'
import { type Check, unknown } from '../../system/check'
import { Fault, listed } from '../../system/fault'
import { findListeners } from '../setup/listeners'
import type { Saw, Touch } from './place/agent'
import { arrivedBy, type Cable, type Ends, plugIn, type Sparing, unplug } from './place/cable'
import { Hindrance } from './place/hindrance'
import { inPlace, type Place } from './place/place'
import { type Tracked, trackedFrom } from './place/tracked'

/*
 * Whether strangers are kept out of what is to open by a knock only: a private network tries every such service as any stranger would, ports that
 * containers publish too, and nothing of this machine's firewall is changed for it.
 */

const NAME = 'granted services closed'
/** Services that are tried: more than anybody grants, and each is a socket or two for each address. */
const MAX_SERVICES = 256
/** Addresses of this machine that are tried in each family, beside that of the private network. */
const MAX_ADDRESSES = 3
/** Services that are named in one line. */
const NAMED = 12
/** Sockets at a time: fewer than a process may have. */
const AT_ONCE = 200
/** Milliseconds for an answer. A SYN that is lost is said again after one second. */
const PATIENCE = 1_400

/** Draws of addresses before we give up: some hundred are free. */
const DRAWS = 8

/** What became of a service over a family. */
export interface Tried {
  readonly service: Service
  readonly family: Ends['family']
  /** What came back, from each address. */
  readonly saw: readonly Saw[]
  /** Whether a packet has come through all rules; null where the kernel does not say so. */
  readonly isThrough: boolean | null
  /** Whether this machine itself has a service there that would answer: then a refusal is a rule's. */
  readonly isServed: boolean
  /** Whether our guard is to drop what comes there: nothing in front of it rejects. */
  readonly isGuarded: boolean
}

/**
 * Tries from a private network whether services can be reached without a knock.
 * @param services those that are to open by a knock only
 * @returns a check for each service that is not shut or of which that is not known, and one for all that are
 */
export async function strangerChecks(config: Config, services: readonly Service[]): Promise<Check[]> {
  if (services.length === 0) return [unknown(NAME, 'no key grants a service')]
  if (!backendOf(config).isReal)
    return [unknown(NAME, `not tried: with backend = "${config.firewall.backend}" the doors are not in this machine’s firewall`)]
  const tried = services.slice(0, MAX_SERVICES)
  const rest = services.length - tried.length
  const more = rest > 0 ? [unknown(NAME, `${rest} more services are not tried: keys grant more than ${MAX_SERVICES}`)] : []
  try {
    const { found, strangers } = await inPlace({}, async (place) => {
      const cable = await plugInAnew(place, config.firewall.guard)
      try {
        return {
          found: await tryAll(place, cable, tried, config.firewall.guard),
          strangers: cable.ends.map((ends) => ends.strangers[0]),
        }
      } finally {
        await unplug(cable)
      }
    })
    return [...found.flatMap((one) => judge(one) ?? []), ...summary(found, strangers), ...more]
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    return [unknown(NAME, `cannot be tried: ${error.message}`, error.hint)]
  }
}

/** Plugs a place in by addresses of which the kernel keeps no track from an earlier time. */
async function plugInAnew(place: Place, sparing: Sparing): Promise<Cable> {
  for (let left = DRAWS; ; left--) {
    const cable = await plugIn(place, sparing)
    const before = await Promise.all(cable.ends.map(({ strangers: [source] }) => trackedFrom(source)))
    if (before.every((tracked) => tracked === null || tracked.size === 0)) return cable
    await unplug(cable)
    if (left === 0) throw new Hindrance('the kernel keeps track of all addresses for a private network: try again in two minutes')
  }
}

/** Has the place try each service over each family, at the address of the cable and at those that strangers name. */
async function tryAll(place: Place, cable: Cable, services: readonly Service[], guard: Pick<Guard, 'ports'>): Promise<Tried[]> {
  const [outer, served] = [await outerInterfaces(), await servedHere()]
  const wanted = cable.ends.flatMap(({ family, host, strangers: [from] }) =>
    services.map((service) => ({
      ...{ service, family, from },
      touches: [host, ...addressesOf(outer, family)].map((address): Touch => ({ ...service, address, from })),
    })),
  )
  const touches = wanted.flatMap((one) => one.touches)
  const saw: Saw[] = []
  for (let i = 0; i < touches.length; i += AT_ONCE)
    saw.push(...(await place.ask('touch', [touches.slice(i, i + AT_ONCE), PATIENCE], PATIENCE)))
  if ((await arrivedBy(cable)) < touches.length)
    throw new Hindrance('not all packets of the private network arrive at this machine')
  const tracked = new Map<string, Tracked | null>()
  for (const { strangers } of cable.ends) tracked.set(strangers[0], await trackedFrom(strangers[0]))
  return wanted.map(({ service, family, from, touches: own }) => {
    const name = formatService(service)
    return {
      ...{ service, family },
      saw: saw.splice(0, own.length),
      isThrough: tracked.get(from)?.has(name) ?? null,
      isServed: served.has(name),
      isGuarded: guards(guard.ports, service),
    }
  })
}

/** The services that this machine itself has, and no container. */
async function servedHere(): Promise<Set<string>> {
  const { found } = await findListeners().catch(() => ({ found: [] }))
  return new Set(found.flatMap(({ service, publisher }) => (publisher === null ? formatService(service) : [])))
}

/** The addresses that strangers name: those of the interfaces by which they come, but for those of a link alone. */
function addressesOf(outer: readonly string[], family: Ends['family']): string[] {
  const all = networkInterfaces()
  return outer
    .flatMap((name) => all[name] ?? [])
    .filter((one) => one.family === family && !one.internal && !/^(fe[89ab]|169\.254\.)/i.test(one.address))
    .slice(0, MAX_ADDRESSES)
    .map(({ address }) => address)
}

/** What comes back where a rule rejects a packet, and never from a service. */
const REJECTED: readonly Saw[] = ['EHOSTUNREACH', 'EACCES']

/** Whether a service is shut, open or nobody knows. @param tried what became of it over a family */
export function stateOf({ service, saw, isThrough, isServed, isGuarded }: Tried): 'open' | 'shut' | 'unknown' {
  if (isThrough || saw.includes('open') || (isGuarded && saw.includes('refused'))) return 'open'
  const isTcp = service.protocol === 'tcp'
  const isShut = (one: Saw) => {
    if (REJECTED.includes(one)) return true
    // Of a refused TCP connection the kernel keeps track no more; of a datagram it does.
    if (one === 'refused') return isTcp ? isServed : isThrough === false
    // Who is let in to TCP is answered.
    return one === 'silence' && (isTcp || isThrough === false)
  }
  return saw.every(isShut) ? 'shut' : 'unknown'
}

/** How it is known that a service is open. */
const ANSWERS = 'it answers a private network that has no lease'
const COMES = 'packets of a private network that has no lease come through all rules'
const REFUSES = 'it refuses a private network that has no lease, where the guard drops without a word'

/** Why nobody knows, and what to do about it. */
const BY_RULES = 'see what "knockdaemon --check" says of it, by the rules'
const SILENT = [
  'nothing has come back, as from many services that are open, and the kernel does not tell what comes through',
  BY_RULES,
]
const REFUSED = ['it is refused, by a rule or because nothing is there', `start the service and try again, or ${BY_RULES}`]

/** The check of a service over a family; null where it is shut. */
function judge(tried: Tried): Check | null {
  const { service, family, saw } = tried
  const name = formatService(service)
  const state = stateOf(tried)
  if (state === 'shut') return null
  if (state === 'unknown') {
    const [came, remedy] = saw.includes('refused')
      ? REFUSED
      : saw.every((one) => one === 'silence')
        ? SILENT
        : [listed([...new Set(saw)], NAMED)]
    return unknown(NAME, `cannot tell whether ${name} is closed over ${family}: ${came}`, remedy)
  }
  const how = saw.includes('open') ? ANSWERS : tried.isThrough ? COMES : REFUSES
  return {
    name: NAME,
    verdict: 'fault',
    evidence: `${name} is open to everyone over ${family}: ${how}`,
    remedy: tried.isGuarded
      ? 'run "knockturn firewall install": it puts the guard in place'
      : `add "${name}" to guard in [firewall], run "knockturn firewall install" and restart the daemon; "knockdaemon --check" names the rule that lets strangers in`,
  }
}

/** What to say of all that are shut. */
function summary(found: readonly Tried[], strangers: readonly string[]): Check[] {
  const shut = found.filter((one) => stateOf(one) === 'shut')
  if (shut.length === 0) return []
  const families = (['IPv4', 'IPv6'] as const).flatMap((family) => {
    const names = shut.filter((one) => one.family === family).map(({ service }) => formatService(service))
    return names.length > 0 ? `over ${family} ${listed(names, NAMED)}` : []
  })
  const how = `a private network (${strangers.join(', ')}) that has no lease gets no answer and nothing through`
  return [{ name: NAME, verdict: 'ok', evidence: `closed to strangers ${families.join(', ')}: ${how}` }]
}
