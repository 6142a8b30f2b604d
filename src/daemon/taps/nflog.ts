import { readdir, readFile, readlink } from 'node:fs/promises'
import { keepAlive } from './child'
import { packetReader } from './packet'
import { pcapReader } from './pcap'
import type { TapSource } from './source'

/** Bytes of a packet that are asked for: what NFLOG says of it, the longest headers that are read, and a datagram knock. */
const SNAP_LENGTH = 320
/** The capture's buffer in KiB: with it a flood of 50,000 packets a second came through without loss. */
const BUFFER = 8192
/** Netlink's protocol number of netfilter. */
const NETLINK_NETFILTER = 12

/**
 * The firewall's NFLOG group, read by tcpdump as a child: what it writes is a stream that we parse strictly. Restarted when it dies.
 * @param warn told when the capture has died
 * @param datagrams ports of datagram knocks, see {@link packetReader}
 */
export function nflogSource(
  group: number,
  prefix: string,
  warn: (message: string) => void,
  datagrams: readonly number[] = [],
): TapSource {
  const counters: TapSource['counters'] = { seen: 0, ignored: 0, unreadable: 0, dropped: null }
  const readPacket = packetReader(prefix, datagrams, () => counters.unreadable++)
  let hear: Parameters<TapSource['start']>[0] = () => {}
  let before = 0
  const root = process.getuid?.() === 0 ? ['-Z', 'root'] : []
  const tcpdump = keepAlive(
    {
      argv: ['tcpdump', '-i', `nflog:${group}`, '-n', '-U', '-s', `${SNAP_LENGTH}`, '-B', `${BUFFER}`, '-w', '-', ...root],
      hears: `NFLOG group ${group}`,
      hint: 'if another program has the group (see /proc/net/netfilter/nfnetlink_log), set another [taps] group and run "knockturn firewall install"',
      chatter: /packets|listening on/,
      reader(begun) {
        before = counters.dropped ?? 0
        return pcapReader(begun, (bytes, from, to) => {
          counters.seen++
          const tap = readPacket(bytes, from, to)
          if (tap) hear(tap)
          else counters.ignored++
        })
      },
    },
    warn,
  )

  const count = async () => {
    const { pid } = tcpdump
    const drops = netlinkDrops(await readFile('/proc/self/net/netlink', 'latin1').catch(() => ''), await socketsOf(pid))
    // A life that ended meanwhile has had its last count.
    if (drops !== null && pid === tcpdump.pid) counters.dropped = before + drops
  }

  return {
    counters,
    count,
    start(each) {
      hear = each
      return tcpdump.start()
    },
    async stop() {
      await count()
      await tcpdump.stop()
    },
  }
}

/** The inodes of a process's sockets; none where it can't be looked at. */
export async function socketsOf(pid: number | undefined): Promise<string[]> {
  const folder = `/proc/${pid}/fd`
  const names = await readdir(folder).catch(() => [])
  const links = await Promise.all(names.map((name) => readlink(`${folder}/${name}`).catch(() => '')))
  return links.flatMap((link) => /^socket:\[(\d+)\]$/.exec(link)?.[1] ?? [])
}

/**
 * What the kernel has dropped for want of room in a netfilter socket, from the text of /proc/self/net/netlink. (What tcpdump says at
 * SIGUSR1 is not that: of 49,918 packets that were dropped it said 10,083.)
 * @param inodes of the sockets of its reader. Not its process id, which any local user may take as the port of a socket of their own.
 * @returns null where none of them is there
 */
export function netlinkDrops(text: string, inodes: readonly string[]): number | null {
  const rows = text.split('\n').map((line) => line.trim().split(/\s+/))
  const row = rows.find((fields) => Number(fields[1]) === NETLINK_NETFILTER && inodes.includes(fields[9]))
  return row ? Number(row[8]) : null
}
