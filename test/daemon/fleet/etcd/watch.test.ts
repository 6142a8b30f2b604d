import type { ServerResponse } from 'node:http'
import { afterEach, describe, expect, it, vi } from 'vitest'
import type { Etcd } from '../../../../src/daemon/fleet/etcd/etcd'
import { WATCH_SILENCE } from '../../../../src/daemon/fleet/etcd/watch'
import { put, scratch } from '../../../system/scratch'
import { type Answering, endless, eventually, FakeMember, HEADER, json, never, open, refuses, text } from './fake'

const CREATED = { result: { header: HEADER, created: true } }
const event = (name: string, more = {}) => ({
  kv: { key: btoa(name), create_revision: '5', mod_revision: '5', version: '1', value: btoa('v'), ...more },
})
const events = (...events: object[]) => ({ result: { header: HEADER, events } })

const responses: ServerResponse[] = []
afterEach(() => {
  vi.useRealTimers()
  responses.splice(0)
})
/** Says these lines and goes on, until a test ends it. */
const says =
  (...lines: (object | string)[]): Answering =>
  (_, response) => {
    responses.push(response)
    response.writeHead(200, { 'content-type': 'application/json' })
    for (const line of lines) response.write(typeof line === 'string' ? line : `${JSON.stringify(line)}\n`)
  }

function watching(etcd: Etcd, signal = new AbortController().signal) {
  const changed: unknown[] = []
  const ends: string[] = []
  etcd.watch('a', 'b', 5, { changed: (changes) => changed.push(...changes), broke: (why) => ends.push(why) }, signal)
  return { changed, ends }
}
const endOf = async (answer: Answering) => {
  const { changed, ends } = watching(await open([await FakeMember.start(answer)]))
  await eventually(() => expect(ends).toHaveLength(1))
  return { changed, why: ends[0]?.replace(/^http:\/\/127\.0\.0\.1:\d+: /, '') }
}

