import { describe, expect, it } from 'vitest'
import { tidyingWatch } from '../../src/daemon/tidying'

/** At which looks it was tidied up, where so many taps came before each. */
function tidied(...taps: number[]): number[] {
  let seen = 0
  const looks: number[] = []
  let at = 0
  const look = tidyingWatch(
    () => seen,
    () => looks.push(at),
  )
  for (const [i, count] of taps.entries()) {
    at = i
    seen += count
    look()
  }
  return looks
}

describe('what a flood has left behind', () => {
  it('is given back once, when its sessions are over', () => {
    expect(tidied(500_000, 60_000, 0, 3, 0, 0)).toEqual([3])
  })

  it('is given back where the noise of the Internet goes on', () => {
    expect(tidied(500_000, 1_000, 1_000, 1_000)).toEqual([2])
  })

  it('is not looked for while the flood goes on', () => {
    expect(tidied(...Array(20).fill(500_000))).toEqual([])
  })

  it('is given back after each flood', () => {
    expect(tidied(500_000, 0, 0, 0, 500_000, 0, 0)).toEqual([2, 6])
  })

  it('is not looked for after a few taps', () => {
    expect(tidied(0, 50_000, 0, 0, 49_000, 0, 0)).toEqual([])
  })

  it('is given back by V8 itself', () => {
    let seen = 0
    const look = tidyingWatch(() => seen)
    const gone = new WeakRef({})
    seen = 1_000_000
    // What a WeakRef was made of is held until this step is over.
    return new Promise((resolve) => setTimeout(resolve, 0)).then(() => {
      for (let i = 0; i < 3; i++) look()
      expect(gone.deref()).toBeUndefined()
    })
  })
})
