import type { Backend } from '../lab/backend'

/* What an attack is, and its outcome. */

export const KINDS = [
  'replay',
  'edge',
  'crash',
  'forgery',
  'delay',
  'scan',
  'flood',
  'cancel',
  'injection',
  'neighbours',
  'closing',
  'bypass',
  'share',
  'policy',
  'datagram',
  'passcode',
  'cafe',
  'fleet',
] as const
export type Kind = (typeof KINDS)[number]

/** How much is tried: `full` is what `npm test` has time for, `long` is for `npm run attack -- --long`. */
export interface Scale {
  readonly isLong: boolean
  /** Picks the number of tries. */
  times(full: number, long: number): number
}

/** The outcome of an attack. */
export interface Outcome {
  /** How often it was tried, and how often that opened a door: anything but 0 is a defeat. */
  readonly tried: number
  readonly opened: number
  /** Honest knocks that were sent during the attack or after it, and how many of them opened: anything but all is a defeat. */
  readonly honest?: { readonly tried: number; readonly opened: number }
  /** What was logged, and how often. */
  readonly said?: Readonly<Record<string, number>>
  /** Any other promise that was broken: each line is a defeat. */
  readonly broken?: readonly string[]
  /** A figure worth reporting: rates, memory. */
  readonly note?: string
}

/** A named attack. */
export interface Attack {
  readonly kind: Kind
  /** Short, unique, in lower case; docs/threat-model.md quotes it. */
  readonly name: string
  /** One sentence: what the attacker has, does and wants. */
  readonly what: string
  readonly run: (scale: Scale) => Promise<Outcome>
  /** The one backend that it is about; otherwise it may be tried with each. */
  readonly backend?: Backend
  /** Whether it is about a guard, of whichever backend. */
  readonly needsGuard?: boolean
  /** Whether it is the kernel's rules that hold it off: then `npm test` tries it with each backend, and otherwise with the usual one. */
  readonly isOfRules?: boolean
}

/** Whether an attack is tried on servers with a backend. @param isGuarded whether a guard shuts their ports */
export function isOf({ backend, needsGuard }: Attack, other: Backend, isGuarded = other === 'nftables'): boolean {
  return (backend === undefined || backend === other) && (isGuarded || !needsGuard)
}

/** Whether an attack was held off. */
export function holds({ opened, honest, broken = [] }: Outcome): boolean {
  return opened === 0 && (honest === undefined || honest.opened === honest.tried) && broken.length === 0
}
