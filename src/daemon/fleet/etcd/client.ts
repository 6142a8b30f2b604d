import { setMaxListeners } from 'node:events'
import { Fault } from '../../../system/fault'
import { readBy } from '../../../system/json'
import type { FleetConfig } from '../config'
import { type Asked, askMember } from './ask'
import {
  type Etcd,
  type Header,
  type Outcome,
  type Patience,
  type Row,
  type Transaction,
  Unavailable,
  type Watching,
} from './etcd'
import { compactSchema, Form, grantSchema, leftSchema } from './json'
import { askToken, type Credentials, Login, readLogin } from './login'
import { Member } from './member'
import { CODE, Refused } from './refused'
import { askReached, askStatus } from './status'
import { readTrust } from './tls'
import { type Asking, askInTurn, ownWords, Turns } from './turns'
import { follow } from './watch'

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

class Client implements Etcd {
  readonly #turns: Turns<Member>
  readonly #form: Form
  readonly #timeout: number
  readonly #login: Login
  readonly #closed = new AbortController()
  #calls = 0

  constructor({ prefix, timeout, login }: FleetConfig, members: readonly Member[]) {
    // One listener for each call.
    setMaxListeners(0, this.#closed.signal)
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
    let header: Header | null = null
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
    return { header: header as Header, rows }
  }

  watch(from: string, to: string, revision: number, { changed, broke }: Watching, signal: AbortSignal): void {
    const form = this.#form
    const all = AbortSignal.any([signal, this.#closed.signal])
    const tell: Watching['changed'] = (changes) => {
      if (!all.aborted) changed(changes)
    }
    const run = async () => {
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
    void run()
  }

  grant(seconds: number): Promise<string> {
    const body = { TTL: String(seconds) }
    return this.#ask({
      path: '/v3/lease/grant',
      body,
      read: (answer) => {
        const granted = readBy(grantSchema, answer)
        return granted?.error === '' ? granted.ID : null
      },
    })
  }

  async left(lease: string): Promise<number | null> {
    const { left } = await this.#ask({
      path: '/v3/lease/timetolive',
      body: { ID: lease },
      isLook: true,
      read: (answer) => {
        const said = readBy(leftSchema, answer)
        return said?.ID === lease ? { left: said.TTL < 0 ? null : said.TTL } : null
      },
      refused: ({ code }) => (code === CODE.notFound ? { left: null } : null),
    })
    return left
  }

  async compact(revision: number): Promise<void> {
    await this.#ask({
      path: '/v3/kv/compaction',
      body: { revision: String(revision) },
      read: (answer) => readBy(compactSchema, answer) && true,
      // Somebody else was there before.
      refused: ({ message }) => message.includes('has been compacted') || null,
    })
  }

  async reached(enough: number, { timeout = this.#timeout }: Patience = {}): Promise<number> {
    let furthest: number | null = null
    try {
      return await this.#inTurn(timeout, async (member, signal) => {
        const reached = await this.#withToken(signal, (token) => askReached(member, token, signal))
        furthest = Math.max(furthest ?? 0, reached)
        // Another member may be further, or this one soon: what is committed is told to it with what comes next.
        if (reached < enough) throw new Unavailable(`${member.endpoint}: its log has come to ${reached}`, 'no-quorum', false)
        return reached
      })
    } catch (error) {
      if (furthest === null || !(error instanceof Unavailable)) throw error
      return furthest
    }
  }

  status(): ReturnType<Etcd['status']> {
    return Promise.all(
      this.#turns.members.map(async (member) => {
        const signal = AbortSignal.any([this.#closed.signal, AbortSignal.timeout(this.#timeout)])
        const status = await this.#withToken(signal, (token) => askStatus(member, token, signal)).catch((error) => {
          if (!(error instanceof Unavailable)) throw error
          return new Unavailable(ownWords(member.endpoint, error.message) ?? error.message, error.trouble, error.isUnknown)
        })
        return { endpoint: member.endpoint, status }
      }),
    )
  }

  close(): void {
    this.#closed.abort()
    for (const member of this.#turns.members) member.close()
  }

  async #ask<T>(asked: Asked<T>, { timeout = this.#timeout }: Patience = {}): Promise<T> {
    if (this.#calls >= MAX_CALLS) throw new Unavailable(`more than ${MAX_CALLS} calls of etcd at a time`, 'timeout', false)
    this.#calls++
    try {
      return await this.#inTurn(timeout, (member, signal) =>
        this.#withToken(signal, (token) => askMember(member, token, asked, signal)),
      )
    } finally {
      this.#calls--
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

  #authenticate(credentials: Credentials): Promise<string> {
    return this.#inTurn(this.#timeout, (member, signal) => askToken(member, credentials, signal))
  }

  #inTurn<T>(timeout: number, ask: Asking<Member, T>['ask']): Promise<T> {
    const passedOver = (member: Member) => member.dropIdle()
    return askInTurn({ turns: this.#turns, timeout, ask, passedOver, signal: this.#closed.signal })
  }
}
