import type { Key } from '../protocol/key'
import type { Request } from '../protocol/request'

/* What is sent, and how. */

/** How the ports of a knock are touched, whatever they say. */
export interface Manner {
  readonly udp: boolean
  /** Milliseconds between two ports. */
  readonly pace: number
  readonly passes: number
  /** The local address from which alone it is sent, which fails where this machine does not have it; none: what the system chooses. */
  readonly from?: string | undefined
  readonly random: () => number
}

/** A request, and how it is sent. */
export interface Sending extends Manner {
  readonly key: Key
  /** Everything but the salt, which each knock gets anew. */
  readonly request: Omit<Request, 'salt'>
  readonly parity: number | undefined
  /** The port to which the whole knock goes in one UDP datagram; none: it is said by ports. */
  readonly datagram?: number | undefined
  /** Seconds by which this machine's clock is to be corrected. */
  readonly timeOffset: number
}

/** One knock: the ports to touch, or the datagram to send, good for one window. */
export interface Sequence {
  readonly window: number
  readonly ports: number[]
  /** What a datagram carries to its one port. */
  readonly payload?: Uint8Array
  readonly request: Request
}

/** What of a knock is sent, and how. */
export interface Sent {
  readonly sending: Manner
  readonly sequence: {
    /** In the order in which they are touched. */
    readonly ports: readonly number[]
    /** What a datagram carries to its one port. */
    readonly payload?: Uint8Array
  }
}

/** A knock that is sent beside others. */
export interface Outgoing extends Sent {
  readonly sending: Sending
  readonly sequence: Sequence
  /** The port whose service shows that it has opened; null: nothing shows it. */
  readonly watched: number | null
}
