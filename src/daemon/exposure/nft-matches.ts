import type { Service } from '../../protocol/service'
import { fitsInterface, isIn, PROTOCOLS, readRange, SMALL } from './matches'
import { ALWAYS, both, DOUBTFUL, either, LISTED, NEVER, not, SOMETIMES, type Split, whether } from './share'
import type { Surroundings } from './stranger'

/* What the expressions of nft's rules, as its JSON has them, mean for a stranger's first packet. What is not named here is doubtful. */

/** What is known of the packet, and where it comes to. */
export interface FirstPacket extends Pick<Surroundings, 'family' | 'interfaces' | 'addresses'> {
  readonly service: Service
}

/** The packet as a chain meets it. */
export interface MetPacket extends FirstPacket {
  /** Whether conntrack has seen it by then. */
  readonly isTracked: boolean
}

/** Headers of an address family and of ports: what looks into another's is for none of our packets. */
const OF_FAMILY = { iptables: 'ip', ip6tables: 'ip6' } as const
const OTHERS = ['icmp', 'icmpv6', 'igmp', 'arp', 'esp', 'ah', 'comp', 'sctp', 'dccp', 'udplite']
/** What only notes something, or changes what no port or address depends on. */
const GO_ON = [
  'counter',
  'log',
  'mangle',
  'notrack',
  'ct helper',
  'ct timeout',
  'ct expectation',
  'flow',
  'dup',
  'secmark',
  'last',
]
/** Flags of a TCP header; a first packet has one. */
const SYN = 'syn'

/** What an expression asks of a packet before the rule goes on; null where it asks nothing and decides. */
export function conditionOf(expression: unknown, packet: MetPacket): Split | null {
  const match = part(expression, 'match')
  if (match !== undefined) return matchOf(match, packet)
  if (['limit', 'quota'].some((name) => has(expression, name)))
    return bounded(part(expression, 'limit') ?? part(expression, 'quota'))
  if (has(expression, 'ct count')) return bounded(part(expression, 'ct count'))
  const kept = part(expression, 'set') ?? part(expression, 'meter')
  if (kept !== undefined)
    return listOf(part(kept, 'stmt')).reduce<Split>((sum, one) => both(sum, conditionOf(one, packet) ?? DOUBTFUL), ALWAYS)
  if (GO_ON.some((name) => has(expression, name))) return ALWAYS
  return DECIDING.some((name) => has(expression, name)) ? null : DOUBTFUL
}

/** Statements that end the way of a packet, or lead it on. */
const DECIDING = [
  ...['accept', 'continue', 'drop', 'reject', 'return', 'jump', 'goto', 'vmap'],
  ...['queue', 'synproxy', 'xt', 'dnat', 'redirect', 'tproxy', 'fwd', 'snat', 'masquerade'],
]

/** Who is above a limit was not before; below it one is at some times. */
const bounded = (limit: unknown): Split => (part(limit, 'inv') === true ? NEVER : SOMETIMES)

function matchOf(match: unknown, packet: MetPacket): Split {
  const [op, left, right] = [part(match, 'op'), part(match, 'left'), part(match, 'right')]
  if (!looksIntoOurs(left, packet)) return NEVER
  if (typeof op === 'string' && Object.hasOwn(COMPARE, op) && fieldOf(left) === 'dport' && typeof right === 'number')
    return whether(COMPARE[op](packet.service.port, right))
  const flags = flagsOf(left, op, right)
  if (flags) return flags
  // By "!" nft prints that none of several flags is set.
  if (op === '!=' || op === '!') return not(isAny(left, right, packet))
  return op === '==' || op === 'in' ? isAny(left, right, packet) : DOUBTFUL
}

const COMPARE: Readonly<Record<string, (port: number, than: number) => boolean>> = {
  '<': (port, than) => port < than,
  '<=': (port, than) => port <= than,
  '>': (port, than) => port > than,
  '>=': (port, than) => port >= than,
}

