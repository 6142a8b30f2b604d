// The stage of the attacks on real daemons: a server, a user, and an attacker who hears what passes and sends what they like, from any address.

import { join } from 'node:path'
import type { Host } from '../lab/host'
import { makeLab } from '../lab/lab'
import { until } from '../lab/waiters'
import { type Datagram, type Packet, writeIp, writePcap, writePcap6 } from './packets'

export const SSH = 22
/** Milliseconds after which a door that does not answer is closed. */
const SILENCE = 300
/** Milliseconds within which an honest knock has to open. */
const PATIENCE = 3_000
/** Bytes of a packet that are recorded: all that a frame has, and no more, because each uses up the recorder's room. */
const WHOLE = 1_514
/** The first of the ports that nobody knocks on: a datagram to one of them shows how much the capture contains. */
const MARKS = 20_000
/** Seconds after which a flood ends by itself. */
const LONGEST_FLOOD = 120
/** What the user sends from, and the attacker: a block each, with room for an address for each try. A flood comes from neither. */
const USERS = '10.66'
const ATTACKERS = '10.67'
const BLOCK = 250

export type Stage = Awaited<ReturnType<typeof makeStage>>

/** @param others further hosts */
export async function makeStage(...others: string[]) {
  const lab = await makeLab(['user', 'attacker', ...others])
  try {
    return await furnish(lab)
  } catch (error) {
    await lab.end()
    throw error
  }
}

async function furnish(lab: Awaited<ReturnType<typeof makeLab>>) {
  const { server, user, attacker } = lab.hosts
  await server.service(SSH)
  for (const block of [USERS, ATTACKERS]) await server.must(['ip', 'route', 'add', `${block}.0.0/16`, 'dev', 'eth0'])
  const mac = async (host: Host) => (await host.must(['cat', '/sys/class/net/eth0/address'])).trim()
  const [to, from] = [await mac(server), await mac(attacker)]
  // What an eavesdropper gets: everything that passes on the wire in front of the server.
  const tape = await lab.wire.capture('server', WHOLE)
  let made = 0
  let files = 0
  let marks = 0
  const folder = lab.folder()
  const file = () => join(folder, `${++files}.pcap`)

  /** Gives a host one more address. */
  const another = async (host: Host) => {
    const number = made++
    const address = `${host === attacker ? ATTACKERS : USERS}.${Math.floor(number / BLOCK)}.${1 + (number % BLOCK)}`
    await host.must(['ip', 'address', 'add', `${address}/32`, 'dev', 'eth0'])
    return address
  }

  /** Everything that a source has sent except its connections to the door: what comes later on the wire is in the capture. */
  const heard = async (source: string) => {
    const mark = MARKS + marks++
    await attacker.replay([{ protocol: 'udp', port: mark }], server.ipv4)
    await until(async () => (await tape.taps()).some(({ port }) => port === mark), 'the mark on the tape')
    return (await tape.taps()).filter((tap) => tap.source === source && tap.port !== SSH)
  }

  return {
    lab,
    server,
    user,
    attacker,
    tape,
    another,
    end: () => lab.end(),

    /** Has a host send from one of its addresses, whatever program it runs. */
    speakFrom: (host: Host, address: string) =>
      host.must(['ip', 'route', 'replace', `${server.ipv4}/32`, 'dev', 'eth0', 'src', address]),

    /** To how many of these addresses the door is open. */
    open: async (host: Host, addresses: string[]) => {
      const answers = await Promise.all(addresses.map((address) => host.connect(server.ipv4, SSH, SILENCE, address)))
      return answers.filter(({ saw }) => saw === 'open').length
    },

    /**
     * Whether the door opens to an address while something is done, or before the user's patience ends. A door that opens early
     * may have closed again when a slow client ends.
     */
    opens: async (host: Host, address: string, work: () => unknown = () => {}, patience = PATIENCE) => {
      let end = Infinity
      const look = async () => {
        while (performance.now() < end)
          if ((await host.connect(server.ipv4, SSH, SILENCE / 3, address)).saw === 'open') return true
        return false
      }
      const looking = look()
      try {
        await work()
      } finally {
        end = performance.now() + patience
      }
      return looking
    },

    heard,

    /** Everything that arrives at the attacker while something is done. */
    arriving: async <T>(work: () => Promise<T>) => {
      const arrived = await attacker.capture()
      try {
        const result = await work()
        const mark = MARKS + marks++
        await user.replay([{ protocol: 'udp', port: mark }], attacker.ipv4)
        await until(async () => (await arrived.taps()).some(({ port }) => port === mark), 'the mark on the tape')
        return { result, taps: (await arrived.taps()).filter(({ port }) => port !== mark) }
      } finally {
        await arrived.end()
      }
    },

    /** What a source has sent except its connections to the door, as a file of packets. */
    recorded: async (source: string) => {
      if ((await heard(source)).length === 0) throw new Error(`no packet of ${source} was captured`)
      const cut = file()
      await lab.wire.must(['tcpdump', '-Z', 'root', '-r', tape.file, '-w', cut, `src host ${source} and not tcp port ${SSH}`])
      return cut
    },

    /** How many packets the server sends to an address, of whatever kind, while something is done. */
    answers: async (address: string, work: () => Promise<unknown>) => {
      const argv = ['tcpdump', '-Z', 'root', '--immediate-mode', '-n', '-i', 'server', `ip src ${server.ipv4} and dst ${address}`]
      const tcpdump = lab.wire.start(argv)
      await tcpdump.line((line) => line.includes('listening on'))
      await work()
      await tcpdump.end('SIGINT')
      return Number(/(\d+) packets? captured/.exec(tcpdump.lines.join('\n'))?.[1])
    },

    /** Replays recorded packets, byte for byte except for the given source. */
    play: (pcap: string, was: string, source: string) => {
      const edit = [`--enet-smac=${from}`, ...(source === was ? [] : [`--srcipmap=${was}/32:${source}/32`])]
      return attacker.must(['tcpreplay-edit', '-q', '--no-flow-stats', '--topspeed', '-i', 'eth0', ...edit, pcap])
    },

    /** Sends packets again and again, this many a second, until it is ended. */
    flood: (pcap: string, pps: number) => {
      const began = performance.now()
      const argv = ['tcpreplay', '--preload-pcap', '--no-flow-stats', '--timer=nano', '--loop=0', `--pps=${pps}`]
      const sender = attacker.start([...argv, `--duration=${LONGEST_FLOOD}`, '-i', 'eth0', pcap])
      return {
        /** Milliseconds so far. */
        lasts: () => performance.now() - began,
        /** Ends it, and returns what it has sent. */
        end: async () => {
          await sender.end('SIGINT')
          const text = sender.lines.join('\n')
          const [packets, rate] = [/Actual: (\d+) packets/.exec(text)?.[1], /([\d.]+) pps/.exec(text)?.[1]]
          if (!packets) throw new Error(`tcpreplay did not report what it sent: ${text}`)
          return { packets: Number(packets), pps: Number(rate) }
        },
      }
    },

    /** Makes a file of SYNs. */
    pack: (packets: Packet[]) => writePcap(file(), packets, { from, to, destination: server.ipv4, destination6: server.ipv6 }),

    /** Makes a file of IP packets. */
    packIp: (packets: Buffer[]) => writeIp(file(), packets, { from, to }),

    /** Makes a file of UDP datagrams over IPv6. */
    pack6: (datagrams: Datagram[]) => writePcap6(file(), datagrams, { from, to, destination: server.ipv6 }),
  }
}
