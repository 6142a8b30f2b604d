import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openEtcd } from '../../src/daemon/fleet/etcd/client'
import { behind, type Etcd, type Outcome, type Step, type Transaction, Unavailable } from '../../src/daemon/fleet/etcd/etcd'
import { Gateway } from '../daemon/fleet/gateway'
import { foundation } from '../daemon/fleet/plain-link'
import { Twin } from '../daemon/fleet/twin'
import { knock } from '../gate/disk'
import { WINDOW } from '../gate/listener/ear'
import { type Beginning, conforms } from '../gate/one-time'
import { startEtcd } from '../lab/etcd'
import { until } from '../lab/waiters'
import { seededRandom, shuffled } from '../random'

/* The claims of a fleet on a real etcd; and whether its twin, on which all else is tested, does the same. */

/** Transactions that both are asked. */
const TRANSACTIONS = 1_500
const KNOCKS = 1_000
/** Milliseconds that a claim may take on a machine that is busy with other tests: three thousand of them at once. */
const PATIENCE = 60_000

let etcd: Awaited<ReturnType<typeof startEtcd>>
let fleets = 0
const open: Etcd[] = []
beforeAll(async () => {
  etcd = await startEtcd()
})
afterAll(async () => {
  for (const one of open) one.close()
  await etcd?.end()
})

/** What rows a fleet of its own has, as a gateway asks for them; etcd is one for all. */
async function client(prefix = `knockturn/${++fleets}/`): Promise<Etcd> {
  const rest = { timeout: PATIENCE, gateway: 'gw1', pinned: false, tls: { ca: null, cert: null, key: null }, login: null }
  const one = await openEtcd({ endpoints: etcd.endpoints, prefix, ...rest })
  open.push(one)
  return one
}

// ---- the twin

/** Transactions such as nobody has thought of, of few rows and values, so that they meet. */
function randomTransactions(seed: number, count: number): Transaction[] {
  const random = seededRandom(seed)
  const one = <T>(of: readonly T[]): T => of[Math.floor(random() * of.length)] as T
  const row = () => one(['a', 'a/1', 'b', 'b/1', 'b/2', 'c'])
  const value = () => one(['0', '1', '10', '2', 'f', 'ff'])
  const some = <T>(most: number, make: () => T) => Array.from({ length: Math.floor(random() * (most + 1)) }, make)
  const condition = () =>
    one([
      () => ({ row: row(), is: one(['absent', 'there'] as const) }),
      () => ({ row: row(), is: one(['equal', 'below'] as const), value: value() }),
      // Of late, as rows are: see `shifted`.
      () => ({ row: row(), is: one(['modified', 'since'] as const), revision: Math.floor(random() * 12) }),
    ])()
  const step = (depth: number): Step =>
    one<() => Step>([
      ...Array(3).fill(() => ({ put: row(), value: value() })),
      () => ({ remove: row() }),
      () => ({ removeFrom: row(), to: one(['d', 'b/', 'b0', 'c0']) }),
      () => ({ get: row() }),
      ...(depth > 0 ? [() => transaction(depth - 1)] : []),
    ])()
  const transaction = (depth: number): Transaction => ({
    if: some(2, condition),
    do: some(3, () => step(depth)),
    else: some(2, () => step(depth)),
  })
  return Array.from({ length: count }, () => transaction(2))
}

/** Revisions counted from the beginning, which is another one for each etcd. */
const since = (revision: number, first: number) => (revision === 0 ? 0 : revision - first)

/** What an etcd says of a transaction, and has then, by revisions counted from `first`. */
async function told(one: Etcd, transaction: Transaction, first: number, late: number) {
  const rowsOf = (rows: Outcome['done'][number]['rows']) =>
    rows.map(({ row, value, created, modified }) => [row, value, since(created, first), since(modified, first)])
  const said = await one.transact(shifted(transaction, first + late)).then(
    ({ held, done, header }) => ({ held, done: done.map(({ rows }) => rowsOf(rows)), revision: since(header.revision, first) }),
    (error: unknown) => (error instanceof Unavailable ? error.trouble : String(error)),
  )
  const { header, rows } = await one.list('a', 'd')
  return { said, revision: since(header.revision, first), rows: rowsOf(rows) }
}

/** A transaction whose conditions name revisions beyond another one; 0 stays what it is, of a row that is not there. */
function shifted(transaction: Transaction, by: number): Transaction {
  const step = (one: Step): Step => ('if' in one ? shifted(one, by) : one)
  return {
    if: transaction.if.map((one) => ('revision' in one && one.revision > 0 ? { ...one, revision: one.revision + by } : one)),
    do: transaction.do.map(step),
    else: transaction.else.map(step),
  }
}

