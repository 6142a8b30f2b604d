import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { journalReader, MAX_ENTRY, readEntry } from '../../daemon/taps/journal'
import { lineSplitter } from '../../daemon/taps/lines'
import { logLineReader } from '../../daemon/taps/log-line'
import { ipReader, packetReader } from '../../daemon/taps/packet'
import { LINKTYPE_NFLOG, type PcapHeader, pcapReader, recordTime } from '../../daemon/taps/pcap'
import type { Tap } from '../../gate/tap'
import type { Ports } from '../../protocol/ports'
import { Fault, reason } from '../../system/fault'
import { Flows } from './flows'
import { LineTimes } from './line-times'
import { findIp, LINK_TYPES, linkName } from './link'

/* Taps out of a file: a capture (pcap), or the firewall's log as text or as journalctl's JSON. */

/** Longest record that is believed: libpcap's own limit. */
const MAX_RECORD = 262_144
/** Bytes by which a file's kind is told. */
const HEAD = 24
const RECORD = 'record one with "tcpdump -i any -w FILE tcp or udp"'

/** What a recording is read by: the daemon's config, and what its keys are heard on. */
export interface Hearing {
  readonly prefix: string
  /** Ports of pools and passcodes; of a capture of everything, what else is in it is no tap. */
  readonly ranges: readonly Ports[]
  readonly datagrams: readonly number[]
  /** When the first tap was, in Unix milliseconds; null: as the recording says. */
  readonly at: number | null
  /** Unix milliseconds, for logs that have no year. */
  readonly now: number
}

/** A tap, and when it was heard, in Unix milliseconds. */
export interface Moment {
  readonly tap: Tap
  readonly at: number
}

/** What was in a recording: lines or packets, and those of them that are no taps, or are of the firewall's log and can't be read. */
interface Counters {
  seen: number
  ignored: number
  unreadable: number
}

/** Reads a recording, piece by piece. */
export interface Recording {
  /** What it is, in words. */
  readonly format: string
  readonly counters: Counters
  /** Why it could not be read to its end; null: nothing was wrong. */
  readonly broken: string | null
  /** Takes a piece of it. @returns the taps in it @throws {Fault} where it can't be read any further */
  push(chunk: Buffer): Moment[]
  /** There is no more of it. */
  end(): Moment[]
}

/** Opens a recording as a stream of bytes. @param file its path, or `-`: standard input @throws {Fault} where it can't be read */
export async function openRecording(file: string): Promise<AsyncIterable<Buffer>> {
  if (file === '-') return process.stdin
  const failed = (error: unknown) => new Fault(`${file}: cannot be read: ${reason(error)}`)
  const stats = await stat(file).catch((error) => Promise.reject(failed(error)))
  if (stats.isDirectory()) throw new Fault(`${file}: is not a regular file`)
  return withFault(createReadStream(file), failed)
}

async function* withFault(stream: AsyncIterable<Buffer>, failed: (error: unknown) => Fault): AsyncIterable<Buffer> {
  try {
    yield* stream
  } catch (error) {
    throw error instanceof Fault ? error : failed(error)
  }
}

/**
 * Reads taps out of a stream of bytes.
 * @param name of the stream, for faults
 * @param begun told of the recording when its kind is known
 * @throws {Fault} where it is of no kind that can be read
 */
export async function* tapsOf(
  stream: AsyncIterable<Buffer>,
  name: string,
  hearing: Hearing,
  begun: (recording: Recording) => void,
): AsyncGenerator<Moment[]> {
  let recording: Recording | null = null
  let head: Buffer = Buffer.alloc(0)
  for await (const chunk of stream) {
    let bytes = chunk
    if (!recording) {
      head = Buffer.concat([head, chunk])
      if (head.length < HEAD) continue
      recording = recordingOf(head, name, hearing)
      begun(recording)
      bytes = head
    }
    yield recording.push(bytes)
  }
  if (!recording) {
    recording = recordingOf(head, name, hearing)
    begun(recording)
    yield recording.push(head)
  }
  yield recording.end()
}

