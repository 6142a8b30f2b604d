import { type Check, remedyOf } from '../../system/check'
import { listed } from '../../system/fault'
import { OTHER_WAYS, ofTouches } from '../diagnosis'
import { isPrivate } from './name-check'
import { isRejection, type Shown } from './probes'

/* What follows from what the ports of a server have shown, by one family: pure. */

/** A rejection comes from somebody nearer where it takes less than half as long as an answer, and so many milliseconds less: those are the system's. */
const NEARER = 10
/** Ports that are named in one line. */
const NAMED = 24

/** Ports that many networks answer themselves, by a name server or a proxy of theirs. */
const OFTEN_THEIRS = [53, 80]

/** What was tried by one family. */
export interface Tried {
  readonly family: 4 | 6
  /** The server's address, and the one of ours that it was sent from. */
  readonly address: string
  readonly local: string
  readonly shown: readonly Shown[]
  /** How many routers are between us and whoever rejects UDP, at most; null: that is not known, or nobody does. */
  readonly routers: number | null
}

/** Whether something on the path answers in the server's place: two ports of a knock at least are accepted. */
export function isAnsweredForServer({ shown }: Tried): boolean {
  return ofProtocol(shown, 'tcp', true).filter(({ saw }) => saw === 'open').length > 1
}

const ofProtocol = (shown: readonly Shown[], protocol: Shown['protocol'], isHigh: boolean) =>
  shown.filter((one) => one.protocol === protocol && one.isHigh === isHigh)

/** All that is to be said of the ways by one family: of high ports first, then of each other port. */
export function judgeWays(tried: Tried): Check[] {
  const { shown } = tried
  const isProxied = isAnsweredForServer(tried)
  return [
    judgeFamily(tried, isProxied),
    judgeHigh(tried, 'tcp'),
    judgeHigh(tried, 'udp'),
    ...shown.filter(({ isHigh }) => !isHigh).map((one) => judgeNamed(tried, one, isProxied)),
    judgeArrival(tried),
  ]
}

const nameOf = (what: string, { family }: Pick<Tried, 'family'>) => `${what}, IPv${family}`

/** Whether anything goes out and comes back at all by this family. */
function judgeFamily(tried: Tried, isProxied: boolean): Check {
  const name = `IPv${tried.family}`
  const way = `from ${tried.local} to ${tried.address}`
  const back = tried.shown.filter(
    ({ saw, isHigh, port }) => !isHigh && !OFTEN_THEIRS.includes(port) && (saw === 'answered' || (saw === 'open' && !isProxied)),
  )
  if (back.length > 0) return { name, verdict: 'ok', evidence: `${way}: ${portsOf(back)} came back with an answer` }
  return { name, verdict: 'unknown', evidence: `${way}: no answer of the server's has come back` }
}

function judgeHigh(tried: Tried, protocol: 'tcp' | 'udp'): Check {
  const name = nameOf(`${protocol.toUpperCase()} to high ports`, tried)
  const shown = ofProtocol(tried.shown, protocol, true)
  const [accepted, rejected] = [
    shown.filter(({ saw }) => saw === 'open' || saw === 'answered'),
    shown.filter(({ saw }) => isRejection(saw)),
  ]
  // One alone may be another machine's, to which the server's router leads it.
  const common = [accepted, rejected].find(({ length }) => length > 1)
  if (common) {
    const saws = common.map(({ saw }) => (saw === 'answered' ? 'open' : saw))
    const [{ seen = '', hint } = {}] = ofTouches(saws, protocol === 'tcp' ? OTHER_WAYS : 'without --udp, or --datagram 443')
    const where = common === rejected ? `; ${byWhom(tried, common)}` : ''
    return { name, verdict: 'fault', evidence: `${portsOf(common)}: ${seen}${where}`, ...remedyOf(hint) }
  }
  const [other] = [...accepted, ...rejected]
  if (other)
    return {
      name,
      verdict: 'note',
      evidence: `${portsOf([other])} alone ${saidOf(other)}: it may lead to another machine; the others are silent`,
    }
  return { name, verdict: 'unknown', evidence: 'silent: either the server hears them, or this network drops them' }
}

/** What is known of who rejects. */
function byWhom({ shown, routers }: Tried, rejected: readonly Shown[]): string {
  const isUdp = rejected.some(({ protocol }) => protocol === 'udp')
  if (isUdp && routers === 0) return 'whoever rejects them is in this very network'
  if (isUdp && routers !== null)
    return `whoever rejects them is at most ${routers} router${routers === 1 ? '' : 's'} away: if the server is further, it is not the server`
  const quickest = Math.min(...rejected.map(({ ms }) => ms))
  const answers = shown.filter(({ saw }) => saw === 'open').toSorted((a, b) => a.ms - b.ms)
  const [answer] = answers
  if (answer && answer.ms > 2 * quickest + NEARER)
    return `whoever rejects them is nearer than who answers at port ${answer.port}: ${Math.round(quickest)} ms, against ${Math.round(answer.ms)} ms`
  return 'it is somebody on the path, or a server without the firewall rules of "knockturn firewall install"'
}

function judgeNamed(tried: Tried, shown: Shown, isProxied: boolean): Check {
  const { protocol, port, saw } = shown
  const name = nameOf(`${protocol.toUpperCase()} to port ${port}`, tried)
  if (saw === 'open' && isProxied)
    return { name, verdict: 'unknown', evidence: 'answered, as every port is from here: an answer proves nothing' }
  if (isAnswer(saw) && OFTEN_THEIRS.includes(port))
    return { name, verdict: 'unknown', evidence: 'answered: by the server, or by this network itself, as some do at this port' }
  if (isAnswer(saw)) return { name, verdict: 'ok', evidence: `answered after ${Math.round(shown.ms)} ms` }
  if (saw === 'silence')
    return { name, verdict: 'unknown', evidence: 'silent: closed or not answered by the server, or this network blocks it' }
  const after = `${saidOf(shown)} after ${Math.round(shown.ms)} ms`
  return { name, verdict: 'note', evidence: `${after}: nothing listens there, or somebody on the path rejects it` }
}

const isAnswer = (saw: string) => saw === 'open' || saw === 'answered'

function saidOf({ saw }: Shown): string {
  if (isAnswer(saw)) return 'is answered'
  return saw === 'refused' ? 'refused' : `rejected (${saw})`
}

/** What to look for at the server, which alone knows what has arrived. */
function judgeArrival({ family, address, local, shown }: Tried): Check {
  const from = isPrivate(local) && !isPrivate(address) ? 'ADDRESS' : local
  const behind = from === local ? '' : ` (ADDRESS: what the server sees in place of ${local})`
  return {
    name: `what has arrived, IPv${family}`,
    verdict: 'unknown',
    evidence: `only the server sees it: ${portsOf(shown)}`,
    remedy: `on the server, run "knockturn listen --from ${from} --for 2m"${behind}, then this again: what it does not list, this network does not let out`,
  }
}

/** Ports as they are named, those of TCP first. */
export function portsOf(shown: readonly Pick<Shown, 'protocol' | 'port'>[]): string {
  const parts = (['tcp', 'udp'] as const).map((protocol) => {
    const ports = shown.filter((one) => one.protocol === protocol).map(({ port }) => String(port))
    return ports.length === 0 ? '' : `${protocol.toUpperCase()} ${listed(ports, NAMED)}`
  })
  return parts.filter(Boolean).join('; ')
}
