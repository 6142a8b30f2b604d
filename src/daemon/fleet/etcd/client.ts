import * as v from 'valibot'
import { Fault } from '../../../system/fault'
import type { FleetConfig } from '../config'
import {
  type Etcd,
  type EtcdStatus,
  type Outcome,
  type Patience,
  type Row,
  type Transaction,
  Unavailable,
  type Watching,
} from './etcd'
import { compactSchema, Form, grantSchema, type headerSchema, leftSchema, statusSchema, tokenSchema } from './json'
import { Login, readLogin } from './login'
import { Member } from './member'
import { CODE, Refused, readAnswer } from './refused'
import { statusOf } from './status'
import { readTrust } from './tls'
import { askInTurn, Turns } from './turns'
import { follow } from './watch'

/** Longest answer in bytes: a page of the longest rows, of 2 KiB each, is an eighth of it. */
const MAX_ANSWER = 8 * 1024 * 1024
/** Longest answer with metrics: an etcd has some 150 KB of them. */
const MAX_METRICS = 4 * 1024 * 1024
/** Rows in a page of a list. */
const PAGE = 500
/** Most rows of a list: all leases of all gateways' firewalls (65,536 where it can hold most), and as much again. */
const MAX_ROWS = 131_072
/** Most characters of them: half a kilobyte for each is more than a lease takes. */
const MAX_TEXT = 64 * 1024 * 1024
/** Calls at a time: etcd answers a thousand a second, so that what comes behind these would not be answered in time either. */
const MAX_CALLS = 2_048

/**
 * Opens an etcd: reads the files that the config names, and connects when something is asked.
 * @throws {Fault} where such a file can't be read or is not what it should be
 */
export async function openEtcd(config: FleetConfig): Promise<Etcd> {
  const isTls = config.endpoints.some((endpoint) => endpoint.startsWith('https:'))
  const trust = isTls ? await readTrust(config.tls) : null
  if (config.login !== null) await readLogin(config.login)
  const renew = () =>
    readTrust(config.tls).catch((error) => {
      // They may be half written: what was read before counts until they are whole.
      if (error instanceof Fault) return null
      throw error
    })
  const members = config.endpoints.map((endpoint) => new Member(endpoint, endpoint.startsWith('https:') ? trust : null, renew))
  return new Client(config, members)
}

/** What is asked of a member. */
interface Asked<T> {
  readonly path: string
  readonly body: object
  /** Whether it only looks, so that it makes no difference whether it was done. */
  readonly isLook?: boolean
  /** Reads the answer; null where it is none to this */
  read(answer: unknown): T | null
  /** What a refusal means, where that is an answer, too */
  refused?(refused: Refused): T | null
}

class Client implements Etcd {
  readonly #turns: Turns<Member>
  readonly #form: Form
  readonly #timeout: number
  readonly #login: Login
  readonly #closed = new AbortController()
  #calls = 0

  constructor({ prefix, timeout, login }: FleetConfig, members: readonly Member[]) {
    this.#turns = new Turns(members)
    this.#form = new Form(prefix)
    this.#timeout = timeout
    this.#login = new Login(login, (credentials) => this.#authenticate(credentials))
  }

  transact(transaction: Transaction, patience?: Patience): Promise<Outcome> {
    const body = this.#form.transaction(transaction)
    return this.#ask({ path: '/v3/kv/txn', body, read: (answer) => this.#form.outcome(transaction, answer) }, patience)
  }

