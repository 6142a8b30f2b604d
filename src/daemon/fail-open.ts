import * as v from 'valibot'
import { type Cidr, parseCidr } from '../protocol/address'
import { parseDuration } from '../system/time'
import { text } from '../system/toml-entries'

/* What opens for known blocks when the daemon has been dead for long. bin/knockturn-fail-open does it, without us. */

/** For whom the guarded ports open, and after how many minutes in which no daemon has heard anything. */
export interface FailOpen {
  readonly blocks: readonly Cidr[]
  readonly minutes: number
}

/**
 * Fewest bits of a block: a /8 is the largest that one organisation has (10.0.0.0/8), and a /32 is what a provider gets. Whoever writes a larger
 * one means everybody.
 */
const LEAST_BITS = { 4: 8, 16: 32 } as const
/** Most blocks: an office, a VPN, some homes. */
const MAX_BLOCKS = 16
/** Minutes: a deaf daemon is restarted within two, and an upgrade takes some more; who is locked out for a day has found another way. */
const [LEAST, MOST, DEFAULT] = [5, 1_440, 10]

/** Reads a block that is no larger than may be. @throws {RangeError} of one that is */
function parseKnown(input: string): Cidr | null {
  const block = parseCidr(input)
  if (block && block.bits < (LEAST_BITS[block.bytes.length as 4 | 16] ?? 0))
    throw new RangeError('expected blocks no larger than a /8 of IPv4 or a /32 of IPv6')
  return block
}

/** Reads a duration as whole minutes, rounded up: null where it is none that may be. */
function parseMinutes(input: string): number | null {
  const minutes = Math.ceil((parseDuration(input) ?? 0) / 60)
  return minutes >= LEAST && minutes <= MOST ? minutes : null
}

/** Its entries of [firewall]. */
export const failOpenEntries = {
  fail_open_to: v.optional(
    v.pipe(
      v.array(text(parseKnown, 'a block such as "198.51.100.0/24", with zeros behind the prefix')),
      v.maxLength(MAX_BLOCKS, `at most ${MAX_BLOCKS} blocks`),
    ),
    [],
  ),
  fail_open_after: v.optional(text(parseMinutes, 'a duration from "5m" to "24h"')),
}

interface Entries {
  readonly backend: string
  readonly guard: 'all' | readonly unknown[]
  readonly fail_open_to: readonly Cidr[]
  readonly fail_open_after?: number | undefined
}

/** What of them does not fit the others: the entry, and what it requires; null where all does. */
export function failOpenFault({ backend, guard, fail_open_to, fail_open_after }: Entries): [keyof Entries, string] | null {
  if (fail_open_to.length === 0)
    return fail_open_after === undefined ? null : ['fail_open_after', 'requires fail_open_to in [firewall]']
  if (guard.length === 0) return ['fail_open_to', 'requires a guard in [firewall]: nothing else is opened']
  if (backend === 'dry-run') return ['fail_open_to', 'requires backend = "nftables" or "iptables"']
  return null
}

/** What the entries come to; nothing where they are not set. */
export function failOpenOf({ fail_open_to: blocks, fail_open_after: minutes = DEFAULT }: Entries): { failOpen?: FailOpen } {
  return blocks.length > 0 ? { failOpen: { blocks, minutes } } : {}
}

/** The comment of each rule that opens. */
export const FAIL_OPEN_MARK = 'knockturn:fail-open'
/** The line by which bin/knockturn-fail-open knows how long it has to wait: no heading of a file, which begins with one `#` (see printedFiles). */
export const minutesLine = ({ minutes }: FailOpen): string => `## minutes: ${minutes}`
