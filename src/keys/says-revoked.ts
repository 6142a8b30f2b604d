/**
 * `revoked` and an equals sign at a line's start, quoted or not. Whatever is no printable ASCII may stand around it: blanks, a byte order
 * mark, half of a character.
 */
const REVOKED = /^[^!-~\r\n]*["']?revoked["']?[^!-~\r\n]*=/im

/**
 * Whether the bytes of a file that is no valid key say that it is revoked all the same: in any encoding that has ASCII in it, UTF-16 too.
 * @param bytes the whole file, or the beginning of a long one
 */
export function saysRevoked(bytes: Uint8Array): boolean {
  return REVOKED.test(Buffer.from(bytes).toString('latin1').replaceAll('\0', ''))
}