  async list(from: string, to: string, { timeout = this.#timeout }: Patience = {}): ReturnType<Etcd['list']> {
    const until = performance.now() + timeout
    const rows: Row[] = []
    let size = 0
    let header: v.InferOutput<typeof headerSchema> | null = null
    let key: string | null = this.#form.name(from)
    while (key !== null) {
      // The pages that follow are of the same moment as the first one.
      const revision: object = header === null ? {} : { revision: String(header.revision) }
      const body = { key, range_end: this.#form.name(to), limit: String(PAGE), ...revision }
      const left = Math.max(1, until - performance.now())
      const asked = { path: '/v3/kv/range', body, isLook: true, read: (answer: unknown) => this.#form.page(answer) }
      const page: NonNullable<ReturnType<Form['page']>> = await this.#ask(asked, { timeout: left })
      header ??= page.header
      for (const row of page.rows) {
        rows.push(row)
        size += row.row.length + row.value.length
      }
      if (rows.length > MAX_ROWS || size > MAX_TEXT)
        throw new Unavailable(`expected at most ${MAX_ROWS} rows of ${MAX_TEXT} bytes in etcd, got more`, 'strange', false)
      key = page.next
    }
    return { header: header as v.InferOutput<typeof headerSchema>, rows }
  }

  watch(from: string, to: string, revision: number, { changed, broke }: Watching, signal: AbortSignal): void {
    const form = this.#form
    const all = AbortSignal.any([signal, this.#closed.signal])
    const tell: Watching['changed'] = (changes) => {
      if (!all.aborted) changed(changes)
    }
    const end = async () => {
      let why: Unavailable | null = null
      let isBegun = false
      const begun = () => {
        isBegun = true
      }
      const watched = { form, from, to, revision, begun, changed: tell }
      for (const member of this.#turns.inTurn) {
        try {
          await this.#withToken(all, (token) => follow(member, token, watched, all))
        } catch (error) {
          if (!(error instanceof Unavailable)) throw error
          why = error
          this.#turns.failed(member)
        }
        if (isBegun || all.aborted) break
      }
      if (!signal.aborted) broke(why?.message ?? '')
    }
    void end()
  }

  grant(seconds: number): Promise<string> {
    const body = { TTL: String(seconds) }
    return this.#ask({
      path: '/v3/lease/grant',
      body,
      read: (answer) => {
        const read = v.safeParse(grantSchema, answer)
        return read.success && read.output.error === '' ? read.output.ID : null
      },
    })
  }

  async left(lease: string): Promise<number | null> {
    const { left } = await this.#ask({
      path: '/v3/lease/timetolive',
      body: { ID: lease },
      isLook: true,
      read: (answer) => {
        const read = v.safeParse(leftSchema, answer)
        if (!read.success || read.output.ID !== lease) return null
        return { left: read.output.TTL < 0 ? null : read.output.TTL }
      },
      refused: ({ code }) => (code === CODE.notFound ? { left: null } : null),
    })
    return left
  }

  async compact(revision: number): Promise<void> {
    await this.#ask({
      path: '/v3/kv/compaction',
      body: { revision: String(revision) },
      read: (answer) => v.is(compactSchema, answer) || null,
      // Somebody else was there before.
      refused: ({ message }) => message.includes('has been compacted') || null,
    })
  }

  status(): ReturnType<Etcd['status']> {
    return Promise.all(
      this.#turns.members.map(async (member) => {
        const status = await this.#statusOf(member).catch((error) => {
          if (error instanceof Unavailable) return error
          throw error
        })
        return { endpoint: member.endpoint, status }
      }),
    )
  }

  close(): void {
    this.#closed.abort()
    for (const member of this.#turns.members) member.close()
  }

  async #statusOf(member: Member): Promise<EtcdStatus> {
    const signal = AbortSignal.any([this.#closed.signal, AbortSignal.timeout(this.#timeout)])
    const path = '/v3/maintenance/status'
    const said = await this.#askMember(
      member,
      { path, body: {}, isLook: true, read: (answer) => read(statusSchema, answer) },
      signal,
    )
    if (said.dbSizeQuota > 0) return statusOf(said, null)
    const metrics = await member
      .call({ method: 'GET', path: '/metrics', body: '', token: null, most: MAX_METRICS }, signal)
      .catch((error) => {
        if (error instanceof Unavailable) return null
        throw error
      })
    return statusOf(said, metrics?.status === 200 ? metrics.text : null)
  }

  async #ask<T>(asked: Asked<T>, { timeout = this.#timeout }: Patience = {}): Promise<T> {
    if (this.#calls >= MAX_CALLS) throw new Unavailable(`more than ${MAX_CALLS} calls of etcd at a time`, 'timeout', false)
    this.#calls++
    try {
      return await askInTurn({
        turns: this.#turns,
        timeout,
        ask: (member, signal) => this.#askMember(member, asked, signal),
        passedOver: (member) => member.dropIdle(),
        signal: this.#closed.signal,
      })
    } finally {
      this.#calls--
    }
  }

  async #askMember<T>(member: Member, asked: Asked<T>, signal: AbortSignal): Promise<T> {
    try {
      return await this.#withToken(signal, (token) => askOnce(member, token, asked, signal))
    } catch (error) {
      const isLook = asked.isLook && error instanceof Unavailable && error.isUnknown
      throw isLook ? new Unavailable(error.message, error.trouble, false) : error
    }
  }

  /** Does something with a token, and again with another one where that one is over. */
  async #withToken<T>(signal: AbortSignal, act: (token: string | null) => Promise<T>): Promise<T> {
    const token = await this.#login.token(signal)
    try {
      return await act(token)
    } catch (error) {
      if (token === null || !(error instanceof Refused) || !error.isToken) throw error
      this.#login.forget(token)
      return act(await this.#login.token(signal))
    }
  }

  /** Asks for a token, in words of our own: what is said about a password is never said on. */
  async #authenticate(credentials: { readonly name: string; readonly password: string }): Promise<string> {
    const asked: Asked<string> = {
      path: '/v3/auth/authenticate',
      body: credentials,
      isLook: true,
      read: (answer) => read(tokenSchema, answer)?.token ?? null,
    }
    return askInTurn({
      turns: this.#turns,
      timeout: this.#timeout,
      ask: (member, signal) =>
        askOnce(member, null, asked, signal).catch((error) => {
          if (error instanceof Refused) error.message = `${member.endpoint}: ${noToken(error)}`
          throw error
        }),
      passedOver: (member) => member.dropIdle(),
      signal: this.#closed.signal,
    })
  }
}

function noToken({ code, isFinal }: Refused): string {
  if (code === CODE.precondition) return 'asks nobody for a password: its authentication is off'
  return isFinal ? 'does not take the user and the password' : `gives no token: error ${code}`
}

async function askOnce<T>(member: Member, token: string | null, asked: Asked<T>, signal: AbortSignal): Promise<T> {
  const { path, body, read, refused } = asked
  const call = { method: 'POST', path, body: JSON.stringify(body), token, most: MAX_ANSWER } as const
  const answer = await member.call(call, signal)
  try {
    const found = read(readAnswer(member.endpoint, answer))
    if (found !== null) return found
  } catch (error) {
    const found = error instanceof Refused ? (refused?.(error) ?? null) : null
    if (found !== null) return found
    throw error
  }
  throw new Unavailable(`${member.endpoint}: expected an answer of etcd's, got something else`, 'strange', true)
}

function read<Output>(schema: v.GenericSchema<unknown, Output>, answer: unknown): Output | null {
  const read = v.safeParse(schema, answer)
  return read.success ? read.output : null
}
