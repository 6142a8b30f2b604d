import { allBut, type Guarded, guards, merged, parseGuarded } from '../../daemon/guard'
import { MAX_SERVICES } from '../../keys/grant-table'
import { DEFAULT_POOL, formatPool, parsePool } from '../../protocol/pool'
import { formatService, type Service } from '../../protocol/service'
import { Fault } from '../../system/fault'
import { holderOf, type Listener, WIREGUARD } from './listeners'

/* What a set-up proposes, from what listens here. It decides, and asks and changes nothing. */

/** Services that strangers are meant to reach, or that are another way in: why, at which ports, and by which programs at any port. */
const PUBLIC: readonly {
  readonly why: string
  readonly services: readonly string[]
  readonly programs: readonly string[]
}[] = [
  { why: 'a web server, which is there for everyone', services: ['80/tcp', '443/tcp', '443/udp'], programs: [] },
  { why: 'mail from other servers', services: ['25/tcp'], programs: [] },
  { why: 'mail of its users', services: ['110/tcp', '143/tcp', '465/tcp', '587/tcp', '993/tcp', '995/tcp'], programs: [] },
  { why: 'a name server', services: ['53/tcp', '53/udp', '853/tcp'], programs: [] },
  { why: 'gives addresses to other machines (DHCP)', services: ['67/udp', '547/udp'], programs: [] },
  { why: 'WireGuard, another way in', services: ['51820/udp'], programs: [WIREGUARD, 'wireguard-go', 'boringtun'] },
  { why: 'OpenVPN, another way in', services: ['1194/udp', '1194/tcp'], programs: ['openvpn'] },
  { why: 'IPsec, another way in', services: ['500/udp', '4500/udp'], programs: ['charon', 'charon-systemd', 'pluto'] },
  { why: 'Tailscale, another way in', services: ['41641/udp'], programs: ['tailscaled'] },
  { why: 'ZeroTier, another way in', services: ['9993/udp'], programs: ['zerotier-one'] },
]

/** Servers of SSH. systemd listens for sshd where ssh.socket is enabled. */
const SSH = ['sshd', 'sshd-session', 'dropbear', 'tinysshd']
const SSH_PORT = '22/tcp'

/** What opens by a knock only, ports or all: as the config has it. */
export type GuardText = 'all' | readonly string[]

/** What a set-up goes by. */
export interface Answers {
  /** The host at which clients knock. */
  readonly host: string
  /** The first key's id. */
  readonly key: string
  /** What the first key may open. */
  readonly services: readonly Service[]
  /** The ports of the first key's knocks. */
  readonly pool: string
  readonly guard: GuardText
  /** What stays open to everyone; none where the guard is a list. */
  readonly public: readonly string[]
  readonly backend: 'nftables' | 'iptables'
}

/** What somebody has chosen already: by an option, an answer, or the config that is there. */
export type Wish = { readonly [name in keyof Answers]?: Answers[name] | undefined }

/** What a proposal is made from. */
export interface Around {
  readonly listeners: readonly Listener[]
  /** Name or address of this host; null: it is not known. */
  readonly host: string | null
  /** Who is setting this up, as a key may be called. */
  readonly user: string
  readonly hasNftables: boolean
}

/** A proposal, what it was made from, and what to say about it. */
export interface Proposal {
  readonly answers: Answers
  readonly listeners: readonly Listener[]
  /** What is proposed as the host, whatever was chosen; null: nothing. */
  readonly host: string | null
  /** Why a service stays open to everyone, by its name. */
  readonly reasons: ReadonlyMap<string, string>
  /** Lines for a warning. */
  readonly notes: readonly string[]
}

/**
 * Proposes what nobody has chosen yet.
 * @throws {Fault} where it can't be proposed
 */
