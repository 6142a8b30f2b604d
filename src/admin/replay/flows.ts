import { ipHead } from './link'

/* Which datagrams of a capture begin something: a log rule hears only those that belong to no flow, and a capture has all. */

const UDP = 17
/** Flows that are remembered, and for how many milliseconds: as long as conntrack keeps a flow that has been answered. */
const MAX_FLOWS = 65_536
const FLOW_LIFE = 120_000

/** Datagrams that this machine or others have sent, by their addresses and ports. */
export class Flows {
  /** name → when it was last seen, the oldest first */
  readonly #seen = new Map<string, number>()
  readonly #answered = new Map<string, number>()

  /**
   * Takes an IP packet.
   * @param at Unix milliseconds
   * @returns whether it is a datagram of a flow that has been answered, or the answer itself, and so no tap
   */
  belongs(bytes: Uint8Array, from: number, to: number, at: number): boolean {
    const ends = endsOf(bytes, from, to)
    if (!ends) return false
    const [here, back] = ends
    const isAnswer = isLive(this.#seen, back, at)
    if (isAnswer) {
      keep(this.#answered, here, at)
      keep(this.#answered, back, at)
    }
    keep(this.#seen, here, at)
    return isAnswer || isLive(this.#answered, here, at)
  }
}

function isLive(flows: ReadonlyMap<string, number>, name: string, at: number): boolean {
  const seen = flows.get(name)
  return seen !== undefined && at - seen <= FLOW_LIFE
}

function keep(flows: Map<string, number>, name: string, at: number): void {
  flows.delete(name)
  flows.set(name, at)
  if (flows.size > MAX_FLOWS) flows.delete(flows.keys().next().value as string)
}

/** The names of a datagram's flow, there and back; null for any other packet. */
function endsOf(bytes: Uint8Array, from: number, to: number): [string, string] | null {
  const head = ipHead(bytes, from, to)
  if (head?.protocol !== UDP || head.body + 4 > to) return null
  const { addresses, length, body: ports } = head
  const text = (at: number, size: number) => String.fromCharCode(...bytes.subarray(at, at + size))
  const source = text(addresses, length) + text(ports, 2)
  const destination = text(addresses + length, length) + text(ports + 2, 2)
  return [source + destination, destination + source]
}
