import { describe, expect, it } from 'vitest'
import { History } from '../../../src/daemon/fleet/history'

const header = (revision: number, term = 2, cluster = 'c1') => ({ cluster, revision, term })

describe('the history of an etcd', () => {
  it('goes on where a revision is no lower than before the request', () => {
    const history = new History(header(10))
    const mark = history.mark()
    history.note(header(20))
    expect(history.judge(mark, header(10))).toBeNull()
    expect(history.judge(mark, header(9))).toBe('its revision went back from 10 to 9')
    expect(history.judge(history.mark(), header(19))).toBe('its revision went back from 20 to 19')
  })

  it('is another one where the cluster is another one', () => {
    expect(new History(header(10)).judge(10, header(11, 2, 'c2'))).toBe('it is another cluster')
    expect(new History(header(0, 0, '')).judge(0, header(11, 2, 'c2'))).toBeNull()
  })

  it('is another one where an earlier run has seen a later term', () => {
    const history = new History(header(10, 7))
    expect(history.judge(history.mark(), header(10, 6))).toBe('its raft term went back from 7 to 6')
  })

  it('goes on where a member tells its term a moment late', () => {
    const history = new History(header(10, 2))
    const mark = history.mark()
    history.note(header(11, 3))
    // Asked before the new leader was seen; and asked where nothing has been written since.
    expect(history.judge(mark, header(11, 2))).toBeNull()
    history.note(header(11, 3))
    history.note(header(12, 3))
    expect(history.judge(history.mark(), header(12, 2))).toBe('its raft term went back from 3 to 2')
  })

  it('knows only answers to what was asked of it, when it has begun anew', () => {
    const history = new History(header(1_000, 9))
    const mark = history.mark()
    history.beginAnew(5)
    expect(history.isForeign(mark)).toBe(true)
    history.note(header(2_000, 2, 'c2'))
    expect(history.isForeign(mark)).toBe(true)
    expect(history.isForeign(history.mark())).toBe(false)
    expect(history.newest).toEqual(header(2_000, 2, 'c2'))
  })

  it('keeps few terms, of however many elections', () => {
    const history = new History(header(1, 1))
    for (let n = 2; n < 1_000; n++) history.note(header(n, n))
    history.note(header(1_000, 999))
    expect(history.judge(history.mark(), header(1_000, 998))).not.toBeNull()
  })
})
