import { createServer } from 'node:net'
import { describe, expect, it, vi } from 'vitest'
import { behind, type Etcd, type Transaction } from '../../../../src/daemon/fleet/etcd/etcd'
import { put as putFile, scratch } from '../../../system/scratch'
import { type Answering, endless, eventually, FakeMember, failureOf, HEADER, json, never, open, refuses, text } from './fake'

const PUT: Transaction = { if: [{ row: 'a', is: 'absent' }], do: [{ put: 'a', value: '1' }], else: [{ get: 'a' }] }
const DONE = json({ header: HEADER, succeeded: true, responses: [{ response_put: {} }] })
const ROW = { key: btoa('p/a'), create_revision: '3', mod_revision: '5', version: '1', value: btoa('v') }
const transact = (etcd: Etcd) => etcd.transact(PUT)
/** So long that no member is asked again before it has answered, on a busy machine either. */
const PATIENT = { timeout: 30_000 }
const alone = async (answer: Answering, more = {}) => open([await FakeMember.start(answer)], more)

describe('a transaction', () => {
  it('is said in etcd’s words, with a header that needs a leader', async () => {
    const member = await FakeMember.start(DONE)
    const etcd = await open([member])
    const { held } = await etcd.transact({
      if: [
        { row: 'a', is: 'absent' },
        { row: 'a', is: 'there' },
        { row: 'a', is: 'equal', value: 'x' },
        { row: 'a', is: 'below', value: 'y' },
        { row: 'a', is: 'modified', revision: 9 },
        { row: 'a', is: 'since', revision: 9 },
      ],
      do: [{ put: 'ü', value: '', lease: '17' }],
      else: [
        { remove: 'a' },
        { removeFrom: 'a', to: 'b' },
        { get: 'a' },
        { if: [], do: [{ put: 'a', value: 'b', lease: null }], else: [] },
      ],
    })
    expect(held).toBe(true)
    const [a, b] = [btoa('p/a'), btoa('p/b')]
    expect(member.asked).toEqual([
      {
        path: '/v3/kv/txn',
        headers: expect.objectContaining({ 'grpc-metadata-hasleader': 'true', 'content-type': 'application/json' }),
        body: {
          compare: [
            { key: a, target: 'CREATE', result: 'EQUAL', create_revision: '0' },
            { key: a, target: 'VERSION', result: 'GREATER', version: '0' },
            { key: a, target: 'VALUE', result: 'EQUAL', value: btoa('x') },
            { key: a, target: 'VALUE', result: 'LESS', value: btoa('y') },
            { key: a, target: 'MOD', result: 'EQUAL', mod_revision: '9' },
            { key: a, target: 'MOD', result: 'GREATER', mod_revision: '8' },
          ],
          success: [{ request_put: { key: Buffer.from('p/ü').toString('base64'), value: '', lease: '17' } }],
          failure: [
            { request_delete_range: { key: a } },
            { request_delete_range: { key: a, range_end: b } },
            { request_range: { key: a } },
            { request_txn: { compare: [], success: [{ request_put: { key: a, value: btoa('b') } }], failure: [] } },
          ],
        },
      },
    ])
  })

  it('compares nothing with an empty value, which etcd takes for one that equals all', async () => {
    const member = await FakeMember.start(DONE)
    const etcd = await open([member])
    for (const is of ['equal', 'below'] as const)
      expect(() => etcd.transact({ if: [{ row: 'a', is, value: '' }], do: [], else: [] })).toThrow(RangeError)
    expect(member.asked).toEqual([])
  })

  it('has not held where etcd leaves that out, as it does with all that is zero', async () => {
    const etcd = await alone(json({ header: HEADER, responses: [{ response_range: { kvs: [ROW], count: '1' } }] }))
    expect(await transact(etcd)).toEqual({
      header: { cluster: '14841639068965178418', revision: 7, term: 2 },
      held: false,
      done: [{ rows: [{ row: 'a', value: 'v', created: 3, modified: 5, lease: null }] }],
    })
  })

  it.each([
    ['what is no JSON', text('{"header":')],
    ['nothing', text('')],
    [
      'JSON of another type',
      text(JSON.stringify({ header: HEADER, succeeded: true, responses: [{ response_put: {} }] }), 'text/html'),
    ],
    ['no header', json({ succeeded: true, responses: [{ response_put: {} }] })],
    ['a list', json([])],
    ['null', json(null)],
    ['"true" instead of true', json({ header: HEADER, succeeded: 'true', responses: [{ response_put: {} }] })],
    ['1 instead of true', json({ header: HEADER, succeeded: 1, responses: [{ response_put: {} }] })],
    ['a branch that is another one', json({ header: HEADER, succeeded: true, responses: [{ response_range: {} }] })],
    ['fewer steps than were asked', json({ header: HEADER, succeeded: true })],
    ['more steps than were asked', json({ header: HEADER, responses: [{ response_range: {} }, { response_range: {} }] })],
    [
      'a revision that is a number',
      json({ header: { ...HEADER, revision: 7 }, succeeded: true, responses: [{ response_put: {} }] }),
    ],
    [
      'a revision beyond what we count',
      json({ header: { ...HEADER, revision: '9007199254740993' }, succeeded: true, responses: [{ response_put: {} }] }),
    ],
    [
      'a row of another fleet',
      json({ header: HEADER, responses: [{ response_range: { kvs: [{ ...ROW, key: btoa('q/a') }] } }] }),
    ],
    ['a row that is no base64', json({ header: HEADER, responses: [{ response_range: { kvs: [{ ...ROW, value: '!' }] } }] })],
    [
      'a redirect',
      (_, response) => response.writeHead(302, { location: '/v3/kv/other', 'content-type': 'application/json' }).end('{}'),
    ],
    ['an error without a code', json({ error: 'x' }, 500)],
    ['a page of somebody else’s', text('<html>', 'text/html', 404)],
  ] satisfies [string, Answering][])('is never held by %s, and may have been done', async (_, answer) => {
    const member = await FakeMember.start(answer)
    expect(await failureOf(transact(await open([member], PATIENT)))).toMatchObject({ trouble: 'strange', isUnknown: true })
    expect(member.asked.map(({ path }) => path)).toEqual(['/v3/kv/txn'])
  })

  it.each<[string, Answering]>([
    [
      'half of it came',
      (_, response) => {
        response.writeHead(200, { 'content-type': 'application/json', 'content-length': '99' })
        response.write('{"header"')
        response.socket?.end()
      },
    ],
    [
      'half of its pieces came',
      (_, response) => {
        response.writeHead(200, { 'content-type': 'application/json' })
        response.write('{"header"', () => response.destroy())
      },
    ],
    ['its connection broke', (_, __, socket) => socket.destroy()],
    ['it is no HTTP', (_, __, socket) => socket.end('220 mail.example ESMTP\r\n')],
  ])('may have been done where %s', async (_, answer) => {
    expect(await failureOf(transact(await alone(answer, PATIENT)))).toMatchObject({
      trouble: expect.stringMatching(/^(unreachable|strange)$/),
      isUnknown: true,
    })
  })

  it.each<[string, Answering]>([
    ['no answer comes', never],
    [
      'an answer begins and does not end',
      (_, response) => void response.writeHead(200, { 'content-type': 'application/json' }).write('{'),
    ],
    [
      'an answer trickles',
      (_, response) => {
        response.writeHead(200, { 'content-type': 'application/json' })
        const drip = setInterval(() => response.write(' '), 10)
        response.on('close', () => clearInterval(drip))
      },
    ],
  ])('may have been done where %s in time', async (_, answer) => {
    expect(await failureOf(transact(await alone(answer)))).toMatchObject({ trouble: 'timeout', isUnknown: true })
  })

  it('has an answer that is no longer than it may be', async () => {
    const member = await FakeMember.start(endless)
    expect(await failureOf((await open([member], { timeout: 20_000 })).transact(PUT))).toMatchObject({
      trouble: 'strange',
      message: expect.stringContaining('expected at most 8388608 bytes, got more'),
    })
    await eventually(() => expect(member.sockets.size).toBe(0))
  })

  it('is known not to have been done where nobody listens', async () => {
    expect(await failureOf(transact(await open(['http://127.0.0.1:9'])))).toMatchObject({
      trouble: 'unreachable',
      isUnknown: false,
      message: 'http://127.0.0.1:9: connect ECONNREFUSED 127.0.0.1:9',
    })
  })

  it('is known not to have been done where no name is found', async () => {
    const failure = await failureOf(transact(await open(['http://nobody.invalid:9'], { timeout: 10_000 })))
    expect(failure).toMatchObject({ isUnknown: false })
  })

  it('is known not to have been done where TLS comes to nothing', async () => {
    const plain = createServer((socket) => socket.on('error', () => {}).end('HTTP/1.1 400 Bad Request\r\n\r\n'))
    await new Promise<void>((resolve) => plain.listen(0, '127.0.0.1', resolve))
    const { port } = plain.address() as { port: number }
    expect(await failureOf(transact(await open([`https://127.0.0.1:${port}`], PATIENT)))).toMatchObject({
      trouble: 'tls',
      isUnknown: false,
    })
    plain.close()
  })

  it.each([
    [14, 'etcdserver: request timed out', 503, 'no-quorum', true],
    [14, 'etcdserver: request timed out, possibly due to previous leader failure', 503, 'no-quorum', true],
    [14, 'etcdserver: leader changed', 503, 'no-quorum', true],
    [14, 'etcdserver: no leader', 503, 'no-quorum', false],
    [2, 'context deadline exceeded', 500, 'timeout', true],
    [4, 'context deadline exceeded', 504, 'timeout', true],
    [1, 'context canceled', 408, 'timeout', true],
    [99, 'what nobody knows', 500, 'timeout', true],
    [8, 'etcdserver: mvcc: database space exceeded', 429, 'full', false],
    [8, 'etcdserver: too many requests', 429, 'timeout', false],
    [16, 'etcdserver: invalid auth token', 401, 'login', false],
    [7, 'etcdserver: permission denied', 403, 'login', false],
    [3, 'etcdserver: user name is empty', 400, 'login', false],
    [3, 'etcdserver: request is too large', 400, 'strange', false],
    [5, 'etcdserver: requested lease not found', 404, 'strange', false],
    [11, 'etcdserver: mvcc: required revision has been compacted', 400, 'strange', false],
  ])('says by error %i (%s) whether it may have been done', async (code, message, status, trouble, isUnknown) => {
    // What passes is asked for again until the time is over.
    const isFinal = trouble !== 'timeout' && trouble !== 'no-quorum'
    const etcd = await alone(refuses(code, message, status), isFinal ? PATIENT : {})
    expect(await failureOf(transact(etcd))).toMatchObject({ trouble, isUnknown })
  })

  it('says nothing back that is not of etcd’s own words', async () => {
    const failure = await failureOf(transact(await alone(refuses(3, 'etcdserver: \u001b[2J token 12345', 400), PATIENT)))
    expect(failure?.message).toMatch(/^http:\/\/127\.0\.0\.1:\d+: error 3$/)
  })
})

