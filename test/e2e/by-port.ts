import { join } from 'node:path'
import type { Host } from '../lab/host'
import type { Lab } from '../lab/lab'
import { until } from '../lab/waiters'
import { writePcap } from '../replay/packets'

/* A connection that is begun once more by the port of one that was: conntrack may take it for that. */

export type Family = 'ipv4' | 'ipv6'
const ACK = 0x10
/** Milliseconds within which it is answered, or not at all. */
const ANSWER = 3_000

/** What a client does by its port. @param service the server's port */
export function byPort({ lab, server, client }: { lab: Lab; server: Host; client: Host }, service: number) {
  const mac = async (host: Host) => (await host.must(['cat', '/sys/class/net/eth0/address'])).trim()

  /** Holds a connection by a port, and gives what its client would send next. */
  async function connected(family: Family, port: number) {
    const wire = await lab.wire.capture('server', 128, `tcp port ${port}`)
    const connection = await client.hold(server[family], service, undefined, port)
    const packets = async () => (await lab.wire.must(['tcpdump', '-nn', '-S', '-r', wire.file])).split('\n')
    /** The greeting that the server has sent tells where both are. */
    const last = async () => (await packets()).flatMap((line) => /seq (\d+):(\d+), ack (\d+)/.exec(line) ?? []).map(Number)
    await until(async () => (await last()).length > 0, 'the greeting is on the wire')
    const [, , ack, seq] = await last()
    await wire.end()
    return { connection, port, next: { seq: seq as number, ack: ack as number } }
  }

  /** RST, a stray ACK, and a SYN, all by the port of the connection that was. */
  async function trick(family: Family, { connection, port, next }: Awaited<ReturnType<typeof connected>>) {
    await connection.reset()
    const file = writePcap(
      join(lab.folder(), 'ack.pcap'),
      [{ source: client[family], port: service, from: port, flags: ACK, ...next }],
      { from: await mac(client), to: await mac(server), destination: server.ipv4, destination6: server.ipv6 },
    )
    await client.must(['tcpreplay', '-q', '-i', 'eth0', file])
    return (await client.connect(server[family], service, ANSWER, undefined, port)).saw
  }

  return { connected, trick }
}
