import { createHash } from 'node:crypto'
import { DEFAULT_POOL } from '../protocol/pool'
import { Fault } from '../system/fault'
import { DEFAULT_PERIOD } from './key-file'
import { sealBytes } from './sealed-key'

/*
 * A sealed key as one line, for a terminal or a QR code: what "knockturn key export --line" prints and "knockclient add" reads.
 * `kt1.AGE.CHECK`: the age file of sealed-key.ts in base64url, and behind it the first bytes of its SHA-256. Without that, a typing error in
 * the age file's header would be taken for a wrong passphrase.
 */

/** What it begins with: the kind of text, and the version of this form. */
const PREFIX = 'kt1.'
/** The command that takes it. */
const COMMAND = 'knockclient add '
/** Bytes of the checksum: one of 4 billion errors is overlooked here, and found by age. */
const CHECK_BYTES = 4
const CHECK_LENGTH = 6
/** Longest line: a terminal's line discipline takes 4095 characters, and a key without many services or ports is 600. */
const MAX_LINE = 4000
/** White space, format characters, quotes of a shell and of mail: what gets into a text that is copied. None of it is base64url's. */
const STRAY = /[\s\p{Cf}"'`>]/gu
/** What stands in front of it where a whole line is copied: a shell's prompt, and the command. */
const LEADING = /^[$#%]?(?:knockclientadd)?(?=kt1\.)/
const WHOLE = /^kt1\.([\w-]+)\.([\w-]+)$/
/** Entries that a reader takes for granted. */
const IMPLIED = [`period = ${DEFAULT_PERIOD}`, `pool = "${DEFAULT_POOL}"`]

const HINT = 'copy the whole line again, or export the key again with "knockturn key export --line"'

/**
 * A key file's text as one line, sealed.
 * @param copy the client's copy of a key
 * @param workFactor as that of {@link sealBytes}
 * @returns the command that takes it, `knockclient add kt1.…`, without a line end
 * @throws {Fault} where the key says so much that it does not fit
 */
export async function formatKeyLine(copy: string, passphrase: string, workFactor?: number): Promise<string> {
  const file = await sealBytes(Buffer.from(shortened(copy)), passphrase, workFactor)
  const line = `${COMMAND}${PREFIX}${Buffer.from(file).toString('base64url')}.${checkOf(file)}`
  if (line.length > MAX_LINE)
    throw new Fault(`the key is too long for a line: expected at most ${MAX_LINE} characters, got ${line.length}`, {
      hint: 'export it as a file, with --passphrase and --out',
    })
  return line
}

/** Whether a text is meant as such a line, be it whole or not: a key file never begins like it. */
export function isKeyLine(text: string): boolean {
  return bare(text.slice(0, MAX_LINE)).startsWith(PREFIX)
}

/** Whether such a line has come to its end, so that nothing more has to be waited for. */
export function isWholeLine(text: string): boolean {
  const [, , check = ''] = WHOLE.exec(bare(text)) ?? []
  return check.length >= CHECK_LENGTH
}

/**
 * The age file in a line, or in the part of it behind `knockclient add`, however it was broken or quoted on its way.
 * @param name of where it comes from, in faults
 * @throws {Fault} where some of it is missing, or not as it was
 */
export function readKeyLine(name: string, text: string): Uint8Array {
  const line = bare(text)
  const refuse = (what: string) => new Fault(`${name}: ${what}`, { hint: HINT })
  if (line.length > MAX_LINE) throw refuse(`expected at most ${MAX_LINE} characters, got ${line.length}`)
  const [, encoded, check] = WHOLE.exec(line) ?? []
  if (encoded === undefined) throw refuse('the line is cut off, or has characters in it that were not printed')
  if (check.length < CHECK_LENGTH) throw refuse('the end of the line is missing')
  const file = Buffer.from(encoded, 'base64url')
  if (file.toString('base64url') !== encoded || check !== checkOf(file))
    throw refuse('the line is not as it was printed: a character is wrong or missing')
  return file
}

/** Without what has got in on its way, and what stands in front. */
function bare(text: string): string {
  return text.replace(STRAY, '').replace(LEADING, '')
}

function checkOf(file: Uint8Array): string {
  return createHash('sha256').update(file).digest().subarray(0, CHECK_BYTES).toString('base64url')
}

/** A client's copy without comments and what goes without saying: each line of it is one entry. */
function shortened(copy: string): string {
  return copy
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#') && !IMPLIED.includes(line))
    .join('\n')
}
