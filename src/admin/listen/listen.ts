import { keepAlive } from '../../daemon/taps/child'
import { type PcapHeader, pcapReader, recordTime } from '../../daemon/taps/pcap'
import { type Cidr, formatCidr } from '../../protocol/address'
import { LINK_TYPES } from '../replay/link'
import { type Arrival, Arrivals } from './arrivals'

/* What arrives from an address, by tcpdump: in front of every firewall of this machine. */

/** Bytes of a packet that are asked for: the longest headers that are read. */
const SNAP_LENGTH = 160
/** The capture's buffer in KiB. */
const BUFFER = 4096
/** Largest record that is believed. */
const MAX_RECORD = 65_536

/** What has arrived. */
export interface Listened {
  readonly arrivals: readonly Arrival[]
  /** Packets of kinds for which there was no room. */
  readonly left: number
}

/**
 * Listens for packets, whatever the firewall does with them, until it is ended.
 * @param from whose packets
 * @param told of each kind of packet when it has come for the first time
 * @param warn told when the capture has died
 * @returns ends it, and says what has arrived
 * @throws {Fault} where it can't be captured
 */
export async function listen(
  from: Cidr,
  told: (arrival: Arrival) => void,
  warn: (message: string) => void,
): Promise<() => Promise<Listened>> {
  const arrivals = new Arrivals(told)
  const root = process.getuid?.() === 0 ? ['-Z', 'root'] : []
  const words = ['-i', 'any', '-Q', 'in', '-n', '-U', '-s', `${SNAP_LENGTH}`, '-B', `${BUFFER}`, '-w', '-', ...root]
  const tcpdump = keepAlive(
    {
      argv: ['tcpdump', ...words, 'src', 'net', formatCidr(from)],
      hears: 'the network interfaces',
      hint: 'run this as root',
      chatter: /packets|listening on|data link type/,
      reader(begun) {
        let header: PcapHeader | null = null
        return pcapReader(
          (its) => {
            header = its
            begun()
          },
          (bytes, at, to) => header && arrivals.add(header.link, bytes, at, to, recordTime(bytes, at, header)),
          { links: LINK_TYPES, maxRecord: MAX_RECORD },
        )
      },
    },
    warn,
  )
  await tcpdump.start()
  return async () => {
    await tcpdump.stop()
    return { arrivals: arrivals.all(), left: arrivals.left }
  }
}
