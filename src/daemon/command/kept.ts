import { type FileHandle, open, rename } from 'node:fs/promises'
import { dirname } from 'node:path'
import * as v from 'valibot'
import type { Entry } from '../../gate/firewall'
import { formatCidr, parseCidr } from '../../protocol/address'
import { MAX_PORT } from '../../protocol/ports'
import { Fault } from '../../system/fault'
import { checkSecret, ReadFault, readText, syncFolder } from '../../system/files'
import { NAME } from './listed'

/* What may be open beyond this machine, and what is locked: written down before a program is asked to open anything. */

/** Longest file that is read: every lease and every lock, at some 300 bytes each, and as much again. */
const MAX_FILE = 4 * 1024 * 1024

const address = v.pipe(
  v.string(),
  v.check((text) => {
    const block = parseCidr(text)
    return block !== null && formatCidr(block) === text
  }),
)
const word = v.pipe(v.string(), v.regex(NAME))
const mark = { id: word, key: word, fingerprint: word }
const second = v.pipe(v.number(), v.safeInteger())

const schema = v.strictObject({
  ways: v.array(
    v.strictObject({
      address,
      protocol: v.picklist(['tcp', 'udp']),
      port: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(MAX_PORT)),
      /** By what names the program knows it. */
      lease: word,
      key: word,
      /** Whether it is open by the program's word. Otherwise nobody knows, and without leases it is to be closed. */
      isOpen: v.boolean(),
      leases: v.array(v.strictObject({ ...mark, until: v.nullable(second) })),
    }),
  ),
  locks: v.array(v.strictObject({ ...mark, address, until: second })),
})

/** What is written down. */
export type Kept = v.InferOutput<typeof schema>

/**
 * Reads what an earlier run has written down: nothing where there is no file.
 * @throws {Fault} where it can't be read, or says what we have not written: what may be open is never taken for closed
 */
export async function readKept(path: string): Promise<Kept> {
  try {
    return v.parse(schema, JSON.parse(await readText(path, MAX_FILE, checkSecret)))
  } catch (error) {
    if (error instanceof ReadFault && error.code === 'ENOENT') return { ways: [], locks: [] }
    if (error instanceof Fault) throw error
    const hint = 'close what your program has opened, then delete the file'
    throw new Fault(`${path}: the list of what may be open is damaged`, { hint })
  }
}

/** What is written down, as leases and locks: also what nobody knows whether it is still open. */
export function entriesOf({ ways, locks }: Kept): Entry[] {
  const leases = ways.flatMap(({ leases, address, protocol, port }) =>
    leases.map((lease) => ({ ...lease, address, protocol, port, once: false })),
  )
  return [...leases, ...locks]
}

/** Writes it anew, whole and durable or not at all. @throws {Error} where the disk does not take it */
export async function writeKept(path: string, kept: Kept): Promise<void> {
  // Nobody else writes here: whoever holds the ledger has this file, too.
  const next = `${path}.new`
  const file: FileHandle = await open(next, 'w', 0o600)
  try {
    await file.writeFile(`${JSON.stringify(kept)}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(next, path)
  await syncFolder(dirname(path))
}

/** Where it is written down. @param ledger the ledger's path */
export const keptPath = (ledger: string): string => `${ledger}.open`
