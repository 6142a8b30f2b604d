/**
 * A non-negative integer as 8 bytes, big-endian.
 * @throws {RangeError} when it is not a safe non-negative integer
 */
export function u64(value: number): Uint8Array {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`"value" expected 0 to 2^53-1, got ${value}`)
  const bytes = new Uint8Array(8)
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value))
  return bytes
}
