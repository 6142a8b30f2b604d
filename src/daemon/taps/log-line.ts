import { Ipv4Tap, type Tap } from '../../gate/tap'
import { canonicalAddress, ipv4Number } from '../../protocol/address'

/** Longest line that is read; a LOG line has some 250 characters. Longer ones are no taps. */
export const MAX_LINE = 4_096
/** Most characters in front of the prefix, up to an equals sign and behind it: a host in RFC 5424 may have 255. */
const MAX_HEAD = 300
/** Most equals signs in front of the prefix: the structured data that RFC 5424 itself defines has up to ten parameters. */
const MAX_PARAMETERS = 16

/** What stands between source and destination, and in front of the port. */
const TO = ' DST='
const PORT = ' DPT='

/**
 * Makes a reader of netfilter LOG lines, as the kernel and ulogd's LOGEMU write them. One anchored expression over the whole line:
 * a line that was spliced from two could mix one packet's source with another's port.
 * @param prefix what the log rule writes in front; one space or two after it (the kernel adds none, ulogd one)
 * @param unreadable told of each line that has the prefix where it belongs and is no tap
 * @returns a tap for a new packet (TCP SYN without ACK, or UDP), null for any other line
 */
export function logLineReader(prefix: string, unreadable: () => void = () => {}): (line: string) => Tap | null {
  // A head may hold what syslog, journald or the kernel put in front, but nothing that looks like a field of a packet: an equals sign only
  // as in RFC 5424's structured data (tzKnown="1") and in /dev/kmsg (caller=C1).
  const part = `[^=]{0,${MAX_HEAD}}`
  const head = `(?:${part}(?:(?:(?<=[a-z])="|(?<=,caller)=)${part}){0,${MAX_PARAMETERS}}[ \\t\\];:>])?`
  const mac = 'MAC=[0-9a-f:]* +(?:TUNNEL=[0-9.]+->[0-9.]+ )?'
  const macDecoded = 'MACSRC=[0-9a-f:]+ MACDST=[0-9a-f:]+ (?:VPROTO=[0-9a-f]{4} VID=\\d+ )?MACPROTO=[0-9a-f]{4} '
  const link = `IN=\\S{1,15} OUT=\\S{0,15} (?:PHYSIN=\\S{1,15} )?(?:PHYSOUT=\\S{1,15} )?(?:${mac}|${macDecoded})?`
  const v4 = 'LEN=\\d+ TOS=(?:0x)?[0-9A-F]{2} PREC=0x[0-9A-F]{2} TTL=\\d+ ID=\\d+ (?:(?:CE|DF|MF) )*(?:OPT \\([0-9A-F]+\\) )?'
  // Only the first fragment has ports.
  const fragment = 'FRAG: ?0 (?:INCOMPLETE )?ID: ?[0-9a-f]{8} '
  const v6 = `LEN=\\d+ TC=\\d+ HOPLIMIT=\\d+ FLOWLBL=\\d+ (?:OPT \\( (?:${fragment})?\\) |${fragment})*`
  const tcp =
    'PROTO=TCP SPT=\\d{1,5} DPT=\\d{1,5} (?:SEQ=\\d+ ACK=\\d+ )?WINDOW=\\d+ (?:RES=0x[0-9a-f]{2} )?' +
    '(?:CWR )?(?:ECE )?(?:URG )?(?:PSH )?SYN URGP=\\d+'
  const udp = 'PROTO=UDP SPT=\\d{1,5} DPT=\\d{1,5} LEN=\\d+'
  const tail = '(?: OPT \\([0-9A-F]*\\)| UID=\\d+| GID=\\d+| MARK=(?:0x)?[0-9a-f]+)* *\\r?'
  const words = prefix.trimEnd()
  const ours = words.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')
  const address = '[0-9a-fA-F.:]{2,45}'
  // It stops where the source's address begins, having looked on to the line's end: what is read from there need be neither cut out nor searched for.
  const rest = `${address}${TO}${address} (?:${v4}|${v6})(?:${tcp}|${udp})${tail}$`
  const line = new RegExp(`^${head}${ours} {1,2}${link}SRC=(?=${rest})`, 'y')
  const mark = new RegExp(`^${head}${ours} `)
  // Written anew where it is not that of the line before: a part of the line would keep the whole chunk that it was read with in memory.
  let destination: string | null = null
  const read = (text: string): Tap | null => {
    line.lastIndex = 0
    if (text.length > MAX_LINE || !line.test(text)) return null
    const from = line.lastIndex
    const to = text.indexOf(' ', from)
    const next = to + TO.length
    if (!destination || !text.startsWith(destination, next) || text[next + destination.length] !== ' ')
      destination = canonicalAddress(text.slice(next, text.indexOf(' ', next)))
    const port = portAt(text, text.indexOf(PORT, next) + PORT.length)
    if (!destination || port < 1 || port > 65535) return null
    const ipv4 = ipv4Number(text, from, to)
    if (ipv4 !== null) return new Ipv4Tap(ipv4, destination, port)
    const source = canonicalAddress(text.slice(from, to))
    return source === null ? null : { source, destination, port }
  }
  return (text) => {
    // Sooner than the expressions can tell of what else is in a log.
    if (!text.includes(words)) return null
    const tap = read(text)
    if (!tap && mark.test(text)) unreadable()
    return tap
  }
}

/** The number that stands there in decimal digits. */
function portAt(text: string, at: number): number {
  let port = 0
  for (let i = at; ; i++) {
    const digit = text.charCodeAt(i) - 48
    if (!(digit >= 0 && digit <= 9)) return port
    port = 10 * port + digit
  }
}
