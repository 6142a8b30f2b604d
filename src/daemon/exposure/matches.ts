import { addressBytes } from '../../protocol/address'
import type { Family } from '../iptables/table'
import { ALWAYS, DOUBTFUL, either, LISTED, NEVER, not, SOMETIMES, type Split, whether } from './share'
import {
  FORWARDED,
  MARKED,
  type Match,
  type Option,
  type Range,
  type Stranger,
  type Surroundings,
  type Tells,
  UNTRACKED,
} from './stranger'

/* What the matches of iptables mean for a stranger's first packet. What is not named here is doubtful. */

/** What the options of a match hold for, together. */
type Meaning = (options: readonly Option[], around: Surroundings, tells: Tells) => readonly Match[]
/** What one option holds for, before it is turned round; null where it only says how. */
type OptionMeaning = (args: readonly string[], around: Surroundings, tells: Tells) => Match | null

/**
 * What a match of a rule holds for.
 * @param name its name; none for what stands in front of all matches: addresses, interfaces and the protocol
 * @param tells is given what the match tells apart
 */
export function matchOf(name: string, options: readonly Option[], around: Surroundings, tells: Tells): readonly Match[] {
  return (Object.hasOwn(MEANINGS, name) ? MEANINGS[name] : alike(DOUBTFUL))(options, around, tells)
}

const alike =
  (match: Match): Meaning =>
  () => [match]

/** The meaning of a match whose options must all hold. */
const each =
  (meanings: Readonly<Record<string, OptionMeaning>>): Meaning =>
  (options, around, tells) =>
    options.flatMap(({ name, isNot, args }) => {
      const meaning = Object.hasOwn(meanings, name) ? meanings[name](args, around, tells) : DOUBTFUL
      return meaning === null ? [] : [isNot ? turned(meaning) : meaning]
    })

const turned = (match: Match): Match => (typeof match === 'function' ? (packet, past) => not(match(packet, past)) : not(match))

/** Matches that hold for some packets of each stranger, or at some times: who tries again gets the other answer, too. */
const NOW_AND_THEN = ['limit', 'hashlimit', 'statistic', 'geoip', 'ttl', 'hl', 'tos', 'dscp', 'ecn']

/** A block of so few addresses is meant by whoever wrote the rule: nobody in it is a stranger. */
export const SMALL: Record<Family, bigint> = { iptables: 1n << 24n, ip6tables: 1n << 112n }
const EVERYBODY: Record<Family, bigint> = { iptables: 1n << 32n, ip6tables: 1n << 128n }

const fromRange: OptionMeaning = ([text], { family }, { sources }) => {
  const range = readRange(text, family)
  if (!range) return DOUBTFUL
  const size = range.high - range.low + 1n
  if (size <= SMALL[family]) return NEVER
  if (size === EVERYBODY[family]) return ALWAYS
  sources.push(range)
  return ({ from }) => whether(isIn(from, range))
}

const toRange: OptionMeaning = ([text], { family, addresses }, { destinations }) => {
  const range = readRange(text, family)
  if (!range) return DOUBTFUL
  if (range.high - range.low + 1n === EVERYBODY[family]) return ALWAYS
  if (isNobodys(range, family) || (addresses.length > 0 && !addresses.some((address) => isIn(address, range)))) return NEVER
  destinations.push(range)
  return ({ to }) => (to === null ? DOUBTFUL : whether(isIn(to, range)))
}

const byInterface: OptionMeaning = ([pattern], { interfaces }, tells) => {
  if (pattern === 'lo') return NEVER
  if (pattern === '+') return ALWAYS
  if (interfaces.length > 0 && !interfaces.some((name) => fitsInterface(name, pattern))) return NEVER
  tells.interfaces.push(pattern)
  return ({ by }) => (by === null ? DOUBTFUL : whether(fitsInterface(by, pattern)))
}

/** Whether an interface is meant by a pattern such as `eth0` or `eth+`. */
export function fitsInterface(name: string, pattern: string): boolean {
  return pattern.endsWith('+') ? name.startsWith(pattern.slice(0, -1)) : name === pattern
}

/** By names and numbers; others than ours are none of a stranger's packet to a service. */
export const PROTOCOLS: Record<string, string> = { '6': 'tcp', '17': 'udp' }
const ofProtocol: OptionMeaning = ([name], { services }) => {
  if (name === 'all' || name === '0') return ALWAYS
  const named = PROTOCOLS[name] ?? name
  return services.some(({ protocol }) => protocol === named) ? ({ protocol }) => whether(protocol === named) : NEVER
}