describe('members are asked in turn', () => {
  it('the next one at once where one is not there', async () => {
    const member = await FakeMember.start(DONE)
    const etcd = await open(['http://127.0.0.1:9', member], { timeout: 30_000 })
    expect((await transact(etcd)).held).toBe(true)
  })

  it('the next one where one stays silent, and from then on that one first', async () => {
    const [silent, speaking] = [await FakeMember.start(never), await FakeMember.start(DONE)]
    const etcd = await open([silent, speaking], { timeout: 5_000 })
    for (let i = 0; i < 3; i++) expect((await transact(etcd)).held).toBe(true)
    expect([silent.asked.length, speaking.asked.length]).toEqual([1, 3])
    // It is not waited for any longer.
    await eventually(() => expect(silent.sockets.size).toBe(0))
  })

  it.each<[string, Answering]>([
    ['says what nobody understands', text('{}')],
    ['has no leader', refuses(14, 'etcdserver: no leader')],
    ['breaks off', (_, __, socket) => socket.destroy()],
  ])('the next one where one %s', async (_, answer) => {
    const [ill, well] = [await FakeMember.start(answer), await FakeMember.start(DONE)]
    expect((await transact(await open([ill, well], { timeout: 30_000 }))).held).toBe(true)
  })

  it('again, where what was asked gets no answer and later there is one', async () => {
    let count = 0
    const member = await FakeMember.start((...args) => (++count < 3 ? never : DONE)(...args))
    expect((await transact(await open([member]))).held).toBe(true)
  })

  it('again, as long as there is no leader', async () => {
    let count = 0
    const member = await FakeMember.start((...args) => (++count < 3 ? refuses(14, 'etcdserver: no leader') : DONE)(...args))
    expect((await transact(await open([member]))).held).toBe(true)
  })

  it.each([
    [8, 'etcdserver: mvcc: database space exceeded', 429],
    [7, 'etcdserver: permission denied', 403],
    [3, 'etcdserver: request is too large', 400],
  ])('none of the others where one says what all would: error %i (%s)', async (code, message, status) => {
    const [one, other] = [await FakeMember.start(refuses(code, message, status)), await FakeMember.start(DONE)]
    expect(await failureOf(transact(await open([one, other], PATIENT)))).toMatchObject({ isUnknown: false })
    expect([one.asked.length, other.asked.length]).toEqual([1, 0])
  })

  it('and one that may have done it makes it unknown, whatever the others say', async () => {
    const silent = await FakeMember.start(never)
    const refusing = await FakeMember.start(refuses(7, 'etcdserver: permission denied', 403))
    expect(await failureOf(transact(await open([silent, refusing])))).toMatchObject({ trouble: 'login', isUnknown: true })
    const broken = await FakeMember.start((_, __, socket) => socket.destroy())
    expect(await failureOf(transact(await open([broken, refusing])))).toMatchObject({ trouble: 'login', isUnknown: true })
    const leaderless = await FakeMember.start(refuses(14, 'etcdserver: no leader'))
    expect(await failureOf(transact(await open([silent, leaderless])))).toMatchObject({ trouble: 'no-quorum', isUnknown: true })
  })

  it('no more often than the time allows', async () => {
    const member = await FakeMember.start(never)
    await failureOf(transact(await open([member])))
    expect(member.asked.length).toBeLessThanOrEqual(6)
  })

  it('within the time that a call has of its own', async () => {
    const member = await FakeMember.start(never)
    const etcd = await open([member], { timeout: 600_000 })
    expect(await failureOf(etcd.transact(PUT, { timeout: 50 }))).toMatchObject({ trouble: 'timeout' })
    expect(await failureOf(etcd.list('a', 'b', { timeout: 50 }))).toMatchObject({ trouble: 'timeout', isUnknown: false })
  })

  it('a connection that was kept and is over is no reason to fail', async () => {
    const member = await FakeMember.start(DONE)
    const etcd = await open([member], PATIENT)
    await transact(etcd)
    member.answers((_, __, socket) => {
      member.answers(DONE)
      socket.destroy()
    })
    expect((await transact(etcd)).held).toBe(true)
    expect(member.asked).toHaveLength(3)
  })

  it('what a kept connection took with it may have been done, whatever comes of a new one', async () => {
    const member = await FakeMember.start(DONE)
    const etcd = await open([member])
    await transact(etcd)
    member.answers(() => void member.end())
    expect(await failureOf(transact(etcd))).toMatchObject({ trouble: 'unreachable', isUnknown: true })
    expect(await failureOf(transact(etcd))).toMatchObject({ trouble: 'unreachable', isUnknown: false })
  })

  it('by new connections where those that were kept may lead nowhere', async () => {
    const member = await FakeMember.start(never)
    const etcd = await open([member])
    const answers: (() => void)[] = []
    member.answers((...args) => void answers.push(() => DONE(...args)))
    const both = [transact(etcd), transact(etcd)]
    await eventually(() => expect(answers).toHaveLength(2))
    for (const answer of answers) answer()
    await Promise.all(both)
    const kept = [...member.sockets]
    const used: unknown[] = []
    member.answers((...args) => {
      used.push(args[2])
      if (used.length === 2) DONE(...args)
    })
    await transact(etcd)
    expect([kept.length, used.map((socket) => kept.includes(socket as (typeof kept)[0]))]).toEqual([2, [true, false]])
  })

  it('no more than so many calls at a time', async () => {
    const warned = vi.spyOn(process, 'emitWarning')
    const etcd = await open([await FakeMember.start(never)], { timeout: 2_000 })
    const failures = await Promise.all(Array.from({ length: 2_050 }, () => failureOf(transact(etcd))))
    const refused = failures.filter((failure) => failure?.message.startsWith('more than 2048 calls'))
    expect(refused.map((failure) => failure?.isUnknown)).toEqual([false, false])
    // What had no connection yet was never sent.
    expect(failures.filter((failure) => failure?.isUnknown).length).toBeLessThanOrEqual(64 * 6)
    expect(warned).not.toHaveBeenCalled()
    expect((await failureOf(transact(etcd)))?.message).not.toContain('more than')
  })

  it('one that has waited for a connection of others, and may have been done when that breaks', async () => {
    const waiting: (() => void)[] = []
    const member = await FakeMember.start((asked, response, socket) => {
      if (member.asked.length > 64) return void member.end()
      waiting.push(() => DONE(asked, response, socket))
      if (waiting.length === 64) for (const answer of waiting) answer()
    })
    const etcd = await open([member], { timeout: 2_000 })
    const failures = await Promise.all(Array.from({ length: 65 }, () => failureOf(transact(etcd))))
    expect(failures.filter((failure) => failure !== null)).toMatchObject([{ isUnknown: true }])
  })

  it('none any more when the client is closed', async () => {
    const member = await FakeMember.start(never)
    const etcd = await open([member], { timeout: 600_000 })
    const asked = failureOf(transact(etcd))
    await eventually(() => expect(member.asked).toHaveLength(1))
    etcd.close()
    expect(await asked).toMatchObject({ trouble: 'timeout', isUnknown: true })
    expect(await failureOf(transact(etcd))).toMatchObject({ isUnknown: false })
  })
})

