import { type NetworkInterfaceInfo, networkInterfaces } from 'node:os'
import type { Ports } from '../../protocol/ports'
import { CommandFault, feed, run } from '../../system/commands'
import { Fault, reason } from '../../system/fault'

/** Our chains. Nothing else of the administrator's is touched but for two jumps in INPUT. */
export const MAIN = 'KNOCKTURN'
export const LEASES = 'KNOCKTURN-LEASES'
export const TAPS = 'KNOCKTURN-TAPS'
/** What a lease lets in is marked and accepted here. */
export const ADMIT = 'KNOCKTURN-ADMIT'
/** Connections that a lease let in and that begin once more. */
export const AGAIN = 'KNOCKTURN-AGAIN'
export const CHAINS = [MAIN, LEASES, TAPS, ADMIT, AGAIN]
/** A chain that nothing jumps to, for trying what the kernel can. */
export const CHECK = 'KNOCKTURN-CHECK'
/** All chains that may be of our making. */
export const ALL_OURS = [...CHAINS, CHECK]

/**
 * The label of a connection that a lease let in: a bit of 128 that conntrack keeps for whoever wants one, and nearly nobody does. Unlike a
 * connmark, nothing copies it into routing.
 */
const LABEL = '117'
export const MARKED = `-m connlabel --label ${LABEL}`

/** Our jumps in INPUT: that to the chain of all, and what a connection that a lease let in must pass when it begins once more. */
export const MAIN_JUMP = `-A INPUT -j ${MAIN}`
export const AGAIN_JUMP = `-A INPUT ! -i lo -p tcp -m tcp --syn -m conntrack ! --ctstate NEW ${MARKED} -j ${AGAIN}`

/** Seconds to wait for another program that holds the firewall's lock. */
export const LOCK_WAIT = '5'
/** iptables' exit code for an argument that names nothing that there is. */
const NO_SUCH = 2

/** Exit codes by which iptables-restore says that it has changed nothing because of what it was given; others are of its own troubles. */
const REFUSALS: readonly unknown[] = [1, 2]
/** What it says, with any exit code, when the kernel has refused a part of a change, and so all of it: "RULE_APPEND failed (Invalid argument)". */
const KERNEL_REFUSAL = / [A-Z]+(_[A-Z]+)+ failed \(/

/** See Table.maxRemoved. */
export const MAX_REMOVED = 16

export const FAMILIES = ['iptables', 'ip6tables'] as const
export type Family = (typeof FAMILIES)[number]
/** What people call the packets that a family is for. */
export const IP_NAMES: Readonly<Record<Family, string>> = { iptables: 'IPv4', ip6tables: 'IPv6' }

/** Which program keeps the rules of an address. */
export function familyOf(address: string): Family {
  return address.includes(':') ? 'ip6tables' : 'iptables'
}

/** Runs iptables or ip6tables: on the filter table, unless the arguments name another one. */
export function iptables(family: Family, args: readonly string[]): Promise<string> {
  return run(family, ['-w', LOCK_WAIT, ...args])
}

/** Whether a family's tables are kept by nf_tables, so that nft shows them and what becomes of them; not where its program is not installed. */
export async function keepsByNft(family: Family): Promise<boolean> {
  return (await run(family, ['--version']).catch(() => '')).includes('(nf_tables)')
}

/** The filter table of one family, as far as it could be read. */
export interface FilterTable {
  readonly family: Family
  readonly chains: readonly string[]
  /** What becomes of packets that no rule of a built-in chain decides on, by its name; none where that is not known. */
  readonly policies: ReadonlyMap<string, string>
  /** The rules of each chain, as `iptables -S` prints them; those of a chain without any may be missing. */
  readonly rules: ReadonlyMap<string, readonly string[]>
  /** Whether all chains are in `rules`: else they are only ours, INPUT where it can be read, and what {@link readReached} has added. */
  readonly isWhole: boolean
  readonly input: readonly string[]
  /** The rules of our own chains. */
  readonly main: readonly string[]
  readonly leases: readonly string[]
  readonly taps: readonly string[]
  readonly admit: readonly string[]
  readonly again: readonly string[]
  /** Packets and bytes of the rules of leases, in their order, as iptables-restore takes them. */
  readonly counters: readonly string[]
}

/**
 * Reads the filter tables of the families that this machine has.
 * @param warn told of a family that it has not, and of what can't be read of a table
 * @param instead what to do about a table that can't be read; unless it is given, the error is thrown
 * @throws {Fault} where one can't be read, and nothing is changed anywhere
 */
export async function readTables(
  warn: (message: string) => void,
  instead?: (family: Family, error: unknown) => FilterTable | null,
): Promise<FilterTable[]> {
  const found = await eachFamily(readTable, warn, instead)
  for (const table of found) if (!table.isWhole) warn(await partlyRead(table))
  return found
}

/** Reads a table of each family that this machine has. @param warn and `instead` as of {@link readTables}, and so are faults */
export async function eachFamily(
  read: (family: Family) => Promise<FilterTable>,
  warn: (message: string) => void,
  instead?: (family: Family, error: unknown) => FilterTable | null,
): Promise<FilterTable[]> {
  const tables = FAMILIES.map((family) =>
    read(family).catch((error) => {
      if (family === 'ip6tables' && !hasIpv6()) warn(`this machine has no IPv6: ip6tables is not used (${reason(error)})`)
      else if (instead) return instead(family, error)
      else throw error
      return null
    }),
  )
  return (await Promise.all(tables)).filter((table) => table !== null)
}

/** The addresses of interfaces that are up; libuv asks for them by netlink, which the unit allows. */
export function interfaceAddresses(): NetworkInterfaceInfo[] {
  return Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? [])
}

