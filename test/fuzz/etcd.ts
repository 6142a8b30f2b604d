import assert from 'node:assert/strict'
import { type Row, type Transaction, Unavailable } from '../../src/daemon/fleet/etcd/etcd'
import { Form } from '../../src/daemon/fleet/etcd/json'
import { Lines } from '../../src/daemon/fleet/etcd/lines'
import { readAnswer } from '../../src/daemon/fleet/etcd/refused'
import { hearing } from '../../src/daemon/fleet/etcd/watch'
import { chunksOf } from './mutate'
import type { Target } from './targets'

/* What an etcd says, and what is promised of it whatever that is: nobody but etcd's own words open a door. */

const HEADER = '"header":{"cluster_id":"14841639068965178418","member_id":"10276657743932975437","revision":"12","raft_term":"2"}'
const ROW = '{"key":"cC9h","create_revision":"3","mod_revision":"12","version":"1","value":"djE=","lease":"7587899271313639690"}'
const PUT = '{"response_put":{"header":{"revision":"12"}}}'
const RANGE = `{"response_range":{"header":{"revision":"12"},"kvs":[${ROW}],"count":"1"}}`
const GONE = '{"response_delete_range":{"header":{"revision":"12"},"deleted":"1"}}'
const WORDS = [
  '"succeeded":true',
  '"succeeded":',
  'true',
  'false',
  '"',
  '{',
  '}',
  '[',
  ']',
  ',',
  ':',
  '"0"',
  '"-1"',
  '1e999',
  '"9007199254740993"',
]

const form = new Form('p/')
const asked: Transaction = {
  if: [{ row: 'a', is: 'absent' }],
  do: [
    { put: 'a', value: '1' },
    { if: [], do: [{ remove: 'a' }], else: [] },
  ],
  else: [{ get: 'a' }, { remove: 'a' }],
}

function parse(text: string): { readonly succeeded?: unknown } | null {
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}

function checkRow({ row, value, created, modified, lease }: Row): void {
  assert.equal(typeof row + typeof value, 'stringstring')
  assert.ok(Number.isSafeInteger(created) && Number.isSafeInteger(modified))
  assert.ok(lease === null || /^-?\d+$/.test(lease))
}

/** What {@link Unavailable} says of what came; nothing where all is well. */
function attempt<T>(act: () => T): T | null {
  try {
    return act()
  } catch (error) {
    if (error instanceof Unavailable || error instanceof RangeError) return null
    throw error
  }
}

const answers: Target = {
  name: "etcd's answers",
  samples: [
    `{${HEADER},"succeeded":true,"responses":[${PUT},{"response_txn":{"header":{},"responses":[${GONE}]}}]}`,
    `{${HEADER},"responses":[${RANGE},${GONE}]}`,
    `{${HEADER},"kvs":[${ROW},${ROW}],"more":true,"count":"7"}`,
    '{"error":"etcdserver: no leader","message":"etcdserver: no leader","code":14}',
  ].map((text) => Buffer.from(text)),
  words: [...WORDS, '"response_put":{}', '"kvs":[]', '"code":14', '"lease":"1"', '"more":true'],
  read(input) {
    const text = input.toString('utf8')
    const answer = attempt(() => readAnswer('http://etcd', { status: 200, type: 'application/json', text }))
    attempt(() => readAnswer('http://etcd', { status: 503, type: 'application/json', text }))
    const outcome = form.outcome(asked, answer)
    if (outcome) {
      assert.equal(outcome.held, parse(text)?.succeeded === true)
      assert.equal(outcome.done.length, 2)
      for (const { rows } of outcome.done) rows.forEach(checkRow)
      assert.ok(Number.isSafeInteger(outcome.header.revision) && Number.isSafeInteger(outcome.header.term))
    }
    const page = form.page(answer)
    page?.rows.forEach(checkRow)
    assert.ok(!page?.next || page.rows.length > 0)
  },
}

const CREATED = `{"result":{${HEADER},"created":true}}`
const EVENTS = `{"result":{${HEADER},"events":[{"kv":${ROW}},{"type":"DELETE","kv":{"key":"cC9i","mod_revision":"13"}}]}}`
const REVISION = 12

const watch: Target = {
  name: "etcd's watch",
  samples: [
    [CREATED, EVENTS, EVENTS],
    [CREATED, '{"result":{"canceled":true,"compact_revision":"20"}}'],
    [CREATED, EVENTS, '{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader"}}'],
  ].map((lines) => Buffer.from(`${lines.join('\n')}\n`)),
  words: [...WORDS, '\n', CREATED, EVENTS, '"created":true', '"canceled":true', '"type":"PUT"', '"type":"DELETE"'],
  read(input, random) {
    const told: string[] = []
    const heard = (pieces: readonly Buffer[]) => {
      const said: string[] = []
      const changed = (changes: readonly ({ put: Row } | { removed: string })[]) => {
        said.push(JSON.stringify(changes))
        for (const change of changes) {
          if (!('put' in change)) continue
          checkRow(change.put)
          assert.ok(change.put.modified >= REVISION)
        }
      }
      const begun = () => said.push('begun')
      const lines = new Lines(65_536, hearing('http://etcd', { form, from: 'a', to: 'c', revision: REVISION, begun, changed }))
      attempt(() => {
        for (const piece of pieces) lines.push(piece)
        lines.end()
      })
      return said
    }
    told.push(...heard([input]))
    assert.ok(told.length === 0 || told.indexOf('begun') === 0)
    assert.ok(told.lastIndexOf('begun') <= 0)
    // However it is cut.
    assert.deepEqual(heard(chunksOf(input, random)), told)
  },
}

export const etcdTargets: readonly Target[] = [answers, watch]
