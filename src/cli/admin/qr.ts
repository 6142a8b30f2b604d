import { renderUnicodeCompact } from 'uqr'

/** White modules of the border: a scanner wants to see where the code ends. */
const BORDER = 2

/** A text as a QR code: lines of characters, two modules high each. */
export function qrLines(text: string): string[] {
  const picture = renderUnicodeCompact(text, { border: BORDER }).split('\n')
  // White on black whatever the terminal's colours are: not every app reads it the other way round.
  return process.stdout.isTTY ? picture.map((line) => `\x1b[97;40m${line}\x1b[0m`) : picture
}

/** A text as a QR code, if this terminal is wide enough; null where it isn't, or there is none. */
export function qrThatFits(text: string): string[] | null {
  const { isTTY, columns = 0 } = process.stdout
  const [top = ''] = renderUnicodeCompact(text, { border: BORDER }).split('\n')
  return isTTY && top.length <= columns ? qrLines(text) : null
}
