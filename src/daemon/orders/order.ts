import { dirname, join } from 'node:path'
import * as v from 'valibot'
import { LEASE_ID } from '../../gate/firewall'
import type { Named } from '../../gate/fitting'
import { canonicalAddress, formatCidr, parseCidr } from '../../protocol/address'
import { KEY_ID } from '../../protocol/key'
import { readJson } from '../../system/json'
import { leaseSchema, lockSchema, type StateLease, type StateLock, time } from '../state/state'

/* What an administrator tells a daemon that runs: a file in a folder that root alone may write, and its answer in the daemon's own folder. */

/** Longest order in bytes: a key's id and an address are the longest that it says. */
export const MAX_ORDER = 4 * 1024
/** Longest answer in bytes: all leases of the largest firewall, 65,536 at some 230 bytes. */
export const MAX_ANSWER = 32 * 1024 * 1024
/** An order of more than so many milliseconds ago is not carried out: whoever gave it is told so, and has gone on. */
export const ORDER_LIFE = 10_000
/** How long a daemon waits for an awaited tap, in milliseconds. */
export const AWAIT_LIMIT = 8_000
/** Files that may lie in the folder of orders: whoever gives one takes it away again. */
export const MAX_ORDERS = 1_024

/** What a daemon may be told. */
export type Order =
  /** Closes all leases that are named; at least one field is given. */
  | ({ readonly kind: 'close' } & Named)
  /** Takes the locks off an address. */
  | { readonly kind: 'unlock'; readonly address: string }
  /** Is answered when a tap from there arrives, or after {@link AWAIT_LIMIT}. */
  | { readonly kind: 'await-tap'; readonly source: string }

/** What came of an order. */
export interface Answer {
  readonly id: string
  /** ISO 8601 */
  readonly at: string
  /** What the firewall has followed in. */
  readonly closed?: readonly StateLease[] | undefined
  readonly unlocked?: readonly StateLock[] | undefined
  readonly heard?: boolean | undefined
  /** Why not all of it could be done. */
  readonly failed?: string | undefined
}

/** An order as its file has it. */
export interface GivenOrder {
  readonly id: string
  /** Unix milliseconds */
  readonly at: number
  readonly order: Order
}

const ORDER_VERSION = 1
/** The name of an order, without which it can't be answered. */
const ORDER_ID = /^[0-9a-f]{16}$/
const ORDER_FILE = /^([0-9a-f]{16})\.json$/

const address = v.pipe(
  v.string(),
  v.check((text) => canonicalAddress(text) === text),
)
const block = v.pipe(
  v.string(),
  v.check((text) => {
    const cidr = parseCidr(text)
    return cidr !== null && formatCidr(cidr) === text
  }),
)

const orderSchema = v.variant('kind', [
  v.pipe(
    v.strictObject({
      kind: v.literal('close'),
      id: v.optional(v.pipe(v.string(), v.regex(LEASE_ID))),
      key: v.optional(v.pipe(v.string(), v.regex(KEY_ID))),
      address: v.optional(block),
    }),
    // Without a field it would close all there is.
    v.check(({ id, key, address }) => id !== undefined || key !== undefined || address !== undefined),
  ),
  v.strictObject({ kind: v.literal('unlock'), address }),
  v.strictObject({ kind: v.literal('await-tap'), source: address }),
])

const fileSchema = v.strictObject({
  version: v.literal(ORDER_VERSION),
  id: v.pipe(v.string(), v.regex(ORDER_ID)),
  at: time,
  order: orderSchema,
})

const answerSchema = v.object({
  id: v.pipe(v.string(), v.regex(ORDER_ID)),
  at: time,
  closed: v.optional(v.array(leaseSchema)),
  unlocked: v.optional(v.array(lockSchema)),
  heard: v.optional(v.boolean()),
  failed: v.optional(v.string()),
})

/** The folder of orders: beside the ledger's folder, and not in it, since that is the daemon's. @param ledger the ledger's path */
export const ordersFolder = (ledger: string): string => `${dirname(ledger)}-orders`

/** The folder of answers, which is the daemon's own. @param ledger the ledger's path */
export const answersFolder = (ledger: string): string => join(dirname(ledger), 'answers')

/** The name of an order's file, and of its answer's. */
export const orderFile = (id: string): string => `${id}.json`

/** The order of which a file has the name; null: of none. */
export const orderOfFile = (name: string): string | null => ORDER_FILE.exec(name)?.[1] ?? null

/** Whether a daemon would carry an order out: ids and addresses are as its state has them. */
export const isOrder = (order: Order): boolean => v.is(orderSchema, order)

/** Writes an order, as {@link parseOrder} reads it. */
export function formatOrder({ id, at, order }: GivenOrder): string {
  return `${JSON.stringify({ version: ORDER_VERSION, id, at: new Date(at).toISOString(), order })}\n`
}

/** Reads the text of an order's file. @returns null where it is none */
export function parseOrder(text: string): GivenOrder | null {
  const read = readJson(fileSchema, text)
  if (!read) return null
  const { id, at, order } = read
  return { id, at: Date.parse(at), order }
}

/** Reads the text of an answer's file. @returns null where it is none */
export function parseAnswer(text: string): Answer | null {
  return readJson(answerSchema, text)
}
