import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** So many taps leave something behind that is worth tidying up, some 10 MB; and with so few between two looks there is time for it. */
const MANY = 100_000
const FEW = 1_000
/** Looks in a row with few taps: by the second, every session of a flood is over. */
const CALM_LOOKS = 2

/** For so many milliseconds memory is dear then: V8 waits 8 s, and takes its time. */
const DEAR = 20_000

/**
 * V8 collects garbage when it needs room, and after a flood it needs none: for hours what the flood took would still be ours. Makes a look
 * at how many taps there were, to be had every ten seconds, which tidies up once when many are over.
 * @param seen how many taps there have been so far
 * @param tidy gives back what nobody holds any more
 */
export function tidyingWatch(seen: () => number, tidy: () => void = collectGarbage): () => void {
  let before = 0
  let left = 0
  let calm = 0
  return () => {
    const taps = seen() - before
    before += taps
    left += taps
    calm = taps <= FEW ? calm + 1 : 0
    if (left < MANY || calm < CALM_LOOKS) return
    left = 0
    tidy()
  }
}

/** A tenth of a second at most, with 10,000 keys. V8 shows its collector only where it is asked to; a context that is made then has it. */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc')
  // Some seconds after a collection V8 takes one more by itself if memory is dear, and gives back the room for young objects, too: 33 MB.
  setFlagsFromString('--optimize-for-size')
  runInNewContext('globalThis.gc?.()')
  setFlagsFromString('--no-expose-gc')
  setTimeout(() => setFlagsFromString('--no-optimize-for-size'), DEAR).unref()
}