/** To ports such as `22`, `80:90` or `22,80:90`. */
const toPorts: OptionMeaning = ([list], { services }) => {
  const ranges = list.split(',').map((text) => text.split(':').map((end) => (end === '' ? Number.NaN : Number(end))))
  const holds = (port: number) => ranges.some(([low, high = low]) => port >= low && port <= high)
  if (ranges.flat().some(Number.isNaN)) return DOUBTFUL
  return services.some(({ port }) => holds(port)) ? ({ port }) => whether(holds(port)) : NEVER
}

/** Whoever connects takes the port of their own that they like. */
const fromPorts: OptionMeaning = ([list]) => whetherAll(list === '0:65535')
const whetherAll = (isAll: boolean): Split => (isAll ? ALWAYS : SOMETIMES)

const portsOf = { '--dport': toPorts, '--sport': fromPorts, '--dports': toPorts, '--sports': fromPorts }

const ALL_FLAGS = ['FIN', 'SYN', 'RST', 'PSH', 'ACK', 'URG']
/** Flags that a SYN may have, too: Linux takes it all the same, so that a stranger sets them or not. */
const FREE_FLAGS = ['PSH', 'URG']
/** TCP's flags: of a SYN, that one is set, and none of those with which it would begin nothing. */
const withFlags: OptionMeaning = ([mask, flags]) => {
  const [asked, set] = [mask, flags].map((names) => (names === 'ALL' ? ALL_FLAGS : names === 'NONE' ? [] : names.split(',')))
  const isFree = (flag: string) => FREE_FLAGS.includes(flag)
  const isSyn = asked.every((flag) => isFree(flag) || set.includes(flag) === (flag === 'SYN'))
  if (!isSyn || !set.every((flag) => asked.includes(flag))) return NEVER
  return whetherAll(!asked.some(isFree))
}

/** The states of a first packet. */
const inState: OptionMeaning = ([states]) => {
  const [isNew, isUntracked, isSent] = ['NEW', 'UNTRACKED', 'DNAT'].map((state) => states.split(',').includes(state))
  return (_, past) =>
    past & UNTRACKED && isNew !== isUntracked ? DOUBTFUL : whether(isNew || (isSent && (past & FORWARDED) !== 0))
}

/** Nothing has marked a packet that comes from outside but a rule before this one. */
const withMark: OptionMeaning = ([mark]) => {
  const value = Number(mark.split('/')[0])
  return (_, past) => (past & MARKED || Number.isNaN(value) ? DOUBTFUL : whether(value === 0))
}

/** Of these types: a service is reached by an address of our own, and strangers have addresses as everybody has. */
const ofType =
  (own: string): OptionMeaning =>
  ([types]) =>
    whether(types.split(',').includes(own))

const inSet: OptionMeaning = ([, directions]) => (directions?.startsWith('src') ? LISTED : DOUBTFUL)

/** Connections that one has at a time: the first ones must get through for more to be counted. */
const connections =
  (isAbove: boolean): OptionMeaning =>
  ([count]) => {
    if (Number(count) === 0) return whether(isAbove)
    return isAbove ? LISTED : not(LISTED)
  }

const says: OptionMeaning = () => null
const holds: OptionMeaning = () => ALWAYS
const doubted: OptionMeaning = () => DOUBTFUL
/** The dates that iptables prints where none is set. */
const byDate =
  (unset: string): OptionMeaning =>
  ([date]) =>
    date === unset ? null : DOUBTFUL

