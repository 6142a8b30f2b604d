import { stringify } from 'smol-toml'
import type { PasscodeGrant } from '../gate/server-key'
import { Fault } from '../system/fault'
import { changeText, checkSecret, readText, tooLong } from '../system/files'
import { findTable } from '../system/toml-edit'
import { describePasscode } from './grant-table'
import { type KeyFile, MAX_KEY_FILE, parseKeyFile } from './key-file'
import { checkTaken, findKey, keyPath } from './keyring'

/**
 * Writes a passcode into a key's file, in place of the one that is there; everything else in it stays as it is, comments too.
 * @param passcode null: takes it away
 * @throws {Fault}
 */
export async function writePasscode(folder: string, id: string, passcode: PasscodeGrant | null): Promise<void> {
  await findKey(folder, id)
  const path = keyPath(folder, id)
  await changeText(path, async () => {
    const source = await readText(path, MAX_KEY_FILE, checkSecret)
    const rest = withoutTable(source)
    const table = passcode && stringify({ passcode: { pin: passcode.pin, ...describePasscode(passcode) } })
    const text = table ? `${rest.trimEnd()}\n\n${table}` : rest
    const size = Buffer.byteLength(text)
    if (size > MAX_KEY_FILE) throw tooLong(path, MAX_KEY_FILE, size)
    const { value } = parseKeyFile(path, text)
    // What could not be read again is not written: a table in another form, such as `passcode.pin = ...`, is left to who wrote it.
    if (!value || !isSame(value.passcode, passcode))
      throw new Fault(`${path}: its passcode is not a plain table [passcode]`, { hint: 'remove it from the file by hand first' })
    return text
  })
  const unseen = passcode ? `the daemon does not see the new passcode of ${id}` : `the daemon still sees a passcode of ${id}`
  await checkTaken(folder, id, ({ key }) => key !== undefined && isSame(key.passcode, passcode), unseen)
}

/** A key file's text without its table [passcode], up to the next table's header and the comments right in front of that. */
function withoutTable(source: string): string {
  const lines = source.split('\n')
  const table = findTable(lines, (line) => /^\s*\[\s*passcode\s*\]/.test(line))
  if (!table) return source
  let to = table.to
  while (to < lines.length && /^\s*#/.test(lines[to - 1])) to--
  const rest = [...lines.slice(0, table.from), ...lines.slice(to)].join('\n')
  return `${rest.trimEnd()}\n`
}

function isSame(there: KeyFile['passcode'], wanted: PasscodeGrant | null): boolean {
  const said = (passcode: PasscodeGrant) => JSON.stringify([passcode.pin, describePasscode(passcode)])
  return there && wanted ? said(there) === said(wanted) : !there && !wanted
}
