import { formatService, type Service } from '../../protocol/service'
import { hasCommand } from '../../system/commands'
import { Fault } from '../../system/fault'
import { type Guard, guards } from '../guard'
import { FAMILIES, type Family, keepsByNft } from '../iptables/table'
import { TABLE } from '../nftables/elements'
import type { Judgment, Why } from './judge'
import { failureOf, leftUnjudged, MAX_SERVICES, type Read, readAll, readJudge } from './look'
import { type Effect, effectsOf, type Ruleset } from './nft-tables'
import { outerInterfaces, reachableAddresses } from './outer'
import { sparedStrangers } from './spared'
import type { Surroundings } from './stranger'
import { commands, type Exposure, overNamed, reasonOf } from './text'

/*
 * Whether leases in our table do what they say. It only drops, and an accept there overrides no drop elsewhere: what another firewall drops stays
 * shut under a lease, too.
 */

/** What keeps packets from a service in a family, or may. */
interface Obstacle {
  readonly service: Service
  readonly family: Family
  readonly isSure: boolean
  readonly text: string
  /** What lets a lease open it, in these families. */
  readonly remedy: (families: readonly Family[]) => string
}

/** What is asked, as a message says it. */
const WHAT = 'whether leases open the services'

/**
 * Looks which services that are to open by a knock only are not guarded or spared by the guard, and which of the others no lease opens. What can't be looked at is said
 * as unknown.
 * @param isInPlace whether the kernel has all of the guard
 */
export async function lookForBlocked(
  services: readonly Service[],
  guard: Pick<Guard, 'ports' | 'interfaces' | 'blocks'>,
  isInPlace: () => Promise<boolean>,
): Promise<Exposure> {
  const judged = services.slice(0, MAX_SERVICES)
  const guarded = judged.filter((service) => guards(guard.ports, service))
  const open = judged.filter((service) => !guards(guard.ports, service)).map((service) => notGuarded(formatService(service)))
  if (guarded.length === 0) return { open, shut: [], unknown: leftUnjudged(services) }
  const isAbsent = !(await isInPlace().catch(notKnown))
  const interfaces = await outerInterfaces()
  const { shut, unknown } = await lookAtAll(guarded, interfaces, isAbsent)
  return {
    open: [...(isAbsent ? [NOT_IN_PLACE] : []), ...open, ...sparedStrangers(guard, interfaces)],
    shut,
    unknown: [...unknown, ...leftUnjudged(services)],
  }
}

/** Where the guard can't be read, no other table can be either, which is said of those. */
function notKnown(error: unknown): boolean {
  if (error instanceof Fault || error instanceof SyntaxError) return true
  throw error
}

const NOT_IN_PLACE = new Fault("the guard is not in place: nothing of Knockturn's keeps anybody from the guarded ports", {
  hint: 'run "knockturn firewall install": it closes them to new connections, and leaves those that exist',
})

const notGuarded = (service: string): Fault =>
  new Fault(`${service} is not guarded: Knockturn keeps nobody from it`, {
    hint: `add "${service}" to guard in [firewall]`,
  })

/**
 * @param interfaces those by which strangers come
 * @param isAbsent whether the guard has to be put in place before anything is let through
 */
async function lookAtAll(
  services: readonly Service[],
  interfaces: readonly string[],
  isAbsent: boolean,
): Promise<Omit<Exposure, 'open'>> {
  const failures: string[] = []
  const obstacles: Obstacle[] = []
  const attempt = async <T>(family: Family | null, look: () => Promise<T>): Promise<T | null> => {
    try {
      return await look()
    } catch (error) {
      if (!(error instanceof Fault) && !(error instanceof SyntaxError)) throw error
      failures.push(failureOf(error, family, WHAT))
      return null
    }
  }
  const ruleset = await attempt(null, readAll)
  // Where iptables is not installed, nft shows all that there is.
  const isInstalled = await hasCommand('iptables')
  const isNft = isInstalled && (await keepsByNft('iptables'))
  for (const family of FAMILIES) {
    const addresses = reachableAddresses(family)
    if (addresses === null) continue
    const around = { family, interfaces, addresses, services }
    const rules = isInstalled ? await attempt(family, () => readJudge(around, isNft, false)) : null
    obstacles.push(...(await obstaclesTo(around, ruleset, isNft, rules)))
  }
  const { shut, unknown } = inWords(obstacles, isAbsent)
  return { shut, unknown: [...new Set(failures), ...unknown] }
}