/** An address of an interface, ::1 at the least, is there wherever packets by IPv6 are. */
function hasIpv6(): boolean {
  return interfaceAddresses().some(({ family }) => family === 'IPv6')
}

/**
 * Reads the filter table of a family. Where it holds a rule that iptables can't read, as nft can make it, what concerns us is read chain by
 * chain.
 * @throws {Fault} where that can't be read either
 */
export async function readTable(family: Family): Promise<FilterTable> {
  try {
    return parseTable(family, await iptables(family, ['-v', '-S']))
  } catch (error) {
    if (!isIncompatible(error)) throw error
    return readOurs(family)
  }
}

const isIncompatible = (error: unknown): boolean => error instanceof CommandFault && error.message.includes('is incompatible')

async function readOurs(family: Family): Promise<FilterTable> {
  const input = await iptables(family, ['-v', '-S', 'INPUT']).catch(async (error) => {
    if (!isIncompatible(error)) throw error
    // Our jumps can be asked for by name.
    const jumps = await Promise.all([MAIN_JUMP, AGAIN_JUMP].map(async (jump) => ((await has(family, jump)) ? [jump] : [])))
    return jumps.flat().join('\n')
  })
  const ours = await Promise.all(ALL_OURS.map((chain) => readChain(family, chain)))
  const unread = ALL_OURS.filter((_, i) => ours[i] === null)
  if (unread.length > 0) {
    const [chain] = unread
    throw new Fault(`${family}: ${unreadable(chain)}`, { hint: `${lookAt(family, chain)} and delete that rule` })
  }
  return parseTable(family, [input, ...ours].join('\n'), false)
}

/**
 * Adds to a table that was read in part the chains that INPUT leads to, as far as they can be read.
 * @returns the table, whole as far as INPUT is concerned, but for chains that can't be read: they are in `chains` and not in `rules`
 */
export async function readReached(table: FilterTable): Promise<FilterTable> {
  if (table.isWhole) return table
  const { family } = table
  const chains = new Set(table.chains)
  const rules = new Map(table.rules)
  const ahead = [...rules.values()].flat()
  for (let rule = ahead.pop(); rule !== undefined; rule = ahead.pop()) {
    const chain = targetOf(rule)
    if (chain === null || chains.has(chain) || chains.size >= MAX_CHAINS) continue
    const text = await readChain(family, chain)
    // A target such as ACCEPT is none.
    if (text === '') continue
    chains.add(chain)
    if (text === null) continue
    const own = parseTable(family, text).rules.get(chain) ?? []
    rules.set(chain, own)
    ahead.push(...own)
  }
  return { ...table, chains: [...chains], rules }
}

/** Chains that are read one by one: each is a process. */
const MAX_CHAINS = 100

/** A chain as `iptables -v -S` prints it; nothing where there is none, and null where there is one that can't be read. */
async function readChain(family: Family, chain: string): Promise<string | null> {
  const read = () =>
    iptables(family, ['-v', '-S', chain]).catch((error) => {
      if (isIncompatible(error)) return null
      throw error
    })
  const text = await read()
  if (text !== null) return text
  // It is called that also where there is none. One that has been made in between is read.
  return (await has(family, `-A INPUT -j ${chain}`)) === null ? '' : read()
}

