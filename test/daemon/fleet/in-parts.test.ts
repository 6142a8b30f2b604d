import { describe, expect, it } from 'vitest'
import { InParts } from '../../../src/daemon/fleet/in-parts'

const names = (count: number, from = 0) => Array.from({ length: count }, (_, i) => `row ${from + i}`)
const turn = () => new Promise(setImmediate)

function begin() {
  const done: string[] = []
  return { done, parts: new InParts((name) => done.push(name)) }
}

describe('what is dealt with in parts', () => {
  it('is done at once where it is not much', () => {
    const { done, parts } = begin()
    parts.ask(names(256))
    expect(done).toEqual(names(256))
  })

  it('lets others have their turn before the rest', async () => {
    const { done, parts } = begin()
    let seen = 0
    setImmediate(() => {
      seen = done.length
    })
    parts.ask(names(65_536))
    await turn()
    expect(seen).toBe(256)
    while (done.length < 65_536) await turn()
    expect(done).toEqual(names(65_536))
  })

  it('is done in its turn, however often all is asked for again', async () => {
    const { done, parts } = begin()
    for (let again = 0; again < 4; again++) {
      parts.ask(names(1_024))
      await turn()
    }
    expect(new Set(done).size).toBe(1_024)
  })

  it('is let go of at the end', async () => {
    const { done, parts } = begin()
    parts.ask(names(300))
    parts.end()
    await turn()
    await turn()
    expect(done).toEqual(names(256))
  })
})