describe('a list', () => {
  const pages =
    (...pages: object[]): Answering =>
    (...args) =>
      json({ header: HEADER, ...pages.shift() })(...args)

  it('is read page by page, as of the first page’s revision', async () => {
    const rows = ['a', 'b', 'c'].map((name) => ({ ...ROW, key: btoa(`p/${name}`) }))
    const member = await FakeMember.start(
      pages({ kvs: rows.slice(0, 2), more: true }, { header: { ...HEADER, revision: '9' }, kvs: rows.slice(2) }),
    )
    const { header, rows: found } = await (await open([member])).list('a', behind('x'))
    expect([header.revision, found.map(({ row }) => row)]).toEqual([7, ['a', 'b', 'c']])
    expect(member.asked.map(({ body }) => body)).toEqual([
      { key: btoa('p/a'), range_end: btoa('p/y'), limit: '500' },
      { key: btoa('p/b\0'), range_end: btoa('p/y'), limit: '500', revision: '7' },
    ])
  })

  it('ends somewhere, whatever etcd says', async () => {
    const kvs = Array.from({ length: 20_000 }, () => ROW)
    const etcd = await alone(json({ header: HEADER, kvs, more: true }))
    expect(await failureOf(etcd.list('a', 'b', { timeout: 20_000 }))).toMatchObject({
      trouble: 'strange',
      message: expect.stringContaining('expected at most 131072 rows'),
    })
    const nothing = await alone(json({ header: HEADER, more: true }))
    expect(await failureOf(nothing.list('a', 'b'))).toMatchObject({ trouble: 'strange', isUnknown: false })
  })

  it('reads names and values that are no text, and goes on behind them', async () => {
    const odd = Buffer.concat([Buffer.from('p/a'), Buffer.of(0xff)])
    const member = await FakeMember.start(
      pages({ kvs: [{ ...ROW, key: odd.toString('base64'), value: '/w==' }], more: true }, {}),
    )
    const { rows } = await (await open([member])).list('a', 'b')
    expect(rows.map(({ row, value }) => [row, value])).toEqual([['a\ufffd', '\ufffd']])
    expect(member.asked[1]?.body).toMatchObject({ key: Buffer.concat([odd, Buffer.of(0)]).toString('base64') })
  })
})

