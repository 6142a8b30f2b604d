import { describe, expect, it } from 'vitest'
import { nearest, Searches } from '../../../src/admin/replay/nearest'
import { rendezvous } from '../../../src/protocol/codebook'
import { keyOf, knockOf, MIDDLE, WINDOW } from '../../gate/listener/ear'

const KEY = keyOf(1)
const AT = MIDDLE * 1000
const MOST = 100_000
const ROOM = 1_000_000
const touched = (ports: Iterable<number>) => new Map([...ports].map((port) => [port, AT]))
/** The window that is found, in a recording with so many sources that are looked for. */
const found = (ports: Iterable<number>, searches: number, room = ROOM, most = MOST) =>
  nearest(touched(ports), [KEY], AT, new Searches(room, most, searches))?.window ?? null

describe('a key and window', () => {
  const some = knockOf(KEY).slice(5, 30)

  it('are named by three rendezvous ports where there is one source, and not where there are so many that one of them has these by chance', () => {
    expect([found(some, 1), found(some, 1_000_000)]).toEqual([WINDOW, null])
  })

  it('are named by a quorum however many sources there are', () => {
    expect(found(knockOf(KEY).slice(0, 30), 100_000)).toBe(WINDOW)
  })

  it('are not named by a port or two', () => {
    expect(found([...rendezvous(KEY, WINDOW).slice(0, 2), 50_000, 50_001, 50_002, 50_003], 1)).toBe(null)
  })

  it('are looked for no further than a search may go', () => {
    const far = knockOf(KEY, 1, WINDOW - 500)
    expect([found(far, 1, ROOM, 1_100), found(far, 1, ROOM, 900)]).toEqual([WINDOW - 500, null])
  })

  it('are looked for in no more room than all searches have together', () => {
    const far = knockOf(KEY, 1, WINDOW - 500)
    expect([found(far, 1, 1_200), found(far, 1, 800), found(far, 2, 1_200)]).toEqual([WINDOW - 500, null, null])
  })

  it('cost little where another search has computed them', () => {
    const searches = new Searches(2_400, MOST, 2)
    const far = touched(knockOf(KEY, 1, WINDOW - 500))
    const windows = [1, 2].map(() => nearest(far, [KEY], AT, searches)?.window)
    expect(windows).toEqual([WINDOW - 500, WINDOW - 500])
  })
})
