import { once } from 'node:events'
import type { Command } from 'commander'
import type { Arrival } from '../../admin/listen/arrivals'
import { type Listened, listen } from '../../admin/listen/listen'
import { type Cidr, formatCidr } from '../../protocol/address'
import { Fault, UsageFault } from '../../system/fault'
import { formatDuration, isoTime, parseLifetime } from '../../system/time'
import { reading, subcommand } from '../options'
import { paint } from '../paint'
import { EXIT, jsonOption, printJson } from '../voice'
import { endingAfter } from './ending'
import { fromOption } from './replay'
import { print, warn } from './voice'

/** Kinds of packets that are shown when they come; the end counts all. */
const MAX_LIVE = 200
/** How long it listens, where nothing else is said. */
const USUAL = '2m'

interface Options {
  from?: Cidr
  for: number
  json?: boolean
}

/** Gives knockturn the command that shows what arrives from somewhere. */
export function addListen(parent: Command): void {
  subcommand(
    parent,
    'listen',
    'show what arrives from an address, port by port, in front of the firewall: what a network lets through',
    'listen --from 203.0.113.7 --for 1m',
  )
    .addOption(fromOption('whose packets are shown'))
    .addOption(
      reading('--for <duration>', 'how long to listen', parseLifetime, 'a duration such as 90s or 2m').default(
        parseLifetime(USUAL),
        USUAL,
      ),
    )
    .addOption(jsonOption())
    .action(run)
}

async function run({ from, for: seconds, json }: Options): Promise<void> {
  if (!from) throw new UsageFault('listen requires --from')
  if (process.getuid?.() !== 0) throw new Fault('only root may do this', { hint: 'run it as root' })
  let shown = 0
  const told = (arrival: Arrival) => {
    if (json || shown++ >= MAX_LIVE) return
    print(`${isoTime(arrival.first)}  ${nameOf(arrival)}`)
  }
  const end = await listen(from, told, warn)
  if (!json) print(paint('dim', `listening for ${formatCidr(from)}, ${formatDuration(seconds)}; Ctrl-C ends it`))
  const { signal } = endingAfter(seconds)
  await once(signal, 'abort')
  const listened = await end()
  if (json) printJson(documentOf(from, listened))
  else showAll(from, listened)
  process.exitCode = listened.arrivals.length > 0 ? EXIT.ok : EXIT.failure
}

const nameOf = ({ source, destination, protocol, port, kind }: Arrival): string =>
  `${source} to ${destination}  ${protocol}${port === null ? '' : ` ${port}`}${kind === 'new' ? '' : ' (of a connection, or an answer)'}`

function showAll(from: Cidr, { arrivals, left }: Listened): void {
  if (arrivals.length === 0) {
    print(`nothing arrived from ${formatCidr(from)}`)
    print(
      'hint: nothing was sent, it came from another address (NAT: look with --from 0.0.0.0/0), or a network on the way drops it',
    )
    return
  }
  print(paint('head', `\narrived from ${formatCidr(from)}:`))
  for (const [protocol, all] of byProtocol(arrivals)) print(`  ${protocol}: ${portsOf(all)}`)
  if (left > 0) warn(`${left} more packets were of kinds for which there was no room`)
}

function byProtocol(arrivals: readonly Arrival[]): Map<string, Arrival[]> {
  const groups = new Map<string, Arrival[]>()
  // A flood may have made a hundred thousand of them: none is copied again for the next.
  for (const arrival of arrivals) {
    const group = groups.get(arrival.protocol)
    if (group) group.push(arrival)
    else groups.set(arrival.protocol, [arrival])
  }
  return groups
}

/** Ports of one protocol, each with how often it came where that was more than once. */
function portsOf(arrivals: readonly Arrival[]): string {
  const counts = new Map<number | null, number>()
  for (const { port, count } of arrivals) counts.set(port, (counts.get(port) ?? 0) + count)
  const ports = [...counts].sort(([a], [b]) => (a ?? 0) - (b ?? 0))
  const named = ports.slice(0, MAX_LIVE).map(([port, count]) => `${port ?? 'packets'}${count > 1 ? ` (${count} times)` : ''}`)
  return `${named.join(', ')}${ports.length > MAX_LIVE ? ` and ${ports.length - MAX_LIVE} more ports: see them with --json` : ''}`
}

function documentOf(from: Cidr, { arrivals, left }: Listened): object {
  return {
    from: formatCidr(from),
    left,
    arrivals: arrivals.map(({ first, last, ...arrival }) => ({ ...arrival, first: isoTime(first), last: isoTime(last) })),
  }
}
