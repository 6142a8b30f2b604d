import * as v from 'valibot'
import { readBy } from '../../../system/json'
import { type Condition, type Done, type Header, MAX_REVISION, type Outcome, type Row, type Step, type Transaction } from './etcd'

/*
 * What is said to etcd's JSON gateway, and what it says. Names and values are base64, 64-bit numbers are strings, and what is zero or empty is
 * left out. A misspelt field is ignored there in silence: everything that we say is written here, and nowhere else.
 */

/** Names and values as etcd has them, below a prefix. */
export class Form {
  /** @param prefix in front of the names of all rows */
  constructor(readonly prefix: string) {}

  /** A row's name. */
  name(row: string): string {
    return coded(this.prefix + row)
  }

  transaction({ if: conditions, do: steps, else: others }: Transaction): object {
    return {
      compare: conditions.map((condition) => this.#condition(condition)),
      success: steps.map((step) => this.#step(step)),
      failure: others.map((step) => this.#step(step)),
    }
  }

  /** @throws {RangeError} of a value that is empty: etcd takes it for one that equals all others */
  #condition(condition: Condition): object {
    const key = this.name(condition.row)
    if ('value' in condition && condition.value === '') throw new RangeError('expected a value to compare with, got none')
    switch (condition.is) {
      case 'absent':
        return { key, target: 'CREATE', result: 'EQUAL', create_revision: '0' }
      case 'there':
        return { key, target: 'VERSION', result: 'GREATER', version: '0' }
      case 'modified':
        return { key, target: 'MOD', result: 'EQUAL', mod_revision: String(condition.revision) }
      case 'since':
        return { key, target: 'MOD', result: 'GREATER', mod_revision: String(condition.revision - 1) }
      case 'equal':
        return { key, target: 'VALUE', result: 'EQUAL', value: coded(condition.value) }
      case 'below':
        return { key, target: 'VALUE', result: 'LESS', value: coded(condition.value) }
    }
  }

  #step(step: Step): object {
    if ('put' in step) {
      const lease = step.lease ? { lease: step.lease } : {}
      return { request_put: { key: this.name(step.put), value: coded(step.value), ...lease } }
    }
    if ('remove' in step) return { request_delete_range: { key: this.name(step.remove) } }
    if ('removeFrom' in step) return { request_delete_range: { key: this.name(step.removeFrom), range_end: this.name(step.to) } }
    if ('get' in step) return { request_range: { key: this.name(step.get) } }
    return { request_txn: this.transaction(step) }
  }

  /**
   * Reads what came of a transaction.
   * @returns null where it is no answer to this one
   */
  outcome({ do: steps, else: others }: Transaction, answer: unknown): Outcome | null {
    const read = readBy(txnSchema, answer)
    if (!read) return null
    const { header, succeeded: held, responses } = read
    const asked = held ? steps : others
    const done = asked.map((step, i) => this.#done(step, responses[i]))
    if (responses.length !== asked.length || done.includes(null)) return null
    return { header, held, done: done as Done[] }
  }

  /** @returns null where the answer is none to this step */
  #done(step: Step, response: v.InferOutput<typeof responseSchema> | undefined): Done | null {
    if (!response) return null
    if ('get' in step) {
      const rows = response.response_range && this.rows(response.response_range.kvs)
      return rows ? { rows } : null
    }
    const isDone =
      'put' in step
        ? response.response_put
        : 'remove' in step || 'removeFrom' in step
          ? response.response_delete_range
          : response.response_txn
    return isDone ? { rows: [] } : null
  }

  /** Reads a page of rows: with the name of the last one as etcd has it, where more are to come. */
  page(answer: unknown): { readonly header: Header; readonly rows: readonly Row[]; readonly next: string | null } | null {
    const read = readBy(rangeSchema, answer)
    if (!read) return null
    const { header, kvs, more } = read
    const rows = this.rows(kvs)
    const last = kvs.at(-1)
    if (!rows || (more && !last)) return null
    // The least name behind it.
    const next = more && last ? Buffer.concat([Buffer.from(last.key, 'base64'), Buffer.of(0)]).toString('base64') : null
    return { header, rows, next }
  }

  /** @returns null where one of them is not below the prefix */
  rows(found: readonly v.InferOutput<typeof rowSchema>[]): Row[] | null {
    const rows = found.map((row) => this.row(row))
    return rows.includes(null) ? null : (rows as Row[])
  }

  row({ key, value, create_revision, mod_revision, lease }: v.InferOutput<typeof rowSchema>): Row | null {
    const row = this.named(key)
    if (row === null) return null
    const own = lease === '0' ? null : lease
    return { row, value: decoded(value), created: create_revision, modified: mod_revision, lease: own }
  }

  /** A row's name by etcd's; null where it is not below the prefix. */
  named(key: string): string | null {
    const name = decoded(key)
    return name.startsWith(this.prefix) ? name.slice(this.prefix.length) : null
  }
}

const coded = (text: string): string => Buffer.from(text, 'utf8').toString('base64')
/** What somebody else has written may be no text: then it is none that anybody here has written, and still a row that is there. */
const decoded = (base64: string): string => Buffer.from(base64, 'base64').toString('utf8')

// ---- schemas: etcd's later versions may say more

const base64 = v.pipe(v.string(), v.regex(/^[A-Za-z0-9+/]*={0,2}$/))
const digits = v.pipe(v.string(), v.regex(/^-?\d{1,20}$/))
/** A 64-bit number that we count with. */
const count = v.optional(
  v.pipe(
    v.string(),
    v.regex(/^-?\d{1,16}$/),
    v.transform((text) => Number(text)),
    v.safeInteger(),
  ),
  '0',
)
const revision = v.pipe(count, v.maxValue(MAX_REVISION - 1))

const headerSchema = v.pipe(
  v.object({ cluster_id: digits, revision, raft_term: count }),
  v.transform(({ cluster_id: cluster, revision, raft_term: term }): Header => ({ cluster, revision, term })),
)

const rowSchema = v.object({
  key: base64,
  value: v.optional(base64, ''),
  create_revision: revision,
  mod_revision: revision,
  lease: v.optional(digits, '0'),
})
const rows = v.optional(v.array(rowSchema), [])

const rangeSchema = v.object({ header: headerSchema, kvs: rows, more: v.optional(v.boolean(), false) })

const some = v.optional(v.looseObject({}))
const responseSchema = v.object({
  response_range: v.optional(v.object({ kvs: rows })),
  response_put: some,
  response_delete_range: some,
  response_txn: some,
})
const txnSchema = v.object({
  header: headerSchema,
  // Left out where it is false: only what says just this has held.
  succeeded: v.optional(v.boolean(), false),
  responses: v.optional(v.array(responseSchema), []),
})

/** What a member says of its watch, a line each. */
export const watchSchema = v.object({
  result: v.object({
    created: v.optional(v.boolean(), false),
    canceled: v.optional(v.boolean(), false),
    cancel_reason: v.optional(v.string(), ''),
    compact_revision: count,
    events: v.optional(v.array(v.object({ type: v.optional(v.picklist(['PUT', 'DELETE']), 'PUT'), kv: rowSchema })), []),
  }),
})

export const grantSchema = v.object({ ID: digits, TTL: count, error: v.optional(v.string(), '') })
export const leftSchema = v.object({ ID: digits, TTL: count })
export const compactSchema = v.object({ header: headerSchema })
export const tokenSchema = v.object({ token: v.pipe(v.string(), v.regex(/^[\x21-\x7e]{1,8192}$/)) })
export const statusSchema = v.object({
  version: v.pipe(v.string(), v.regex(/^[\x21-\x7e]{1,64}$/)),
  dbSize: count,
  dbSizeInUse: count,
  /** From etcd 3.6 on. */
  dbSizeQuota: count,
  leader: v.optional(digits, '0'),
  raftIndex: count,
  errors: v.optional(v.array(v.string()), []),
})
