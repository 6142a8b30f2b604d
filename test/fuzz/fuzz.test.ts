import { describe, it } from 'vitest'
import { inputOf } from './mutate'
import { targets } from './targets'

/** Cases of each target, the same in every run; `npm run fuzz` goes on from there for as long as you like. */
const CASES = 3_000

describe('every reader keeps its promises for any bytes:', () => {
  it.each(targets)('$name', async (target) => {
    for (let n = 0; n < CASES; n++) {
      const { input, random } = inputOf(target, 1, n)
      try {
        await target.read(input, random)
      } catch (error) {
        throw new Error(`case ${n}, ${JSON.stringify(input.toString('latin1').slice(0, 500))}`, { cause: error })
      }
    }
  })
})
