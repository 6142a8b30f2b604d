import { describe, expect, it } from 'vitest'
import { Repeated } from '../../../src/daemon/fleet/repeated'

/** Work that is repeated, by a clock that the test moves. */
function begin() {
  const clock = { steady: 1_000 }
  const failures: unknown[] = []
  const repeated = new Repeated(
    () => ({ wall: 0, steady: clock.steady }),
    (error) => failures.push(error),
  )
  const settled = async () => {
    for (let turn = 0; turn < 4; turn++) await new Promise(setImmediate)
  }
  const pass = async (ms: number) => {
    clock.steady += ms
    repeated.work()
    await settled()
  }
  return { repeated, failures, settled, pass }
}

/** Something that is waited for until it is let go. */
function held() {
  let release = () => {}
  const waits = new Promise<void>((resolve) => {
    release = resolve
  })
  return { waits, release }
}

describe('what is repeated', () => {
  it('is done at once, and is over when it says so', async () => {
    const { repeated, settled, pass } = begin()
    let count = 0
    repeated.ask('a', async () => ++count === 1)
    await settled()
    await pass(60_000)
    expect([count, repeated.has('a')]).toEqual([1, false])
  })

  it('rests longer each time that it comes to nothing, and not for long', async () => {
    const { repeated, pass, settled } = begin()
    const times: number[] = []
    let now = 0
    repeated.ask('a', async () => {
      times.push(now)
      return false
    })
    await settled()
    for (; now < 40_000; ) {
      now += 500
      await pass(500)
    }
    expect(times).toEqual([0, 500, 1_500, 3_500, 7_500, 15_500, 23_500, 31_500, 39_500])
    await repeated.end(60_000)
  })

  it('is told of where it fails, and goes on', async () => {
    const { repeated, failures, pass, settled } = begin()
    const error = new Error('no')
    let count = 0
    repeated.ask('a', async () => {
      if (++count === 1) throw error
      return true
    })
    await settled()
    await pass(500)
    expect([failures, count, repeated.has('a')]).toEqual([[error], 2, false])
  })

  it('is one at a time of a name, and once more where it was asked for meanwhile', async () => {
    const { repeated, settled } = begin()
    const done: string[] = []
    const { waits, release } = held()
    repeated.ask('a', async () => {
      await waits
      done.push('first')
      return true
    })
    await settled()
    for (const what of ['second', 'third']) repeated.ask('a', async () => done.push(what) > 0)
    await settled()
    expect(done).toEqual([])
    release()
    await settled()
    expect([done, repeated.has('a')]).toEqual([['first', 'third'], false])
  })

  it('waits where it is to, and no longer when it is woken', async () => {
    const { repeated, pass, settled } = begin()
    const done: string[] = []
    repeated.ask('a', async () => done.push('a') > 0, 5_000)
    repeated.ask('b', async () => done.push('b') > 0, 5_000)
    await pass(4_500)
    const before = [...done]
    repeated.wake()
    await settled()
    expect([before, done]).toEqual([[], ['a', 'b']])
  })

  it('is not more at once than so many, whatever there is to do', async () => {
    const { repeated, settled } = begin()
    const running = new Set<() => void>()
    let most = 0
    let count = 0
    for (let i = 0; i < 100; i++) {
      repeated.ask(`${i}`, async () => {
        await new Promise<void>((resolve) => {
          running.add(resolve)
          most = Math.max(most, running.size)
        })
        return ++count > 0
      })
    }
    while (count < 100) {
      await settled()
      for (const release of [...running]) {
        running.delete(release)
        release()
      }
    }
    expect(most).toBe(16)
  })

  it('ends with what is under way, and begins nothing more', async () => {
    const { repeated, settled } = begin()
    const done: string[] = []
    const { waits, release } = held()
    repeated.ask('a', async () => {
      await waits
      return done.push('a') < 0
    })
    await settled()
    const ended = repeated.end(60_000).then(() => done.push('ended'))
    repeated.ask('b', async () => done.push('b') > 0)
    await settled()
    const before = [...done]
    release()
    await ended
    expect([before, done]).toEqual([[], ['a', 'ended']])
  })

  it('is not waited for at the end for longer than that may take', async () => {
    const { repeated, settled } = begin()
    repeated.ask('a', () => new Promise(() => {}))
    await settled()
    await repeated.end(1)
    expect(repeated.has('a')).toBe(true)
  })

  it('rests the longer the more of it comes to nothing', async () => {
    const { repeated, pass } = begin()
    const MANY = 16_000
    let count = 0
    for (let i = 0; i < MANY; i++) repeated.ask(`row ${i}`, async () => ++count < 0)
    const forSeconds = async (seconds: number) => {
      for (let i = 0; i < 2 * seconds; i++) await pass(500)
    }
    await forSeconds(48)
    const before = count
    await forSeconds(32)
    expect(count - before).toBe(2 * MANY)
    await repeated.end(1)
  })
})
