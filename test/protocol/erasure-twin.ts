/*
 * The erasure code of docs/protocol.md once more, slow and plain, to hold src/protocol/erasure.ts against: multiplication bit by
 * bit, encoding by Lagrange's formula, decoding by trying every k of the symbols. It shares no code with what it checks.
 */

/** Shift and xor: the product of two polynomials over GF(2), modulo 0x11d. */
export function multiply(a: number, b: number): number {
  let product = 0
  for (let shifted = a, bits = b; bits; bits >>= 1) {
    if (bits & 1) product ^= shifted
    shifted <<= 1
    if (shifted & 0x100) shifted ^= 0x11d
  }
  return product
}

const ALL = Array.from({ length: 256 }, (_, i) => i)
const PRODUCTS = ALL.map((a) => ALL.map((b) => multiply(a, b)))
const INVERSE = PRODUCTS.map((row) => row.indexOf(1))

/** The place of a symbol, and the symbol. */
export type Point = readonly [place: number, symbol: number]

/** The value at x of the polynomial through the points. */
function lagrange(points: readonly Point[], x: number): number {
  let sum = 0
  for (const [xi, yi] of points) {
    let term = yi
    for (const [xj] of points) if (xj !== xi) term = PRODUCTS[term][PRODUCTS[x ^ xj][INVERSE[xi ^ xj]]]
    sum ^= term
  }
  return sum
}

/** The codeword of `data` at any places. */
export function codewordAt(data: ArrayLike<number>, places: readonly number[]): number[] {
  const points = Array.from(data, (symbol, place): Point => [place, symbol])
  return places.map((place) => lagrange(points, place))
}

/** How many of the symbols are not those of the data's codeword. */
export function disagreements(data: ArrayLike<number>, points: readonly Point[]): number {
  const codeword = codewordAt(
    data,
    points.map(([place]) => place),
  )
  return points.filter(([, symbol], i) => symbol !== codeword[i]).length
}

/** The data whose codeword is wrong in at most (c - k) / 2 of the c symbols, or null. */
export function decode(points: readonly Point[], k: number): number[] | null {
  for (const chosen of subsets(points, k)) {
    const data = ALL.slice(0, k).map((place) => lagrange(chosen, place))
    if (2 * disagreements(data, points) <= points.length - k) return data
  }
  return null
}

/** Every choice of `size` of the items. */
function* subsets<T>(items: readonly T[], size: number): Generator<T[]> {
  if (size === 0) yield []
  else
    for (let i = 0; i + size <= items.length; i++)
      for (const rest of subsets(items.slice(i + 1), size - 1)) yield [items[i], ...rest]
}