/** By its first bytes. */
function recordingOf(head: Buffer, name: string, hearing: Hearing): Recording {
  const magic = head.subarray(0, 4).toString('hex')
  const packed = { '1f8b': 'gzip', '28b52ffd': 'zstd', fd377a58: 'xz', '425a68': 'bzip2' }
  for (const [bytes, program] of Object.entries(packed)) {
    if (magic.startsWith(bytes))
      throw new Fault(`${name}: is compressed`, { hint: `run "${program} -dc FILE | knockturn replay -"` })
  }
  if (magic === '0a0d0d0a')
    throw new Fault(`${name}: is a capture in the form of pcapng, which is not read`, {
      hint: 'run "tcpdump -r FILE -w FILE.pcap" first, or "editcap -F pcap FILE FILE.pcap"',
    })
  if (['d4c3b2a1', 'a1b2c3d4', '4d3cb2a1', 'a1b23c4d'].includes(magic)) return captureOf(name, hearing)
  if (head.includes(0)) throw new Fault(`${name}: is neither a capture nor a log`, { hint: RECORD })
  return logOf(name, hearing)
}

function captureOf(name: string, { prefix, ranges, datagrams, at }: Hearing): Recording {
  const counters: Counters = { seen: 0, ignored: 0, unreadable: 0 }
  const readPacket = packetReader(prefix, datagrams, () => counters.unreadable++)
  const readIp = ipReader(datagrams)
  const flows = new Flows()
  const isHeard = ({ port, payload }: Tap) => payload !== undefined || ranges.some(([low, high]) => port >= low && port <= high)
  let format = 'a capture'
  let header: PcapHeader | null = null
  let broken: string | null = null
  let behind: number | null = at === null ? 0 : null
  let taps: Moment[] = []
  const tapOf = (bytes: Buffer, from: number, to: number, link: number, when: number): Tap | null => {
    if (link === LINKTYPE_NFLOG) return readPacket(bytes, from, to)
    const start = findIp(link, bytes, from, to)
    if (start < 0 || flows.belongs(bytes, start, to, when)) return null
    const tap = readIp(bytes, start, to)
    return tap && isHeard(tap) ? tap : null
  }
  const read = pcapReader(
    (its) => {
      header = its
      format = `a capture (${linkName(its.link)})`
    },
    (bytes, from, to) => {
      const its = header as PcapHeader
      const when = recordTime(bytes, from, its)
      counters.seen++
      const tap = tapOf(bytes, from, to, its.link, when)
      if (!tap) counters.ignored++
      else {
        behind ??= (at ?? when) - when
        taps.push({ tap, at: when + behind })
      }
    },
    { links: LINK_TYPES, maxRecord: MAX_RECORD },
  )
  const take = (): Moment[] => {
    const taken = taps
    taps = []
    return taken
  }
  return {
    get format() {
      return format
    },
    counters,
    get broken() {
      return broken
    },
    push(chunk) {
      if (broken !== null) return []
      try {
        read(chunk)
      } catch (error) {
        if (!header) throw new Fault(`${name}: ${reason(error)}`, { hint: RECORD })
        // What was read in front of it counts.
        broken = reason(error)
      }
      return take()
    },
    end: take,
  }
}

function logOf(name: string, { prefix, at, now }: Hearing): Recording {
  const counters = { seen: 0, ignored: 0, unreadable: 0, dropped: 0 }
  const readLine = logLineReader(prefix, () => counters.unreadable++)
  const times = new LineTimes(at, now)
  let taps: Moment[] = []
  let said = ''
  const timed = (tap: Tap, line: string, when: number | null) => {
    try {
      taps.push({ tap, at: times.of(line, when) })
    } catch (error) {
      throw new Fault(`${name}: ${reason(error)}`, { hint: error instanceof Fault ? error.hint : undefined })
    }
  }
  const readJournal = journalReader(prefix, counters, (tap) => timed(tap, '', readEntry(said).at))
  const lines = lineSplitter((line) => {
    said = line
    if (line.startsWith('{')) return readJournal(line)
    counters.seen++
    const tap = readLine(line)
    if (tap) timed(tap, line, null)
    else counters.ignored++
  }, MAX_ENTRY)
  const take = (): Moment[] => {
    const taken = taps
    taps = []
    return taken
  }
  return {
    format: "the firewall's log",
    counters,
    broken: null,
    push(chunk) {
      lines.push(chunk.toString('latin1'))
      return take()
    },
    end() {
      lines.end()
      return take()
    },
  }
}
