import { renderUnicodeCompact } from 'uqr'

/** White modules of the border: a scanner wants to see where the code ends. */
const BORDER = 2

/** A text as a QR code: lines of characters, two modules high each. */
export function qrLines(text: string): string[] {
  const picture = renderUnicodeCompact(text, { border: BORDER }).split('\n')
  // White on black whatever the terminal's colours are: not every app reads it the other way round.
  return process.stdout.isTTY ? picture.map((line) => `\x1b[97;40m${line}\x1b[0m`) : picture
}

/**
 * A text as a QR code, if this terminal has room for it; null where it hasn't, or there is none.
 * @param beside rows of what is to stay in sight with it, such as a passphrase that is shown once
 */
export function qrThatFits(text: string, beside: number): string[] | null {
  const { isTTY, columns = 0, rows = 0 } = process.stdout
  const picture = renderUnicodeCompact(text, { border: BORDER }).split('\n')
  const fits = (picture[0] ?? '').length <= columns && picture.length + beside <= rows
  return isTTY && fits ? qrLines(text) : null
}
