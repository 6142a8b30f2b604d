import { realpath } from 'node:fs/promises'
import { Ledger, rebased } from '../../gate/ledger'
import { errorCode, Fault, hintOf, reason } from '../../system/fault'
import { LedgerOnDisk } from './disk'
import { cannotOpen } from './held-file'
import { HeldFault } from './lock'

/** What a rebase has come to. */
export interface Rebase {
  /** The latest of the bases before, in Unix seconds; null where there was none. */
  readonly was: number | null
  /** The base of now, likewise. */
  readonly is: number
  /** Knocks that stay spent. */
  readonly spent: number
  /** Where the bytes of a damaged ledger are kept; null where it was whole. */
  readonly aside: string | null
  /** Floors of keys that are ahead of the clock, and stay: fingerprint and Unix milliseconds. */
  readonly ahead: readonly { readonly fingerprint: string; readonly until: number }[]
}

/**
 * Puts a base by the clock of now in the place of those of a ledger that no daemon holds, by {@link rebased}.
 * @param wall Unix milliseconds
 * @throws {Fault} when there is no ledger, it can't be read or written, or a daemon holds it; it is as it was then
 */
export async function rebaseLedger(path: string, skew: number, wall: number): Promise<Rebase> {
  const real = await realpath(path).catch((error) => {
    if (errorCode(error) !== 'ENOENT') throw cannotOpen(path, error)
    throw new Fault(`${path}: there is no ledger`, { hint: 'start the daemon: it creates one for the current time' })
  })
  const { disk, found } = await LedgerOnDisk.open(real, () => {}, false).catch((error) => {
    if (!(error instanceof HeldFault)) throw error
    throw new Fault(`${path}: a daemon uses the ledger`, { hint: 'stop it first: it works with what it has already read' })
  })
  try {
    const records = [...new Ledger(rebased(found.records, wall, skew), disk, skew).records()]
    await disk.replace(records)
    const bases = found.records.flatMap((record) => (record.kind === 'base' ? [record.seconds] : []))
    const floors = records.flatMap((record) => (record.kind === 'floor' ? [record] : []))
    return {
      was: bases.length > 0 ? Math.max(...bases) : null,
      is: Math.floor(wall / 1000),
      spent: records.filter(({ kind }) => kind === 'spent').length,
      aside: found.state === 'damaged' ? disk.aside : null,
      ahead: floors
        .map(({ fingerprint, period, floor }) => ({ fingerprint, until: floor * period * 1000 }))
        .filter(({ until }) => until > wall),
    }
  } catch (error) {
    throw new Fault(`${path}: the ledger cannot be written and is unchanged: ${reason(error)}`, { hint: hintOf(error) })
  } finally {
    await disk.close()
  }
}

/**
 * Makes an empty ledger: that nothing was ever accepted is its maker's word, as with --new-ledger.
 * @throws {Fault} when there is a ledger, or it can't be written
 */
export async function makeLedger(path: string): Promise<void> {
  const { disk, found } = await LedgerOnDisk.open(path, () => {})
  try {
    if (found.state !== 'missing')
      throw new Fault(`${path}: there is a ledger already, and it stays`, { hint: 'start the daemon: it goes on with that one' })
    await disk.replace([])
  } finally {
    await disk.close()
  }
}