/**
 * @param ruleset null where it can't be read
 * @param rules of iptables; null where they can't be read, or it is not installed
 */
async function obstaclesTo(
  around: Surroundings,
  ruleset: Ruleset | null,
  isNft: boolean,
  rules: Read | null,
): Promise<Obstacle[]> {
  const { family } = around
  const found: Obstacle[] = []
  for (const service of around.services) {
    // Between two services others get their turn: a daemon must not be held up.
    await new Promise(setImmediate)
    const effects = ruleset ? effectsOf(ruleset, { ...around, service }, isNft).filter(({ table }) => table !== TABLE) : []
    const judgment = rules?.judge(service)
    // What is forwarded never meets the chains of this machine's own services.
    const isForwarded = judgment?.why.kind === 'forwarded' || effects.some(({ forwards }) => forwards)
    const own = [
      ...(rules && judgment ? byIptables(service, family, judgment, rules) : []),
      ...effects.map((effect) => byNft(service, family, effect)),
    ]
    found.push(...own.map((one) => ({ ...one, isSure: one.isSure && !isForwarded })))
  }
  return found
}

function byIptables(service: Service, family: Family, { state, why }: Judgment, { filter, unread, legacy }: Read): Obstacle[] {
  const isUfw = filter.chains.some((chain) => chain.startsWith('ufw-'))
  const of = (isSure: boolean, text: string) => ({
    ...{ service, family, isSure, text },
    remedy: (families: readonly Family[]) => (isUfw ? `"ufw allow ${formatService(service)}"` : letIn(service, why, families)),
  })
  return [
    ...(state === 'shut' ? [of(true, `iptables drops it: ${whyShut(why)}`)] : []),
    ...(state === 'unknown' ? [of(false, reasonOf(why, family))] : []),
    ...(unread !== null ? [of(false, unread)] : []),
    ...(legacy.length > 0 ? [of(false, `table ${legacy.join(' and ')} of iptables-legacy may drop it`)] : []),
  ]
}

/** What of iptables drops the last of a service's packets. */
function whyShut(why: Why): string {
  if (why.kind === 'rule') return `this rule, and none before it accepts: ${why.line}`
  if (why.kind === 'policy') return `the policy of ${why.stage.split(' ')[1]} is DROP, and no rule accepts it`
  return 'no rule accepts it'
}

function letIn({ port, protocol }: Service, why: Why, families: readonly Family[]): string {
  const [table, base] = 'stage' in why ? why.stage.split(' ') : ['filter', 'INPUT']
  const where = table === 'filter' ? '' : `-t ${table} `
  return commands(families, `${where}-I ${base} -p ${protocol} --dport ${port} -j ACCEPT`)
}

function byNft(service: Service, family: Family, { table, chain, drops, forwards }: Effect): Obstacle {
  const does = drops === 'all' ? 'drops' : forwards ? 'may forward' : 'may drop'
  return {
    ...{ service, family, isSure: drops === 'all', text: `table ${table} of nft ${does} it in chain ${chain}` },
    remedy: () => letInByNft(service, table, chain),
  }
}

function letInByNft(service: Service, table: string, chain: string): string {
  if (table.endsWith(' firewalld'))
    return `"firewall-cmd --permanent --add-port=${formatService(service)}" and "firewall-cmd --reload"`
  const rule = `"nft insert rule ${table} ${chain} ${service.protocol} dport ${service.port} accept"`
  return `${rule}, and keep it in the file of that table`
}

/** Says what was found: one line for both families where they are alike. */
function inWords(obstacles: readonly Obstacle[], isAbsent: boolean): Omit<Exposure, 'open'> {
  const groups = new Map<string, Obstacle[]>()
  for (const obstacle of obstacles) {
    const name = JSON.stringify([formatService(obstacle.service), obstacle.isSure, obstacle.text])
    groups.set(name, [...(groups.get(name) ?? []), obstacle])
  }
  const shut: Fault[] = []
  const unknown: string[] = []
  for (const same of groups.values()) {
    const [{ service, isSure, text, remedy }] = same
    const families = same.map(({ family }) => family)
    const what = `${formatService(service)} ${overNamed(families)}`
    if (!isSure) unknown.push(`cannot tell whether a lease opens ${what}: ${text}`)
    else
      shut.push(
        new Fault(`no lease opens ${what}: ${text}`, {
          hint: `${isAbsent ? 'when the guard is in place, ' : ''}run ${remedy(families)}: the guard keeps strangers out`,
        }),
      )
  }
  return { shut, unknown }
}