/** Whether there is a rule; null where the chain that it jumps to does not exist. */
async function has(family: Family, rule: string): Promise<boolean | null> {
  return iptables(family, rule.replace('-A', '-C').split(' ')).then(
    () => true,
    (error) => {
      if (!(error instanceof CommandFault) || error.exitCode === undefined) throw error
      return error.exitCode === NO_SUCH ? null : false
    },
  )
}

/** Says of a table that was read in part which rule is to blame, as far as that can be known, and what is done about it. */
export async function partlyRead({ family, chains }: FilterTable): Promise<string> {
  const inTurn = [...new Set(['FORWARD', 'OUTPUT', 'INPUT', ...chains])]
  const texts = await Promise.all(inTurn.map((chain) => readChain(family, chain).catch(() => null)))
  const unread = inTurn.find((_, i) => texts[i] === null)
  const where = unread
    ? cannotRead(family, unread)
    : `iptables cannot read a rule of the table: look at it with "nft -a list table ${nftTable(family)}"`
  return `${family}: ${where} and move that rule to a table of its own; only the chains that matter here are read`
}

/** The table as nft names it. */
export const nftTable = (family: Family): string => (family === 'iptables' ? 'ip filter' : 'ip6 filter')

/** What there is to say of a chain that iptables can't read, and to do about it. */
export function cannotRead(family: Family, chain: string): string {
  return `${unreadable(chain)}: ${lookAt(family, chain)}`
}

const unreadable = (chain: string): string => `iptables cannot read a rule in chain ${chain}`
const lookAt = (family: Family, chain: string): string => `look at it with "nft -a list chain ${nftTable(family)} ${chain}"`

/** Reads what `iptables -v -S` prints; nothing is an empty table. */
export function parseTable(family: Family, text: string, isWhole = true): FilterTable {
  const rows = text.split('\n').map((row) => {
    const [, before = row, counters = '0 0', after = ''] = /^(.*) -c (\d+ \d+)( -[jg] .*)?$/.exec(row) ?? []
    return { line: before + after, counters: `[${counters.replace(' ', ':')}]` }
  })
  const rules = new Map<string, string[]>()
  for (const { line } of rows) {
    const [, chain] = /^-A (\S+) /.exec(line) ?? []
    if (!chain) continue
    const own = rules.get(chain)
    if (own) own.push(line)
    else rules.set(chain, [line])
  }
  const rulesOf = (chain: string) => rules.get(chain) ?? []
  return {
    family,
    chains: rows.flatMap(({ line }) => (line.startsWith('-N ') ? line.slice(3) : [])),
    policies: new Map([...text.matchAll(/^-P (\S+) (\S+)/gm)].map(([, chain, policy]) => [chain, policy])),
    rules,
    isWhole,
    input: rulesOf('INPUT'),
    main: rulesOf(MAIN),
    leases: rulesOf(LEASES),
    taps: rulesOf(TAPS),
    admit: rulesOf(ADMIT),
    again: rulesOf(AGAIN),
    counters: rows.flatMap(({ line, counters }) => (line.startsWith(`-A ${LEASES} `) ? counters : [])),
  }
}

/** Lines as a script for {@link restore}. */
export function scriptOf(lines: readonly string[], table = 'filter'): string {
  return [`*${table}`, ...lines, 'COMMIT', ''].join('\n')
}

/** The target of a rule, or the chain that it leads to; null where it has neither. */
export function targetOf(rule: string): string | null {
  return / -[jg] (\S+)/.exec(rule)?.[1] ?? null
}

/** Reads ports as iptables prints them: `22`, or `80:90`. */
export function readPorts(text: string): Ports {
  const [low, high = low] = text.split(':').map(Number)
  return [low, high]
}

/** Applies a script in one step. */
export async function restore(family: Family, script: string): Promise<void> {
  await feed(`${family}-restore`, ['-w', LOCK_WAIT, '--noflush', '--counters'], script)
}

/** Whether {@link restore} has failed because of what it was given, so that nothing is changed and the same would fail again. */
export function isRefusal(error: unknown): error is CommandFault {
  return error instanceof CommandFault && (REFUSALS.includes(error.exitCode) || KERNEL_REFUSAL.test(error.message))
}
