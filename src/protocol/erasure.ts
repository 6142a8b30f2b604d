/*
 * Systematic Reed-Solomon over GF(2^8), polynomial x^8+x^4+x^3+x^2+1 (0x11d): the codeword is the polynomial p of degree < k
 * with p(i) = data[i] for i < k, evaluated at i = 0 .. n-1 (docs/protocol.md, "Erasure code"). A polynomial is an array of
 * coefficients, lowest first. Addition and subtraction are both XOR.
 */

const EXP = new Uint8Array(510)
const LOG = new Uint8Array(256)
for (let i = 0, x = 1; i < 255; i++) {
  EXP[i] = EXP[i + 255] = x
  LOG[x] = i
  x = x < 128 ? x << 1 : (x << 1) ^ 0x11d
}

const times = (a: number, b: number): number => (a && b ? EXP[LOG[a] + LOG[b]] : 0)
const over = (a: number, b: number): number => (a ? EXP[LOG[a] + 255 - LOG[b]] : 0)

/**
 * Widens data to a codeword of n symbols, the first of which are the data themselves.
 * @throws {RangeError} when n is less than the data's length or over 255
 */
export function encode(data: Uint8Array, n: number): Uint8Array {
  if (!Number.isInteger(n) || n < data.length || n > 255) throw new RangeError(`"n" expected ${data.length} to 255, got ${n}`)
  const p = interpolate(
    Uint8Array.from(data, (_, i) => i),
    data,
  ).poly
  const word = new Uint8Array(n)
  word.set(data)
  for (let i = data.length; i < n; i++) word[i] = evaluate(p, i)
  return word
}

/**
 * Rebuilds the k data symbols from c of a codeword's symbols, of which at most floor((c - k) / 2) may be wrong
 * (S. Gao, "A new algorithm for decoding Reed-Solomon codes", 2003; the symbols not given are the erasures).
 * @param places the positions of the symbols, each once
 * @param symbols the symbol at each of these positions
 * @returns the data, or null where no codeword is that near
 */
export function decode(places: Uint8Array, symbols: Uint8Array, k: number): Uint8Array | null {
  const c = places.length
  if (c < k) return null
  const { poly, zeros } = interpolate(places, symbols)
  const found = degree(poly) < k ? poly : divideOutErrors(zeros, poly, c, k)
  if (!found) return null
  let wrong = 0
  for (let i = 0; i < c; i++) if (evaluate(found, places[i]) !== symbols[i]) wrong++
  if (2 * wrong > c - k) return null
  return Uint8Array.from({ length: k }, (_, i) => evaluate(found, i))
}

/** Euclid on (zeros, poly) until the remainder is short enough; there it is data times error locator, or nothing is. */
function divideOutErrors(zeros: Uint8Array, poly: Uint8Array, c: number, k: number): Uint8Array | null {
  let [r0, r1]: Uint8Array[] = [zeros, poly]
  let [v0, v1]: Uint8Array[] = [Uint8Array.of(0), Uint8Array.of(1)]
  while (2 * degree(r1) >= c + k) {
    const { quotient, remainder } = divide(r0, r1)
    ;[r0, r1] = [r1, remainder]
    ;[v0, v1] = [v1, plus(v0, product(quotient, v1))]
  }
  const { quotient, remainder } = divide(r1, v1)
  return degree(remainder) < 0 && degree(quotient) < k ? quotient : null
}

/** Newton's interpolation: the polynomial through the points, and the one that is zero at just these places. */
function interpolate(places: Uint8Array, symbols: Uint8Array): { poly: Uint8Array; zeros: Uint8Array } {
  const c = places.length
  const poly = new Uint8Array(c)
  const zeros = new Uint8Array(c + 1)
  zeros[0] = 1
  for (let i = 0; i < c; i++) {
    const x = places[i]
    const factor = over(symbols[i] ^ evaluate(poly, x, i), evaluate(zeros, x, i + 1))
    for (let j = 0; j <= i; j++) poly[j] ^= times(factor, zeros[j])
    // zeros *= (X - x)
    for (let j = i + 1; j > 0; j--) zeros[j] = zeros[j - 1] ^ times(x, zeros[j])
    zeros[0] = times(x, zeros[0])
  }
  return { poly, zeros }
}

function evaluate(p: Uint8Array, x: number, length = p.length): number {
  if (x === 0) return p[0]
  const log = LOG[x]
  let sum = 0
  for (let i = length - 1; i >= 0; i--) sum = (sum ? EXP[LOG[sum] + log] : 0) ^ p[i]
  return sum
}

/** The degree, -1 for the zero polynomial. */
function degree(p: Uint8Array): number {
  let d = p.length - 1
  while (d >= 0 && p[d] === 0) d--
  return d
}

function divide(a: Uint8Array, b: Uint8Array): { quotient: Uint8Array; remainder: Uint8Array } {
  const db = degree(b)
  const remainder = a.slice()
  const quotient = new Uint8Array(Math.max(1, degree(a) - db + 1))
  for (let i = degree(a); i >= db; i--) {
    const factor = over(remainder[i], b[db])
    quotient[i - db] = factor
    if (factor) for (let j = 0; j <= db; j++) remainder[i - db + j] ^= times(factor, b[j])
  }
  return { quotient, remainder: remainder.subarray(0, Math.max(1, db)) }
}

function product(a: Uint8Array, b: Uint8Array): Uint8Array {
  const out = new Uint8Array(a.length + b.length - 1)
  for (let i = 0; i < a.length; i++) for (let j = 0; j < b.length; j++) out[i + j] ^= times(a[i], b[j])
  return out
}

function plus(a: Uint8Array, b: Uint8Array): Uint8Array {
  const out = new Uint8Array(Math.max(a.length, b.length))
  for (let i = 0; i < out.length; i++) out[i] = (a[i] ?? 0) ^ (b[i] ?? 0)
  return out
}
