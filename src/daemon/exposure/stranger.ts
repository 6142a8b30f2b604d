import type { Service } from '../../protocol/service'
import type { Family } from '../iptables/table'
import type { Split } from './share'

/**
 * A packet by which a stranger begins: a SYN or a first datagram to a service. Strangers are those whom no rule knows by a small block of
 * addresses: an administrator who accepts 203.0.113.0/24 means it.
 */
export interface Stranger extends Service {
  /** The interface that it comes by; null where that is not known. */
  readonly by: string | null
  readonly from: bigint
  /** The address of ours that it goes to; null where that is not known. */
  readonly to: bigint | null
}

/** What is known of this machine before any rule is read. */
export interface Surroundings {
  readonly family: Family
  /** Interfaces by which strangers come; none where that is not known. */
  readonly interfaces: readonly string[]
  /** Addresses of this machine that strangers can name; none where that is not known. */
  readonly addresses: readonly bigint[]
  readonly services: readonly Service[]
}

/** Addresses from one to another, both of them in it. */
export interface Range {
  readonly low: bigint
  readonly high: bigint
}

/** What rules before this one may have done to a packet: given it a mark, kept conntrack from it, or sent it here from another port. */
export const MARKED = 1
export const UNTRACKED = 2
export const FORWARDED = 4

/** What one condition of a rule holds for: the same for all strangers, or by the packet and what may have been done to it. */
export type Match = Split | ((packet: Stranger, past: number) => Split)

/** What conditions tell apart: blocks of sources and destinations, and patterns of interfaces. */
export interface Tells {
  readonly sources: Range[]
  readonly destinations: Range[]
  readonly interfaces: string[]
}

/** An option of a match with its arguments, such as `! --dports 22,80`. */
export interface Option {
  readonly name: string
  readonly isNot: boolean
  readonly args: readonly string[]
}