describe('the other calls', () => {
  it('a lease that is granted has an id', async () => {
    expect(await (await alone(json({ header: HEADER, ID: '7587899271313639690', TTL: '60' }))).grant(60)).toBe(
      '7587899271313639690',
    )
    expect(await failureOf((await alone(json({ header: HEADER, ID: '0', TTL: '60', error: 'no' }))).grant(60))).toMatchObject({
      trouble: 'strange',
    })
  })

  it.each([
    [{ ID: '5', TTL: '41' }, 41],
    [{ ID: '5' }, 0],
    [{ ID: '5', TTL: '-1' }, null],
  ])('what a lease has left: %j', async (answer, left) => {
    expect(await (await alone(json({ header: HEADER, ...answer }))).left('5')).toBe(left)
  })

  it('a lease that is another one is none', async () => {
    expect(await failureOf((await alone(json({ header: HEADER, ID: '6', TTL: '41' }))).left('5'))).toMatchObject({
      trouble: 'strange',
    })
    expect(await (await alone(refuses(5, 'etcdserver: requested lease not found', 404))).left('5')).toBeNull()
  })

  it('what has been compacted by another gateway is compacted', async () => {
    await (await alone(refuses(11, 'etcdserver: mvcc: required revision has been compacted', 400))).compact(5)
    expect(
      await failureOf((await alone(refuses(11, 'etcdserver: mvcc: required revision is a future revision', 400))).compact(5)),
    ).toMatchObject({ trouble: 'strange' })
  })

  const STATUS = { header: HEADER, version: '3.6.1', dbSize: '20480', leader: '77', dbSizeInUse: '16384', raftIndex: '812' }
  const member =
    (status: object, metrics: Answering): Answering =>
    (asked, response, socket) =>
      (asked.path === '/metrics' ? metrics : json({ ...STATUS, ...status }))(asked, response, socket)
  const metrics = (quota: string) =>
    text(`# HELP etcd_server_quota_backend_bytes …\netcd_server_quota_backend_bytes ${quota}\n`, 'text/plain')

  it.each<[string, object, Answering, number]>([
    ['by the member itself', { dbSizeQuota: '8589934592' }, metrics('2.147483648e+09'), 8589934592],
    ['by its metrics', {}, metrics('4.294967296e+09'), 4294967296],
    ['as etcd’s default where it shows no metrics', {}, text('', 'text/plain', 404), 2147483648],
    ['as etcd’s default where its metrics are other ones', {}, text('a 1\n', 'text/plain'), 2147483648],
    ['as etcd’s default where there is none', {}, metrics('-1'), 2147483648],
    ['as etcd’s default where its metrics break off', {}, (_, __, socket) => socket.destroy(), 2147483648],
  ])('its quota is told %s', async (_, status, shown, quota) => {
    expect(await (await alone(member(status, shown))).status()).toEqual([
      {
        endpoint: expect.any(String),
        status: { version: '3.6.1', size: 20480, sizeInUse: 16384, quota, hasLeader: true, reached: 812, alarms: [] },
      },
    ])
  })

  it('how far its log has come is told by the first member that has come far enough', async () => {
    const log = (raftIndex: string) => FakeMember.start(member({ raftIndex }, metrics('1')))
    const etcd = await open([await log('5'), await log('900'), await log('812')])
    expect(await etcd.reached(812, { timeout: 2_000 })).toBe(900)
  })

  it('how far its log has come is told by the furthest member where none has come far enough in time', async () => {
    const log = (raftIndex: string) => FakeMember.start(member({ raftIndex }, metrics('1')))
    const etcd = await open([await log('5'), await FakeMember.start(refuses(14, 'etcdserver: no leader', 503)), await log('9')])
    expect(await etcd.reached(812, { timeout: 300 })).toBe(9)
  })

  it('how far its log has come is not told where no member says so', async () => {
    const etcd = await alone(refuses(14, 'etcdserver: no leader', 503))
    expect(await failureOf(etcd.reached(812, { timeout: 300 }))).toMatchObject({ trouble: 'no-quorum' })
  })

  it('a member without a leader says so, and its alarms', async () => {
    const errors = [
      'etcdserver: no leader',
      'memberID:10276657743932975437 alarm:NOSPACE ',
      'memberID:7 alarm:NOSPACE ',
      'memberID:7 alarm:CORRUPT ',
    ]
    const fake = await FakeMember.start(member({ leader: undefined, errors }, metrics('1')))
    const [{ status }] = await (await open([fake])).status()
    expect(status).toMatchObject({ hasLeader: false, alarms: ['NOSPACE', 'CORRUPT'] })
    // With that header, it would say nothing else.
    expect(fake.asked.filter(({ headers }) => 'grpc-metadata-hasleader' in headers)).toEqual([])
  })
})

