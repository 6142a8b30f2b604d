import type { Tap } from '../../gate/listener'
import { canonicalAddress } from '../../protocol/address'

/** Longest line that is read; a LOG line has some 250 characters. Longer ones are no taps. */
export const MAX_LINE = 4_096

/**
 * Makes a reader of netfilter LOG lines, as the kernel and ulogd's LOGEMU write them. One anchored expression over the whole line:
 * a line that was spliced from two could mix one packet's source with another's port.
 * @param prefix what the log rule writes in front; one space or two after it (the kernel adds none, ulogd one)
 * @returns a tap for a new packet (TCP SYN without ACK, or UDP), null for any other line
 */
export function logLineReader(prefix: string): (line: string) => Tap | null {
  // A head may hold what syslog, journald or the kernel put in front, but nothing that looks like a field of a packet.
  const head = '(?:[^=]{0,200}[ \\];])?'
  const link = 'IN=\\S{1,15} OUT=\\S{0,15} (?:PHYSIN=\\S{1,15} )?(?:PHYSOUT=\\S{1,15} )?(?:MAC=[0-9a-f:]* +)?'
  const v4 = 'LEN=\\d+ TOS=(?:0x)?[0-9A-F]{2} PREC=0x[0-9A-F]{2} TTL=\\d+ ID=\\d+ (?:(?:CE|DF|MF) )*'
  const v6 = 'LEN=\\d+ TC=\\d+ HOPLIMIT=\\d+ FLOWLBL=\\d+ '
  const tcp =
    'PROTO=TCP SPT=\\d{1,5} DPT=(\\d{1,5}) (?:SEQ=\\d+ ACK=\\d+ )?WINDOW=\\d+ (?:RES=0x[0-9a-f]{2} )?(?:CWR )?(?:ECE )?SYN URGP=\\d+'
  const udp = 'PROTO=UDP SPT=\\d{1,5} DPT=(\\d{1,5}) LEN=\\d+'
  const tail = '(?: OPT \\([0-9A-F]*\\)| UID=\\d+| GID=\\d+| MARK=(?:0x)?[0-9a-f]+)* ?'
  const ours = prefix.trimEnd().replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')
  const address = '([0-9a-fA-F.:]{2,45})'
  const line = new RegExp(`^${head}${ours} {1,2}${link}SRC=${address} DST=${address} (?:${v4}|${v6})(?:${tcp}|${udp})${tail}$`)
  let last: Tap = { source: '', destination: '', port: 0 }
  return (text) => {
    if (text.length > MAX_LINE) return null
    const match = line.exec(text)
    if (!match) return null
    // Written anew where they are not those of the line before: a part of the line would keep the whole chunk that it was read with in memory.
    const source = match[1] === last.source ? last.source : canonicalAddress(match[1])
    const destination = match[2] === last.destination ? last.destination : canonicalAddress(match[2])
    const port = Number(match[3] ?? match[4])
    if (!source || !destination || port < 1 || port > 65535) return null
    last = { source, destination, port }
    return last
  }
}
