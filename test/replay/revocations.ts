// Ways in which the file of a revoked key is no longer a valid key file: the daemon has to notice the word, or the file's length, at once.

/** Longest key file, in bytes. */
export const MAX_KEY_FILE = 65_536
const WORD = 'revoked = 2026-11-22T12:00:00Z\n'
const BROKEN = '[[[\n'

const utf16 = (text: string) => Buffer.from(`\ufeff${text}`, 'utf16le')

/** What is done to a valid key file's text. */
export const revocations: Record<string, (text: string) => string | Buffer> = {
  'beside TOML that is broken': (text) => WORD + text + BROKEN,
  'in double quotes': (text) => `"revoked" = yes\n${text}`,
  'in single quotes': (text) => `'revoked' = yes\n${text}`,
  'at the end, behind blanks': (text) => `${text}\n \t revoked\t= yes`,
  'beside a letter of Latin-1': (text) => Buffer.from(`# caf\xe9\n${WORD}${text}`, 'latin1'),
  'behind a byte order mark, beside a letter of Latin-1': (text) => Buffer.from(`\xef\xbb\xbf${WORD}# \xe9\n${text}`, 'latin1'),
  'in UTF-16': (text) => utf16(WORD + text),
  'in UTF-16, with the bytes in the other order': (text) => utf16(text + WORD).swap16(),
  'between NULs': (text) => `\0${WORD}${text}`,
  'in too long a file': (text) => WORD + text.padEnd(MAX_KEY_FILE, '\n'),
  'at the end of too long a file': (text) => `${text.padEnd(10 * MAX_KEY_FILE, '#\n')}\n${WORD}`,
}