const MEANINGS: Readonly<Record<string, Meaning>> = {
  '': each({
    '-s': fromRange,
    '-d': toRange,
    '-i': byInterface,
    // What comes in has no interface to go out by.
    '-o': () => NEVER,
    '-p': ofProtocol,
    '-f': () => NEVER,
  }),
  comment: alike(ALWAYS),
  nfacct: alike(ALWAYS),
  ...Object.fromEntries(NOW_AND_THEN.map((name) => [name, alike(SOMETIMES)])),
  // A first datagram may be of any length, a SYN may not.
  length: alike(({ protocol }: Stranger) => (protocol === 'udp' ? SOMETIMES : DOUBTFUL)),
  tcp: each({ ...portsOf, '--tcp-flags': withFlags, '--syn': holds }),
  udp: each(portsOf),
  multiport: each({ ...portsOf, '--ports': (args, around, tells) => eitherOf(toPorts(args, around, tells), SOMETIMES) }),
  conntrack: each({ '--ctstate': inState, '--ctdir': ([way]) => whether(way === 'ORIGINAL') }),
  state: each({ '--state': inState }),
  addrtype: each({ '--dst-type': ofType('LOCAL'), '--src-type': ofType('UNICAST') }),
  pkttype: each({ '--pkt-type': ([type]) => whether(type === 'unicast') }),
  policy: each({ '--dir': ([way]) => whether(way === 'in'), '--pol': ([pol]) => whether(pol === 'none'), '--strict': says }),
  rpfilter: (options) => [whether(!options.some(({ name }) => name === '--invert'))],
  iprange: each({ '--src-range': fromRange, '--dst-range': toRange }),
  connlimit: each({
    '--connlimit-above': connections(true),
    '--connlimit-upto': connections(false),
    '--connlimit-mask': says,
    '--connlimit-saddr': says,
    '--connlimit-daddr': says,
  }),
  time: (options, around, tells) => [
    SOMETIMES,
    ...each({
      '--datestart': byDate('1970-01-01T00:00:00'),
      '--datestop': byDate('2038-01-19T03:14:07'),
      '--timestart': says,
      '--timestop': says,
      '--monthdays': says,
      '--weekdays': says,
      '--kerneltz': says,
      '--contiguous': says,
    })(options, around, tells),
  ],
  recent: each({
    '--set': holds,
    '--rcheck': () => LISTED,
    '--update': () => LISTED,
    '--remove': () => LISTED,
    ...Object.fromEntries(
      ['--seconds', '--reap', '--hitcount', '--rttl', '--name', '--mask', '--rsource'].map((name) => [name, says]),
    ),
    // Then it is a list of our own addresses.
    '--rdest': doubted,
  }),
  set: each({ '--match-set': inSet, '--return-nomatch': says }),
  mark: each({ '--mark': withMark }),
  connmark: each({ '--mark': withMark }),
}

function eitherOf(match: Match | null, other: Split): Match {
  if (match === null) return other
  return typeof match === 'function' ? (packet, past) => either(match(packet, past), other) : either(match, other)
}

/** Whether an address lies in a range. */
export const isIn = (address: bigint, { low, high }: Range): boolean => address >= low && address <= high

/** A range as `a/bits`, `a/mask` or `a-b`. @returns null where it is none, such as a mask with holes */
export function readRange(text: string, family: Family): Range | null {
  const [first, last] = text.split('-')
  if (last !== undefined) {
    const [low, high] = [toNumber(first), toNumber(last)]
    return low === null || high === null ? null : { low, high }
  }
  const [address, prefix] = text.split('/')
  const low = toNumber(address)
  const width = family === 'iptables' ? 32 : 128
  const bits = prefix === undefined ? width : Number(prefix)
  if (low === null || !Number.isInteger(bits)) return null
  return { low, high: low + (1n << BigInt(width - bits)) - 1n }
}

/** An address as a number; null where it is none. */
export function toNumber(address: string): bigint | null {
  const bytes = addressBytes(address)
  return bytes && BigInt(`0x${Buffer.from(bytes).toString('hex')}`)
}

/** Blocks that no stranger's packet can go to, or come from: loopback, one's own link, groups, and nobody's. */
const UNREACHABLE: Record<Family, readonly string[]> = {
  iptables: ['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/3'],
  ip6tables: ['::/127', 'fe80::/10', 'ff00::/8'],
}
const PRIVATE: Record<Family, readonly string[]> = { iptables: ['10.0.0.0/8'], ip6tables: ['::/3', '4000::/2', '8000::/1'] }
const rangesOf = (blocks: Record<Family, readonly string[]>, family: Family): Range[] =>
  blocks[family].flatMap((block) => readRange(block, family) ?? [])

/** Whether a range holds no address that strangers can name. */
function isNobodys({ low, high }: Range, family: Family): boolean {
  return rangesOf(UNREACHABLE, family).some((block) => low >= block.low && high <= block.high)
}

/** Whether strangers can send to an address, as one of this machine's own. */
export const isReachable = (address: bigint, family: Family): boolean => !isNobodys({ low: address, high: address }, family)

/** Addresses of which each stands for strangers that no rule tells apart: one on each side of each end of a block. */
export function sourcesApart(ranges: readonly Range[], family: Family): bigint[] {
  const closed = [...rangesOf(UNREACHABLE, family), ...rangesOf(PRIVATE, family)]
  const candidates = [...closed, ...ranges].flatMap(({ low, high }) => [low, high + 1n])
  const isOpen = (address: bigint) => address < EVERYBODY[family] && !closed.some((range) => isIn(address, range))
  return apart(candidates.filter(isOpen), ranges, isIn)
}

/** One for each way in which some tests come out. */
export function apart<T, U>(candidates: readonly T[], tests: readonly U[], test: (candidate: T, by: U) => boolean): T[] {
  const found = new Map(candidates.map((candidate) => [tests.map((by) => Number(test(candidate, by))).join(''), candidate]))
  return [...found.values()]
}