/** Whether an expression looks at what our packet has, headers or a connection: else its rule holds for none of ours, whatever it compares with. */
function looksIntoOurs(left: unknown, { service, family, isTracked }: MetPacket): boolean {
  return partsOf(left).every((one) => {
    const header = part(part(one, 'payload'), 'protocol')
    if (header === 'tcp' || header === 'udp') return header === service.protocol
    if (header === 'ip' || header === 'ip6') return header === OF_FAMILY[family]
    const conntrack = part(part(one, 'ct'), 'key')
    if (conntrack !== undefined && conntrack !== 'state' && !isTracked) return false
    return !OTHERS.includes(String(header))
  })
}

/** What TCP's flags are compared with: of a packet that has SYN alone. Null where it is something else. */
function flagsOf(left: unknown, op: unknown, right: unknown): Split | null {
  const [asked, mask] = has(left, '&') ? listOf(part(left, '&')) : [left, undefined]
  if (fieldOf(asked) !== 'flags' || part(part(asked, 'payload'), 'protocol') !== 'tcp') return null
  if (has(right, 'set')) return DOUBTFUL
  const names = (value: unknown) => listOf(part(value, '|') ?? value).map(String)
  const wanted = names(right)
  if (op === 'in' || op === '!') return whether(wanted.includes(SYN) === (op === 'in'))
  const seen = mask === undefined || names(mask).includes(SYN) ? [SYN] : []
  const none = wanted.length === 1 && wanted[0] === '0'
  const isSame = none ? seen.length === 0 : wanted.length === seen.length && wanted.every((flag) => seen.includes(flag))
  if (op === '==') return whether(isSame)
  return op === '!=' ? whether(!isSame) : DOUBTFUL
}

/** Whether what is asked is one of some values. */
function isAny(left: unknown, right: unknown, packet: MetPacket): Split {
  return valuesOf(right).reduce<Split>((sum, value) => either(sum, isEqual(left, value, packet)), NEVER)
}

/** What a key of a map holds for. */
export function isEqual(left: unknown, value: unknown, packet: MetPacket): Split {
  const element = part(part(value, 'elem'), 'val') ?? value
  // The elements of a named set are not printed: lists of addresses may be long.
  if (typeof element === 'string' && element.startsWith('@')) return isSource(left) ? LISTED : DOUBTFUL
  const [asked, given] = [part(left, 'concat'), part(element, 'concat')]
  if (Array.isArray(asked))
    return Array.isArray(given)
      ? asked.reduce<Split>(
          (sum, one, i) => both(sum, isEqual(one, given[i], packet)),
          looksIntoOurs(left, packet) ? ALWAYS : NEVER,
        )
      : DOUBTFUL
  if (!looksIntoOurs(left, packet)) return NEVER
  const header = part(part(left, 'payload'), 'protocol')
  const meta = part(part(left, 'meta'), 'key')
  const conntrack = part(part(left, 'ct'), 'key')
  switch (fieldOf(left)) {
    case 'saddr':
      return header === 'ether' ? LISTED : fromBlock(element, packet)
    case 'daddr':
      return header === 'ether' ? DOUBTFUL : toBlock(element, packet)
    case 'dport':
      return isPort(element, packet.service.port)
    case 'sport':
      return SOMETIMES
    case 'protocol':
    case 'nexthdr':
      return isProtocol(element, packet.service.protocol)
  }
  if (meta === 'l4proto') return isProtocol(element, packet.service.protocol)
  if (meta === 'nfproto') return isName(element, packet.family === 'iptables' ? 'ipv4' : 'ipv6')
  if (meta === 'protocol') return isName(element, OF_FAMILY[packet.family])
  if (meta === 'pkttype') return whether(element === 'host' || element === 'unicast')
  if (meta === 'iifname' || meta === 'iif') return byInterface(element, packet)
  if (conntrack === 'state') return isName(element, packet.isTracked ? 'new' : 'invalid')
  if (conntrack === 'direction') return isName(element, 'original')
  if (conntrack === 'status') return whether(false)
  return byRoute(part(left, 'fib'), element)
}

