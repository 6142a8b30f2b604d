import type { Found } from '../../admin/replay/findings'
import { isZeroAddress } from '../../protocol/address'
import { QUORUM, RENDEZVOUS } from '../../protocol/codebook'
import type { Request } from '../../protocol/request'
import { formatDuration, isoTime } from '../../system/time'

/* What a replay has found, in sentences. */

type Of<Kind extends Found['kind']> = Extract<Found, { kind: Kind }>

/** Whether it is one of a key's knocks, whatever came of it. */
export const isOfKey = (found: Found): boolean => !['unknown', 'unknown-datagram'].includes(found.kind)

/** What was found, in one line without its time and its source. */
export function sentenceOf(found: Found): string {
  switch (found.kind) {
    case 'knock':
      return `${found.key}: ${ofKnock(found)}`
    case 'locked':
      return `${text(found.line.key)}: refused (locked): the address is locked until ${text(found.line.until)}`
    case 'incomplete':
      return `${found.key}: not opened: ${ofIncomplete(found)}`
    case 'datagram':
      return `${found.key}: a datagram to port ${found.port} that was not opened: ${ofDatagram(found)}`
    case 'unknown-datagram':
      return `a datagram to port ${found.port} that is no knock of these keys`
    case 'passcode':
      return ofPasscode(found)
    case 'unknown':
      return `${found.ports} ports, and no knock of these keys`
  }
}

function ofKnock({ outcome, request, line, seconds, by, end, at }: Of<'knock'>): string {
  const what = by === 'passcode' ? 'a passcode: ' : ''
  if (outcome === 'retransmitted') return `${what}said again by its own source, which is no news`
  if (outcome === 'repeated') return `${what}said again, and refused again`
  if (outcome === 'accepted') return `${what}accepted: ${granted(request, line ?? {})}`
  const later = outcome === 'revoked' && end !== null && end > at ? ` (the key ended at ${isoTime(end)}, after this)` : ''
  const { reason, clock, first }: Readonly<Record<string, unknown>> = line ?? {}
  const why = [reason, clock, typeof first === 'string' ? `first from ${first}` : undefined, rule(line ?? {})].filter(Boolean)
  const said =
    why.length > 0 ? `: ${why.map(text).join(', ')}` : outcome === 'stale' || outcome === 'future' ? `: ${clockOff(seconds)}` : ''
  return `${what}refused (${outcome})${said}${later}; it asked to ${asked(request, line ?? {})}`
}

/** Which rule of the grant says no, where the daemon names it. */
function rule({ rule, allowed }: Readonly<Record<string, unknown>>): string | undefined {
  if (rule === undefined) return undefined
  return allowed === undefined ? `by ${text(rule)}` : `by ${text(rule)}, which is ${text(allowed)}`
}

const text = (value: unknown): string => (Array.isArray(value) ? value.join(',') : String(value))

function granted({ action }: Request, { service, address, until, once }: Readonly<Record<string, unknown>>): string {
  const end = until === null || until === undefined ? '' : ` until ${text(until)}`
  if (action === 'lock') return `locks ${text(address)}${end}`
  if (action === 'close') return `closes ${text(service)} for ${text(address)}`
  return `opens ${text(service)} for ${text(address)}${end || ' until it is closed'}${once ? ', one connection' : ''}`
}

function asked(
  { action, port, protocol, seconds, once, address }: Request,
  { service }: Readonly<Record<string, unknown>>,
): string {
  const door = typeof service === 'string' ? service : `${port}/${protocol}`
  const whom = isZeroAddress(address) ? 'its source' : address
  const time = seconds === 0 ? 'until it is closed' : `for ${formatDuration(seconds)}`
  if (action === 'lock') return `lock ${whom} ${time}`
  if (action === 'close') return `close ${door} for ${whom}`
  return `open ${door} for ${whom} ${time}${once ? ', one connection' : ''}`
}

function ofIncomplete({
  why,
  rendezvous,
  symbols,
  needed,
  missing,
  spread,
  seconds,
  isAccepted,
  request,
}: Of<'incomplete'>): string {
  const heard = `${rendezvous} of ${RENDEZVOUS} rendezvous ports (${QUORUM} are needed) and ${symbols} symbols (${needed} are needed)`
  const short = missing > 0 ? `: ${missing} are missing` : ''
  const clock = isAccepted ? '' : `; ${clockOff(seconds)}, or it is old and was played again`
  switch (why) {
    case 'window':
      return `its window is not accepted: ${clockOff(seconds)}, or it is old and was played again${request ? `; it asked to ${asked(request, {})}` : ''}`
    case 'damaged':
      return `${heard} arrived, and what they say is not what this key has sealed: too much else came from there, or it is forged`
    case 'spread':
      return `${heard} arrived within 10 s, which is as long as a tap counts${short}; all of it took ${Math.round(spread / 1000)} s${clock}`
    default:
      return `${heard} arrived${short}${clock}`
  }
}

function ofDatagram({ why, seconds, isAccepted, request }: Of<'datagram'>): string {
  const clock = isAccepted ? '' : `${clockOff(seconds)}, or it is old and was played again`
  if (why === 'window') return `its window is not accepted: ${clock}${request ? `; it asked to ${asked(request, {})}` : ''}`
  return `it is not what this key has sealed: it was damaged, or is forged${clock && `; ${clock}`}`
}

function ofPasscode({ heard, of, isVoid, fits }: Of<'passcode'>): string {
  if (isVoid) return 'a passcode with two digits in one place, which is void: a scan, or two passcodes at once'
  if (heard < of) return `a passcode of which ${heard} of ${of} digits arrived: ${of - heard} are missing`
  if (!fits) return 'a whole passcode that is nobody’s now: the PIN or the code is wrong, or its key has none'
  return `${fits.key}: a passcode of another time: ${clockOff(fits.seconds)} (that of the app's device), or it is old and was played again`
}

/** @param seconds by which a window's middle is ahead of its arrival */
function clockOff(seconds: number): string {
  return `the sender's clock is ${formatDuration(Math.abs(seconds))} ${seconds < 0 ? 'behind' : 'ahead'}`
}
