import type { ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { formatService, type Service } from '../../../protocol/service'
import { spawn } from '../../../system/child-process'
import { commandPath, hasCommand, run, WHEREVER } from '../../../system/commands'
import { Fault } from '../../../system/fault'
import type { Ends } from './cable'

/*
 * Which packets come through. An answer says that one has, and silence does not say that none has: many services that speak UDP answer nobody
 * whom they do not know. So packets of one interface are counted where they arrive and behind all rules of all tables. The table that counts drops
 * nothing, and belongs to a process that holds it by a pipe to us (nft's "flags owner"): the kernel takes it away with that process.
 */

/** In front of every rule, and behind every one. */
const FIRST = -2_147_483_647
const LAST = 2_147_483_646
/** Milliseconds for the table to be there, and between two looks. */
const START_LIMIT = 3_000
const LOOK = 50

/** How many packets to a service have arrived, and have come through. */
export interface Reached {
  readonly arrived: number
  readonly through: number
}

/** A count that goes on. */
export interface Counting {
  /** @throws {Fault} where it can't be read */
  of(family: Ends['family'], service: Service): Promise<Reached>
  /** Ends it: nothing of it is left. */
  end(): Promise<void>
}

/**
 * Counts the packets that come by an interface.
 * @returns null where this machine can't: nft is missing, or it or the kernel is too old for tables with an owner
 */
export async function countReached(device: string, services: readonly Service[]): Promise<Counting | null> {
  if (!(await hasCommand('nft'))) return null
  const table = `knockturn_doctor_${randomBytes(4).toString('hex')}`
  const holder = spawn('nft', ['-i'], {
    stdio: ['pipe', 'ignore', 'ignore'],
    // At its end it writes a history into its home, /.nft.history without one: there is no home in there.
    env: { PATH: commandPath(), LC_ALL: 'C', HOME: '/dev/null' },
    cwd: WHEREVER,
    // Ctrl-C is for us: it ends with us.
    detached: true,
  })
  let isOver = false
  holder.on('error', () => (isOver = true)).on('close', () => (isOver = true))
  holder.stdin?.on('error', () => {})
  holder.stdin?.write(`${tableText(table, device, services)}\n`)
  const read = () => run('nft', ['-j', 'list', 'table', 'inet', table])
  const end = () => endHolder(holder, () => isOver)
  const began = performance.now()
  while (!(await read().catch(() => null))) {
    if (isOver || performance.now() - began > START_LIMIT) {
      await end()
      return null
    }
    await sleep(LOOK)
  }
  return {
    end,
    async of(family, service) {
      const counts = readCounts(await read())
      const name = nameOf(family, service)
      const [arrived, through] = [counts.get(`arrived ${name}`), counts.get(`through ${name}`)]
      if (arrived === undefined || through === undefined) throw new Fault(`nft shows no count of ${name}`)
      return { arrived, through }
    },
  }
}

async function endHolder(holder: ChildProcess, isOver: () => boolean): Promise<void> {
  holder.stdin?.end()
  if (isOver() || holder.pid === undefined) return
  const patience = setTimeout(() => holder.kill('SIGKILL'), START_LIMIT)
  await once(holder, 'close').catch(() => {})
  clearTimeout(patience)
}

const nameOf = (family: Ends['family'], service: Service) => `${family} ${formatService(service)}`

/** The table in one line, as nft takes it where somebody types: so it is made in one step. */
export function tableText(table: string, device: string, services: readonly Service[]): string {
  const each = (rules: (service: Service, version: string, family: Ends['family']) => string[]) =>
    services.flatMap((service) => [...rules(service, 'ipv4', 'IPv4'), ...rules(service, 'ipv6', 'IPv6')]).join('; ')
  const arrived = each((service, version, family) => [
    `meta nfproto ${version} ${service.protocol} dport ${service.port} counter comment "arrived ${nameOf(family, service)}"`,
  ])
  // By what it was sent to: a rule of another program may have sent it elsewhere. What the kernel does not keep track of is as it was.
  const through = each((service, version, family) => [
    `meta nfproto ${version} meta l4proto ${service.protocol} ct original proto-dst ${service.port} counter comment "through ${nameOf(family, service)}"`,
    `meta nfproto ${version} ct state untracked ${service.protocol} dport ${service.port} counter comment "through ${nameOf(family, service)}"`,
  ])
  const chain = (name: string, hook: string, priority: number, rules: string) =>
    `chain ${name} { type filter hook ${hook} priority ${priority}; policy accept; iifname != "${device}" accept; ${rules}; }`
  const chains = [
    chain('arrived', 'prerouting', FIRST, arrived),
    chain('here', 'input', LAST, through),
    chain('elsewhere', 'forward', LAST, through),
  ]
  return `table inet ${table} { flags owner; ${chains.join('; ')}; }`
}

/** The sums of counters by the comments of their rules. */
export function readCounts(json: string): Map<string, number> {
  const { nftables } = JSON.parse(json) as {
    nftables: { rule?: { comment?: string; expr?: { counter?: { packets?: number } }[] } }[]
  }
  const counts = new Map<string, number>()
  for (const { rule } of nftables) {
    if (!rule?.comment) continue
    const packets = rule.expr?.find(({ counter }) => counter)?.counter?.packets ?? 0
    counts.set(rule.comment, (counts.get(rule.comment) ?? 0) + packets)
  }
  return counts
}