describe('a login', () => {
  const credentials = (content = 'gw\nhunter2\n', mode = 0o600) => putFile(scratch(), 'login', content, mode)
  /** Gives tokens, of which the last one counts. */
  const guarded = () => {
    let tokens = 0
    return FakeMember.start((asked, response, socket) => {
      if (asked.path === '/v3/auth/authenticate')
        return json({ header: HEADER, token: `token.${++tokens}` })(asked, response, socket)
      const answer = asked.headers.authorization === `token.${tokens}` ? DONE : refuses(16, 'etcdserver: invalid auth token', 401)
      answer(asked, response, socket)
    })
  }

  it('is shown as a token, which is asked for once', async () => {
    const member = await guarded()
    const etcd = await open([member], { login: credentials() })
    await Promise.all(Array.from({ length: 20 }, () => transact(etcd)))
    const asked = member.asked.filter(({ path }) => path === '/v3/auth/authenticate')
    expect(asked.map(({ body }) => body)).toEqual([{ name: 'gw', password: 'hunter2' }])
    expect(JSON.stringify(member.asked.filter((one) => !asked.includes(one)))).not.toContain('hunter2')
  })

  it('is renewed when etcd does not take the token any more', async () => {
    const member = await guarded()
    const etcd = await open([member], { login: credentials() })
    await transact(etcd)
    await fetch(`${member.endpoint}/v3/auth/authenticate`, { method: 'POST', body: '{}' })
    expect((await transact(etcd)).held).toBe(true)
  })

  it('that none takes is told once for each member, and of each member by its own words', async () => {
    const members = await Promise.all([1, 2, 3].map(() => FakeMember.start(refuses(12, 'no such call', 501))))
    const etcd = await open(members, { login: credentials() })
    const words = members.map(({ endpoint }) => `${endpoint}: gives no token: error 12`)
    expect((await failureOf(transact(etcd)))?.message.split('; ').sort()).toEqual(words.sort())
    const said = (await etcd.status()).map(({ status }) => status)
    expect(said).toEqual(members.map(() => expect.objectContaining({ message: 'gives no token: error 12' })))
  })

  it('is refused in words by a member that takes no certificate with a common name beside it', async () => {
    const said = 'CommonName of client sending a request against gateway will be ignored and not used as expected\n'
    expect(await failureOf(transact(await alone(text(said, 'text/plain', 400))))).toMatchObject({
      trouble: 'tls',
      message: expect.stringMatching(/: takes no certificate with a common name beside a user$/),
    })
  })

  it('is not tried for ever', async () => {
    const member = await FakeMember.start((asked, response, socket) =>
      (asked.path === '/v3/auth/authenticate'
        ? json({ header: HEADER, token: 'token' })
        : refuses(16, 'etcdserver: invalid auth token', 401))(asked, response, socket),
    )
    expect(await failureOf(transact(await open([member], { login: credentials(), ...PATIENT })))).toMatchObject({
      trouble: 'login',
      isUnknown: false,
    })
    expect(member.asked).toHaveLength(4)
  })

  it.each<[string, Answering]>([
    ['refuses it', refuses(3, 'etcdserver: authentication failed, invalid user ID or password: hunter2', 400)],
    ['says the password', refuses(3, 'etcdserver: hunter', 400)],
    ['says the password and may mean anything', refuses(14, 'etcdserver: hunter', 503)],
    ['says the password on a page', text('hunter2', 'text/html', 500)],
    ['gives a token that is none', json({ header: HEADER, token: 'a\r\nhost: hunter2' })],
  ])('is never in a message where etcd %s, and nothing was asked then', async (_, answer) => {
    const etcd = await open([await FakeMember.start(answer)], { login: credentials(), timeout: 100 })
    const failure = await failureOf(etcd.transact(PUT, { timeout: 1_000 }))
    expect(failure).toMatchObject({ isUnknown: false })
    expect(failure?.message).not.toContain('hunter')
  })

  it.each([
    ['gw\n', 'expected two lines, a user and a password, got something else (not shown)'],
    ['gw\n\n', 'expected two lines, a user and a password, got something else (not shown)'],
    ['gw\nhunter2\nmore\n', 'expected two lines, a user and a password, got something else (not shown)'],
  ])('is two lines: not %j', async (content, message) => {
    const path = credentials(content)
    await expect(open(['http://127.0.0.1:9'], { login: path })).rejects.toThrow(`${path}: ${message}`)
  })

  it.each([0o640, 0o604, 0o644])('is no file that others may read: mode %o', async (mode) => {
    const path = credentials(undefined, mode)
    await expect(open(['http://127.0.0.1:9'], { login: path })).rejects.toThrow(
      `${path}: expected mode 0600, got 0${mode.toString(8)}`,
    )
  })

  it('is the right one with lines that end as elsewhere, or not at all', async () => {
    const member = await guarded()
    await transact(await open([member], { login: credentials('gw\r\nhunter2') }))
    expect(member.asked[0]?.body).toEqual({ name: 'gw', password: 'hunter2' })
  })
})
