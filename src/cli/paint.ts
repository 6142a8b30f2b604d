import { styleText } from 'node:util'

/** What a word on the terminal means. */
export type Style = 'good' | 'bad' | 'warn' | 'head' | 'dim'

const FORMATS = { good: 'green', bad: 'red', warn: 'yellow', head: 'bold', dim: 'dim' } as const

/** A text in a colour on a terminal, and as it is everywhere else, or where NO_COLOR is set. It stands behind all else: a painted text is not printable any more. */
export const paint = (style: Style, text: string): string => styleText(FORMATS[style], text, { stream: process.stdout })
