import type { Stats } from 'node:fs'
import { createInterface } from 'node:readline'
import { asClient, type KeyFile } from '../../keys/key-file'
import { isKeyLine, isWholeLine, readKeyLine } from '../../keys/key-line'
import { UsageFault } from '../../system/fault'
import { checkSecret, readBytes } from '../../system/files'
import { isSealed, MAX_FILE, openKey, readOpen } from '../client-key'

/* A key that somebody brings to this machine: as a file, as text, or as the line that the server printed. */

export interface Brought {
  /** The client's copy, whatever else was in the file. */
  readonly key: KeyFile
  /** The age file that it came in; null: it was not under a passphrase. */
  readonly sealed: Uint8Array | null
  /** Its file, which is not needed any more; null: there is none. */
  readonly path: string | null
  /** Whether other users of this machine could read it there. */
  readonly isExposed: boolean
}

/**
 * Reads a key, and asks for its passphrase where it has one.
 * @param what a path, `-` for standard input, or the line; undefined: standard input, where it is pasted on a terminal
 * @throws {Fault}
 */
export async function bring(what: string | undefined): Promise<Brought> {
  if (what !== undefined && isKeyLine(what)) return opened('the key', readKeyLine('the key', what), false)
  if (what !== undefined && what !== '-') return bringFile(what)
  const bytes = process.stdin.isTTY
    ? await pasted()
    : await readOpen(INPUT, 0, 'pipe a key file or the line there, or name a file')
  if (bytes.length === 0) throw new UsageFault('no key: nothing was given', { hint: 'name its file, or paste the line' })
  // Standard input has been read: there is no passphrase in it.
  return opened(INPUT, bytes, true)
}

const INPUT = 'standard input'

async function bringFile(path: string): Promise<Brought> {
  let isPrivate = true
  const bytes = await readBytes(path, MAX_FILE, (_, stats) => {
    isPrivate = isOursAlone(path, stats)
  })
  const brought = await opened(path, bytes, false)
  return { ...brought, path, isExposed: brought.sealed === null && !isPrivate }
}

async function opened(name: string, bytes: Uint8Array, typed: boolean): Promise<Brought> {
  const text = new TextDecoder().decode(bytes)
  const file = isKeyLine(text) ? readKeyLine(name, text) : bytes
  const sealed = isSealed(file) ? file : null
  return { key: asClient(await openKey(name, file, typed)), sealed, path: null, isExposed: false }
}

function isOursAlone(path: string, stats: Stats): boolean {
  try {
    checkSecret(path, stats)
    return true
  } catch {
    return false
  }
}

/** What is pasted on the terminal: up to the end of the line that the server printed, or to the end of the input. */
async function pasted(): Promise<Uint8Array> {
  process.stderr.write('paste the line that the server printed, "knockclient add kt1...", and press Enter:\n')
  let text = ''
  const reader = createInterface({ input: process.stdin })
  for await (const line of reader) {
    text += `${line}\n`
    if (isWholeLine(text) || text.length > MAX_FILE) break
  }
  // It would read on, and take away what is typed next: the passphrase.
  reader.close()
  return Buffer.from(text)
}