describe('a watch', () => {
  it('is asked for where there is a leader, in pieces that are not too long', async () => {
    const member = await FakeMember.start(says(CREATED))
    watching(await open([member]))
    await eventually(() => expect(member.asked).toHaveLength(1))
    expect(member.asked[0]).toMatchObject({
      path: '/v3/watch',
      headers: { 'grpc-metadata-hasleader': 'true' },
      body: { create_request: { key: btoa('p/a'), range_end: btoa('p/b'), start_revision: '5', fragment: true } },
    })
  })

  it('tells what is written, without a type or with it, and what is gone', async () => {
    const line = events(
      event('p/a1'),
      event('p/a2', { value: undefined, lease: '9' }),
      { type: 'PUT', ...event('p/a3') },
      { type: 'DELETE', kv: { key: btoa('p/a4'), mod_revision: '6' } },
    )
    const { changed } = watching(await open([await FakeMember.start(says(CREATED, line))]))
    await eventually(() => expect(changed).toHaveLength(4))
    const row = { created: 5, modified: 5, lease: null, value: 'v' }
    expect(changed).toEqual([
      { put: { ...row, row: 'a1' } },
      { put: { ...row, row: 'a2', value: '', lease: '9' } },
      { put: { ...row, row: 'a3' } },
      { removed: 'a4' },
    ])
  })

  it('is put together from pieces, wherever they are cut', async () => {
    const bytes = Buffer.from(
      `${JSON.stringify(CREATED)}\n${JSON.stringify(events(event('p/a1')))}\n${JSON.stringify(events(event('p/a2')))}\n`,
    )
    const drips: Answering = (_, response) => {
      responses.push(response)
      response.writeHead(200, { 'content-type': 'application/json' })
      const drip = (at = 0) => {
        if (at < bytes.length) response.write(bytes.subarray(at, at + 7), () => setImmediate(drip, at + 7))
      }
      drip()
    }
    const { changed, ends } = watching(await open([await FakeMember.start(drips)]))
    await eventually(() => expect(changed).toHaveLength(2))
    expect(ends).toEqual([])
  })

  const END = 'the watch was ended'
  it.each<[string, Answering, string]>([
    [
      'etcd cancels it',
      says(CREATED, { result: { header: HEADER, canceled: true, cancel_reason: 'etcdserver: no leader' } }),
      'etcdserver: no leader',
    ],
    ['etcd cancels it for no reason', says(CREATED, { result: { canceled: true } }), 'error 0'],
    [
      'history was let go of',
      says(CREATED, { result: { canceled: true, compact_revision: '9' } }),
      'its history begins at revision 9 only, not at 5',
    ],
    [
      'an error comes, in the words of one version',
      says(CREATED, { error: { grpc_code: 14, http_code: 503, message: 'etcdserver: no leader' } }),
      'etcdserver: no leader',
    ],
    [
      'an error comes, in the words of another',
      says(CREATED, { error: { code: 14, message: 'etcdserver: no leader', details: [] } }),
      'etcdserver: no leader',
    ],
    [
      'no leader is there from the beginning',
      json({ error: { grpc_code: 14, message: 'etcdserver: no leader' } }, 503),
      'etcdserver: no leader',
    ],
    ['an error of another kind comes', refuses(5, 'Not Found', 404), 'expected a watch, got something else'],
    ['a page of somebody else’s comes', text('<html>', 'text/html'), 'expected a watch, got something else'],
    ['garbage comes', says(CREATED, '{"result":\n'), 'expected a watch, got something else'],
    [
      'an event is of no kind that is known',
      says(CREATED, events({ type: 'MOVE', ...event('p/a') })),
      'expected a watch, got something else',
    ],
    ['a row is of another fleet', says(CREATED, events(event('q/a'))), 'expected a watch, got a row that was not asked for'],
    [
      'a row is older than what was asked for',
      says(CREATED, events(event('p/a', { mod_revision: '4' }))),
      'expected a watch, got a row that was not asked for',
    ],
    ['changes come before it has begun', says(events(event('p/a'))), 'expected a watch, got a change before it had begun'],
    ['it begins twice', says(CREATED, CREATED), 'expected a watch, got a second one'],
    ['it ends', text(`${JSON.stringify(CREATED)}\n`), END],
    ['it ends at once', text(''), END],
    [
      'its last line has no end',
      text(`${JSON.stringify(CREATED)}\n{"error":{"grpc_code":14,"message":"etcdserver: no leader"}}`),
      'etcdserver: no leader',
    ],
    [
      'its connection breaks',
      (_, response) => {
        response.writeHead(200, { 'content-type': 'application/json' })
        response.write(`${JSON.stringify(CREATED)}\n`, () => response.destroy())
      },
      'the connection broke before its answer was whole',
    ],
    ['it is sent elsewhere', (_, response) => response.writeHead(302, { location: '/' }).end(), END],
  ])('is broken where %s', async (_, answer, why) => {
    expect(await endOf(answer)).toMatchObject({ changed: [], why: expect.stringContaining(why) })
  })

  it('is broken by a line that is too long, before it has come', async () => {
    expect(await endOf(endless)).toMatchObject({ why: 'expected lines of at most 8388608 bytes, got a longer one' })
  })

  it('is broken where it does not begin', async () => {
    expect(await endOf(never)).toMatchObject({ why: 'no watch has begun in time' })
  })

  it('is broken by a long silence, and by no shorter one', async () => {
    const member = await FakeMember.start(says(CREATED))
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const { changed, ends } = watching(await open([member]))
    const line = async (name: string) => {
      const count = changed.length
      responses[0]?.write(`${JSON.stringify(events(event(name)))}\n`)
      await turns(() => changed.length > count)
    }
    await turns(() => responses.length > 0)
    await line('p/a1')
    vi.advanceTimersByTime(WATCH_SILENCE - 1)
    await line('p/a2')
    vi.advanceTimersByTime(WATCH_SILENCE - 1)
    await line('p/a3')
    expect(ends).toEqual([])
    vi.advanceTimersByTime(WATCH_SILENCE)
    await turns(() => ends.length > 0)
    expect(ends).toEqual([expect.stringContaining('nothing was heard for 6 s')])
  })

  it('begins at the next member where one does not let it, and its end is told once', async () => {
    const members = [await FakeMember.start(refuses(14, 'x')), await FakeMember.start(says(CREATED, events(event('p/a'))))]
    const { changed, ends } = watching(await open(['http://127.0.0.1:9', ...members]))
    await eventually(() => expect(changed).toHaveLength(1))
    expect(ends).toEqual([])
    responses[0]?.end()
    await eventually(() => expect(ends).toHaveLength(1))
    // What has begun is not begun again by the client: somebody has to look at all rows first.
    expect(members.map(({ asked }) => asked.length)).toEqual([1, 1])
  })

  it('is another member’s next time where it has broken', async () => {
    const members = [await FakeMember.start(says(CREATED, events(event('p/a')))), await FakeMember.start(says(CREATED))]
    const etcd = await open(members)
    const { changed, ends } = watching(etcd)
    await eventually(() => expect(changed).toHaveLength(1))
    responses[0]?.destroy()
    await eventually(() => expect(ends).toHaveLength(1))
    watching(etcd)
    await eventually(() => expect(members[1]?.asked).toHaveLength(1))
  })

  const OVER = 'rpc error: code = Unauthenticated desc = etcdserver: invalid auth token'
  const cancelled = (cancel_reason: string, created = true) => ({ result: { created, canceled: true, cancel_reason } })
  /** Gives tokens, and watches by the second one only. */
  const guarded = (...lines: object[]) => {
    let tokens = 0
    return FakeMember.start((asked, response, socket) => {
      if (asked.path === '/v3/auth/authenticate') json({ header: HEADER, token: `${++tokens}` })(asked, response, socket)
      else says(...(asked.headers.authorization === '2' ? [CREATED, events(event('p/a'))] : lines))(asked, response, socket)
    })
  }
  const login = () => put(scratch(), 'login', 'gw\nhunter2\n', 0o600)

  it.each([OVER, 'etcdserver: permission denied'])('begins with a new token where the old one is over: %s', async (why) => {
    const { changed, ends } = watching(await open([await guarded(cancelled(why))], { login: login() }))
    await eventually(() => expect(changed).toHaveLength(1))
    expect(ends).toEqual([])
  })

  it('is broken by a token that ends later: what was heard is not asked for again', async () => {
    const etcd = await open([await guarded(CREATED, events(event('p/a')), cancelled(OVER, false))], { login: login() })
    const { changed, ends } = watching(etcd)
    await eventually(() => expect(ends).toEqual([expect.stringContaining('etcdserver: invalid auth token')]))
    expect(changed).toHaveLength(1)
  })

  it('says nothing after it was ended', async () => {
    const ending = new AbortController()
    const member = await FakeMember.start(says(CREATED, events(event('p/a'))))
    const { changed, ends } = watching(await open([member]), ending.signal)
    await eventually(() => expect(changed).toHaveLength(1))
    ending.abort()
    responses[0]?.write(`${JSON.stringify(events(event('p/a')))}\n`)
    await eventually(() => expect(member.sockets.size).toBe(0))
    expect([changed.length, ends]).toEqual([1, []])
  })

  it('says nothing after it was ended by who hears it, not even what has come already', async () => {
    const ending = new AbortController()
    const lines = [CREATED, events(event('p/a1')), events(event('p/a2'))].map((line) => JSON.stringify(line)).join('\n')
    const member = await FakeMember.start(says(`${lines}\n`))
    const told: unknown[] = []
    const changed = (changes: readonly unknown[]) => {
      told.push(...changes)
      ending.abort()
    }
    const etcd = await open([member])
    etcd.watch('a', 'b', 5, { changed, broke: (why) => told.push(why) }, ending.signal)
    await eventually(() => expect(told).not.toEqual([]))
    await eventually(() => expect(member.sockets.size).toBe(0))
    expect(told).toEqual([{ put: expect.objectContaining({ row: 'a1' }) }])
  })

  it('says nothing where it was ended before it began', async () => {
    const member = await FakeMember.start(says(CREATED, events(event('p/a'))))
    const etcd = await open([member])
    const { changed, ends } = watching(etcd, AbortSignal.abort())
    const other = watching(etcd)
    await eventually(() => expect(other.changed).toHaveLength(1))
    expect([changed, ends, member.asked.length]).toEqual([[], [], 1])
  })

  it('is over where the client is closed', async () => {
    const member = await FakeMember.start(says(CREATED, events(event('p/a'))))
    const etcd = await open([member])
    const { changed, ends } = watching(etcd)
    await eventually(() => expect(changed).toHaveLength(1))
    etcd.close()
    await eventually(() => expect(ends).toHaveLength(1))
  })
})

/** Lets what has arrived be heard, without a clock. */
async function turns(holds: () => boolean): Promise<void> {
  for (let i = 0; i < 100_000 && !holds(); i++) await new Promise((resolve) => setImmediate(resolve))
  expect(holds()).toBe(true)
}