export function propose(around: Around, wish: Wish): Proposal {
  const { listeners } = around
  const reasons = new Map(listeners.flatMap((one) => reasonFor(one) ?? []).map(({ name, why }) => [name, why]))
  const guard = wish.guard ?? 'all'
  const open = guard === 'all' ? (wish.public ?? [...reasons.keys()]) : []
  const ports = guardedPorts(guard, open)
  const wanted = wish.services ?? servicesFor(listeners, ports)
  const services = wanted.slice(0, MAX_SERVICES)
  const { pool, notes } = poolFor(listeners, ports, reasons)
  const answers: Answers = {
    host: wish.host ?? around.host ?? noHost(),
    key: wish.key ?? around.user,
    services,
    pool: wish.pool ?? pool,
    guard,
    public: open,
    backend: wish.backend ?? (around.hasNftables ? 'nftables' : 'iptables'),
  }
  const leftOut = wanted.slice(MAX_SERVICES)
  const left = leftOut.length > 0 ? [`a key opens at most ${MAX_SERVICES} services: ${leftOut.length} others are left out`] : []
  return { answers, reasons, ...around, notes: [...notes, ...left, ...unguarded(services, ports)] }
}

/** Why a service that listens is to stay open to everyone; null where it is not. Of an ordinary user's program nothing is believed. */
function reasonFor({ service, programs, isSystems }: Listener): { readonly name: string; readonly why: string } | null {
  const name = formatService(service)
  if (!isSystems) return null
  const known = PUBLIC.find((one) => one.services.includes(name) || programs.some((program) => one.programs.includes(program)))
  return known ? { name, why: known.why } : null
}

/** The ranges that a guard closes. @param guard as in the config, each entry one that can be read */
export function guardedPorts(guard: GuardText, open: readonly string[]): readonly Guarded[] {
  const read = (texts: readonly string[]) => texts.flatMap((text) => parseGuarded(text) ?? [])
  return guard === 'all' ? allBut(read(open)) : merged(read(guard))
}

/** What the first key opens: SSH, and what containers publish, as far as it is guarded. @throws {Fault} where nothing is */
function servicesFor(listeners: readonly Listener[], ports: readonly Guarded[]): Service[] {
  const ssh = listeners.filter(isSsh)
  if (ssh.length === 0)
    throw new Fault('no SSH server listens here, so it is not known what the first key is to open', {
      hint: 'start it, or name what the key is to open, as in --services 22/tcp',
    })
  const services = [...ssh, ...listeners.filter(({ publisher }) => publisher !== null)].map(({ service }) => service)
  const guarded = [...new Map(services.filter((one) => guards(ports, one)).map((one) => [formatService(one), one])).values()]
  if (guarded.length > 0) return guarded
  throw new Fault(
    `SSH is not among the guarded ports (it listens at ${ssh.map(({ service }) => formatService(service)).join(',')})`,
    {
      hint: 'guard it, or name what the key is to open with --services',
    },
  )
}

function isSsh({ service, programs, isSystems }: Listener): boolean {
  if (service.protocol !== 'tcp') return false
  return formatService(service) === SSH_PORT || (isSystems && programs.some((program) => SSH.includes(program)))
}

/**
 * The ports that the first key knocks at: not those of services that are to be reached. The log rules close the pool to everyone.
 * @returns and what the pool closes, as lines for a warning
 */
function poolFor(listeners: readonly Listener[], ports: readonly Guarded[], reasons: ReadonlyMap<string, string>) {
  const whole = parsePool(DEFAULT_POOL)
  const inside = listeners.filter(({ service }) => whole.includes(service.port) && !guards(ports, service))
  // A client's own socket looks like a service of UDP, and has another port tomorrow.
  const isService = ({ service }: Listener) => service.protocol === 'tcp' || reasons.has(formatService(service))
  const kept = inside.filter(isService)
  const pool = whole.filter((port) => !kept.some(({ service }) => service.port === port))
  const closed = inside.filter((one) => !isService(one))
  return {
    pool: formatPool(pool),
    notes: [
      ...kept.map(
        (one) => `${formatService(one.service)} (${holderOf(one)}) lies where knocks come in: the key does without that port`,
      ),
      ...closed.map((one) => `${formatService(one.service)} (${holderOf(one)}) lies where knocks come in, and will be closed`),
    ],
  }
}

const unguarded = (services: readonly Service[], ports: readonly Guarded[]): string[] =>
  services
    .filter((service) => !guards(ports, service))
    .map((service) => `${formatService(service)} is not guarded: everyone reaches it, with or without a knock`)

function noHost(): never {
  throw new Fault('no name or address of this host is known at which clients could knock', {
    hint: 'name it, as in --host gate.example',
  })
}