const isName = (value: unknown, name: string): Split => (typeof value === 'string' ? whether(value === name) : DOUBTFUL)

/** By its number where there is no /etc/protocols. */
const isProtocol = (value: unknown, name: string): Split =>
  isName(typeof value === 'number' ? (PROTOCOLS[value] ?? `${value}`) : value, name)

function isPort(value: unknown, port: number): Split {
  const range = part(value, 'range')
  if (Array.isArray(range)) return whether(port >= Number(range[0]) && port <= Number(range[1]))
  return typeof value === 'number' ? whether(value === port) : DOUBTFUL
}

/** By an interface other than lo: by any of those that lead outside, or by none; else nobody knows. */
function byInterface(value: unknown, { interfaces }: MetPacket): Split {
  if (typeof value !== 'string') return DOUBTFUL
  if (value === 'lo') return NEVER
  const fitting = interfaces.filter((name) => fitsInterface(name, value.replace(/\*$/, '+')))
  if (interfaces.length === 0 || (fitting.length > 0 && fitting.length < interfaces.length)) return DOUBTFUL
  return whether(fitting.length > 0)
}

/** From an address: whoever is named by a small block is no stranger, and a large one holds some of them. */
function fromBlock(value: unknown, { family }: MetPacket): Split {
  const range = blockOf(value, family)
  if (!range) return DOUBTFUL
  return range.high - range.low + 1n <= SMALL[family] ? NEVER : SOMETIMES
}

function toBlock(value: unknown, { family, addresses }: MetPacket): Split {
  const range = blockOf(value, family)
  if (!range || addresses.length === 0) return DOUBTFUL
  const within = addresses.filter((address) => isIn(address, range))
  return within.length > 0 && within.length < addresses.length ? DOUBTFUL : whether(within.length > 0)
}

function blockOf(value: unknown, family: FirstPacket['family']) {
  const [prefix, range] = [part(value, 'prefix'), part(value, 'range')]
  if (prefix !== undefined) return readRange(`${part(prefix, 'addr')}/${part(prefix, 'len')}`, family)
  if (Array.isArray(range)) return readRange(range.join('-'), family)
  return typeof value === 'string' ? readRange(value, family) : null
}

/** A stranger has an address that a route leads back to, and sends to one of ours. */
function byRoute(fib: unknown, value: unknown): Split {
  const [result, flags] = [part(fib, 'result'), listOf(part(fib, 'flags'))]
  if (flags.includes('saddr') && result !== 'type') return whether(value !== false && value !== 0)
  if (flags.includes('daddr') && result === 'type') return whether(value === 'local')
  return DOUBTFUL
}

/** An address that a packet comes from: who is named by it is no stranger. */
export const isSource = (left: unknown): boolean => partsOf(left).some((one) => fieldOf(one) === 'saddr')

const partsOf = (left: unknown): unknown[] => listOf(part(left, 'concat') ?? part(left, '&') ?? left)
const fieldOf = (left: unknown): unknown => part(part(left, 'payload'), 'field')
/** nft 1.1 has an alternative of flags in an object of its own. */
const valuesOf = (right: unknown): unknown[] => listOf(part(right, 'set') ?? part(right, '|') ?? right)

/** Whether what was read from JSON is an object with such a part. */
export const has = (item: unknown, name: string): boolean =>
  item !== null && typeof item === 'object' && Object.hasOwn(item, name)
/** A part of what was read from JSON; undefined where there is none. */
export const part = (item: unknown, name: string): unknown =>
  has(item, name) ? (item as Record<string, unknown>)[name] : undefined
/** What JSON has as one or several: a list of all, empty where there is none. */
export const listOf = (item: unknown): unknown[] => (item === undefined ? [] : Array.isArray(item) ? item : [item])
