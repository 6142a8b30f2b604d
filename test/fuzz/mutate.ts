import { seededRandom } from '../gate/listener/ear'

/* Inputs for the fuzz targets: valid samples, damaged. */

/** Longest input in bytes: more than any of the readers takes at once. */
const MAX_INPUT = 256 * 1024
/** Changes of one input. */
const MAX_CHANGES = 8
/** Numbers at which bounds lie. */
const EDGES = ['0', '-1', '1', '255', '256', '65535', '65536', '4294967295', '4294967296', '9007199254740992', '1e400', '00']
const BYTES = [0, 1, 0x0a, 0x0d, 0x20, 0x22, 0x5c, 0x7f, 0x80, 0xff]

/** What inputs of a target are made of. */
export interface Material {
  /** Valid inputs, from which the others are made. */
  readonly samples: readonly Buffer[]
  /** Words that the reader knows. */
  readonly words: readonly string[]
  /** Corrects what chance never gets right: checksums and lengths. */
  readonly mend?: (input: Buffer) => Buffer
}

/** The nth input of a target under a seed: always the same. */
export function inputOf({ samples, words, mend }: Material, seed: number, n: number): { input: Buffer; random: () => number } {
  const random = seededRandom(Math.imul(seed, 0x9e3779b1) ^ n)
  const below = (limit: number): number => Math.floor(random() * limit)
  const one = <T>(of: readonly T[]): T => of[below(of.length)]
  /** A stretch of some bytes: where it starts and ends. Mostly short, sometimes all that there is. */
  const stretch = (bytes: Buffer): [number, number] => {
    const from = below(bytes.length + 1)
    return [from, Math.min(bytes.length, from + below(1 + 2 ** below(12)))]
  }
  const replaced = (bytes: Buffer, [from, to]: readonly [number, number], by: Buffer): Buffer =>
    Buffer.concat([bytes.subarray(0, from), by, bytes.subarray(to)])

  const changes: ((bytes: Buffer) => Buffer)[] = [
    (bytes) => {
      const changed = Buffer.from(bytes)
      if (changed.length > 0) changed[below(changed.length)] ^= 1 << below(8)
      return changed
    },
    (bytes) => replaced(bytes, stretch(bytes), Buffer.of(one(BYTES))),
    (bytes) => replaced(bytes, stretch(bytes), Buffer.alloc(0)),
    (bytes) => bytes.subarray(0, below(bytes.length + 1)),
    (bytes) => replaced(bytes, stretch(bytes), Buffer.from(one(words))),
    (bytes) => {
      // In place of another number, if there is one.
      const numbers = [...bytes.toString('latin1').matchAll(/\d+/g)]
      const number = numbers.length > 0 ? one(numbers) : undefined
      const at = number?.index ?? 0
      return replaced(bytes, [at, at + (number?.[0].length ?? 0)], Buffer.from(one(EDGES)))
    },
    (bytes) => {
      const other = one(samples)
      return replaced(bytes, stretch(bytes), other.subarray(...stretch(other)))
    },
    (bytes) => {
      const [from, to] = stretch(bytes)
      const times = 2 ** below(random() < 0.02 ? 16 : 4)
      return replaced(bytes, [to, to], Buffer.alloc(Math.min((to - from) * times, MAX_INPUT), bytes.subarray(from, to)))
    },
  ]
  let input = one(samples)
  // One change in every other input: an input with many changes is refused early.
  for (let i = 1 + below(2) * below(MAX_CHANGES); i > 0; i--) input = one(changes)(input).subarray(0, MAX_INPUT)
  return { input: mend && random() < 0.7 ? mend(input) : input, random }
}

/** Cuts an input into chunks, as it may come from a pipe. */
export function chunksOf(input: Buffer, random: () => number): Buffer[] {
  const chunks: Buffer[] = []
  for (let at = 0; at < input.length; ) {
    const size = 1 + Math.floor(random() * 2 ** Math.floor(random() * 17))
    chunks.push(input.subarray(at, at + size))
    at += size
  }
  return chunks
}
