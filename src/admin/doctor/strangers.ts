import { networkInterfaces } from 'node:os'
import { backendOf } from '../../daemon/backends/all'
import type { Check } from '../../daemon/checks/check'
import type { Config } from '../../daemon/config'
import { outerInterfaces } from '../../daemon/exposure/outer'
import { guards } from '../../daemon/guard'
import { formatService, type Service } from '../../protocol/service'
import { Fault, listed } from '../../system/fault'
import type { Saw, Touch } from './place/agent'
import { type Cable, type Ends, plugIn, unplug } from './place/cable'
import { inPlace, type Place } from './place/place'
import { type Counting, countReached, type Reached } from './place/reached'

/*
 * Whether strangers are kept out of what is to open by a knock only: a private network knocks at every such service as any stranger would, and what
 * comes through is counted behind all rules, ports that containers publish too.
 */

const NAME = 'granted services shut'
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

/** What became of a service over a family. */
interface Tried {
  readonly service: Service
  readonly family: Ends['family']
  readonly saw: readonly Saw[]
  /** Null where this machine can't count. */
  readonly reached: Reached | null
}

/**
 * Tries from a private network whether services can be reached without a knock.
 * @param services those that are to open by a knock only
 * @returns a check for each service that is not shut or of which that is not known, and one for all that are
 */
export async function strangerChecks(config: Config, services: readonly Service[]): Promise<Check[]> {
  if (services.length === 0) return [unknown('no key grants a service')]
  if (!backendOf(config).isReal)
    return [unknown(`not tried: with backend = "${config.firewall.backend}" the doors are not in this machine’s firewall`)]
  const tried = services.slice(0, MAX_SERVICES)
  const rest = services.length - tried.length
  const more = rest > 0 ? [unknown(`${rest} more services are not tried: keys grant more than ${MAX_SERVICES}`)] : []
  try {
    const { found, strangers } = await inPlace({}, async (place) => {
      const cable = await plugIn(place, config.firewall.guard)
      try {
        return { found: await tryAll(place, cable, tried), strangers: cable.ends.map((ends) => ends.strangers[0]) }
      } finally {
        await unplug(cable)
      }
    })
    return [...found.flatMap((one) => judge(one, config) ?? []), ...summary(found, strangers), ...more]
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    return [unknown(`cannot be tried: ${error.message}`, error.hint)]
  }
}

const unknown = (evidence: string, remedy?: string): Check => ({
  name: NAME,
  verdict: 'unknown',
  evidence,
  ...(remedy === undefined ? {} : { remedy }),
})

/** Has the place try each service over each family, at the address of the cable and at those that strangers name. */
async function tryAll(place: Place, cable: Cable, services: readonly Service[]): Promise<Tried[]> {
  const counting = await countReached(cable.name, services)
  try {
    const outer = await outerInterfaces()
    const wanted = cable.ends.flatMap(({ family, host, strangers: [from] }) =>
      services.map((service) => ({
        ...{ service, family },
        touches: [host, ...addressesOf(outer, family)].map((address): Touch => ({ ...service, address, from })),
      })),
    )
    const touches = wanted.flatMap((one) => one.touches)
    const saw: Saw[] = []
    for (let i = 0; i < touches.length; i += AT_ONCE)
      saw.push(...(await place.ask('touch', [touches.slice(i, i + AT_ONCE), PATIENCE], PATIENCE)))
    const tried: Tried[] = []
    for (const { service, family, touches: own } of wanted)
      tried.push({ service, family, saw: saw.splice(0, own.length), reached: await reachedOf(counting, family, service) })
    return tried
  } finally {
    await counting?.end()
  }
}

const reachedOf = (counting: Counting | null, family: Ends['family'], service: Service): Promise<Reached | null> =>
  counting ? counting.of(family, service) : Promise.resolve(null)

/** The addresses that strangers name: those of the interfaces by which they come, but for those of a link alone. */
function addressesOf(outer: readonly string[], family: Ends['family']): string[] {
  const all = networkInterfaces()
  return outer
    .flatMap((name) => all[name] ?? [])
    .filter((one) => one.family === family && !one.internal && !/^(fe[89ab]|169\.254\.)/i.test(one.address))
    .slice(0, MAX_ADDRESSES)
    .map(({ address }) => address)
}

/** Whether a service is shut, open or nobody knows. @param tried what became of it over a family */
export function stateOf({ service, saw, reached }: Tried): 'open' | 'shut' | 'unknown' {
  if (saw.includes('open') || (reached && reached.through > 0)) return 'open'
  // Who sends nothing finds nothing out.
  if (reached) return reached.arrived > 0 ? 'shut' : 'unknown'
  return service.protocol === 'tcp' && saw.every((one) => one === 'silence') ? 'shut' : 'unknown'
}

/** The check of a service over a family; null where it is shut. */
function judge(tried: Tried, config: Config): Check | null {
  const { service, family, saw, reached } = tried
  const name = formatService(service)
  const state = stateOf(tried)
  if (state === 'shut') return null
  if (state === 'unknown') {
    const silent = 'nothing has come back, as of many services that are open'
    const came = saw.every((one) => one === 'silence') ? silent : `what has come back is ${listed([...new Set(saw)], NAMED)}`
    const why = reached ? 'no packet of the private network has arrived' : came
    const remedy = reached ? undefined : 'install nft 1.0 or later: then packets that come through are counted'
    return unknown(`cannot tell whether ${name} is shut over ${family}: ${why}`, remedy)
  }
  const how = saw.includes('open')
    ? 'it answers a private network that has no lease'
    : 'packets of a private network that has no lease come through all rules'
  return {
    name: NAME,
    verdict: 'fault',
    evidence: `${name} is open to strangers over ${family}: ${how}`,
    remedy: guards(config.firewall.guard.ports, service)
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
  return [{ name: NAME, verdict: 'ok', evidence: `shut to strangers ${families.join(', ')}: ${how}` }]
}