describe('the twin of etcd', () => {
  it.each([1, 2, 3])('does and says what etcd does and says, transaction by transaction (seed %i)', async (seed) => {
    const pair: readonly [Etcd, Etcd] = [await client(), new Twin()]
    const firsts = await Promise.all(pair.map(async (one) => (await one.list('a', 'd')).header.revision))
    const counts = { held: 0, refused: 0 }
    let late = 0
    for (const [n, transaction] of randomTransactions(seed, TRANSACTIONS / 3).entries()) {
      const [real, twin] = await Promise.all(pair.map((one, which) => told(one, transaction, firsts[which] ?? 0, late)))
      late = Math.max(0, (real?.revision ?? 0) - 10)
      expect({ n, transaction, ...twin }).toEqual({ n, transaction, ...real })
      if (typeof real?.said === 'string') counts.refused++
      else if (real?.said.held) counts.held++
    }
    expect([counts.held > 100, counts.refused > 10]).toEqual([true, true])
  })

  it('tells those who watch the same, in the same order', async () => {
    const heard: [string[], string[]] = [[], []]
    const pair: readonly [Etcd, Etcd] = [await client(), new Twin()]
    const ending = new AbortController()
    for (const [n, one] of pair.entries()) {
      const { header } = await one.list('a', 'd')
      const watching = {
        changed: (changes: readonly ({ put: { row: string; value: string } } | { removed: string })[]) =>
          void heard[n]?.push(...changes.map((one) => ('put' in one ? `${one.put.row} ${one.put.value}` : one.removed))),
        broke: (why: string) => void heard[n]?.push(`broke: ${why}`),
      }
      one.watch('b', behind('b/'), header.revision + 1, watching, ending.signal)
    }
    for (const transaction of randomTransactions(4, 200))
      await Promise.all(pair.map((one) => one.transact(transaction).catch(() => {})))
    await Promise.all(pair.map((one) => one.transact({ if: [], do: [{ put: 'b', value: 'the last' }], else: [] })))
    await until(() => heard.every((changes) => changes.at(-1) === 'b the last'), 'the last change has been heard of')
    ending.abort()
    expect(heard[1]).toEqual(heard[0])
    expect(heard[0].length).toBeGreaterThan(30)
  })
})

// ---- the rule

conforms('a fleet on a real etcd', async (beginning: Beginning) => {
  const gateway = new Gateway(await client(), 'gw1', beginning)
  await gateway.etcd.transact(foundation(gateway.link.base?.base))
  const idle = () => until(() => gateway.ledger.burning === 0, 'all is dead that is to be', 30_000)
  const subject = {
    ledger: gateway.ledger,
    restart: async () => {
      subject.ledger = gateway.start()
    },
    fail: async (fails: boolean) => {
      // By what it asks: etcd itself is everybody's.
      gateway.link.refused = fails ? 'the watch is 12 s old' : null
    },
    settle: async () => void (await idle()),
  }
  return subject
})

describe('three gateways on a real etcd', () => {
  it(`accept each of ${KNOCKS} knocks, which all of them hear at the same moment, once`, async () => {
    const prefix = `knockturn/${++fleets}/`
    const gateways: Gateway<Etcd>[] = []
    for (const name of ['gw1', 'gw2', 'gw1']) gateways.push(new Gateway(await client(prefix), name, undefined, PATIENCE))
    await gateways[0]?.etcd.transact(foundation())
    const accepted = new Map<string, number>()
    const outcomes = new Map<string, number>()
    const hear = async (gateway: Gateway<Etcd>, n: number) => {
      const said = knock({ v: `${n}`, window: WINDOW + (n % 3), source: `198.51.100.${n % 200}` })
      // Of several keys: one alone may not have so many claims under way.
      const { outcome } = await gateway.ledger.claim(said, (n % 16).toString(16).repeat(32))
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
      if (outcome === 'spent') accepted.set(said.v, (accepted.get(said.v) ?? 0) + 1)
    }
    const order = shuffled(
      Array.from({ length: KNOCKS }, (_, n) => n),
      seededRandom(20),
    )
    await Promise.all(order.flatMap((n) => gateways.map((gateway) => hear(gateway, n))))
    expect([accepted.size, new Set(accepted.values())]).toEqual([KNOCKS, new Set([1])])
    expect(Object.fromEntries(outcomes)).toEqual({ spent: KNOCKS, retransmitted: 2 * KNOCKS })
  })
})
