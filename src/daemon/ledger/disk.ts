import { type FileHandle, realpath, unlink } from 'node:fs/promises'
import { freshBase, Ledger, type LedgerFile, type LedgerRecord } from '../../gate/ledger'
import { inOneLine } from '../../system/fault'
import { writeNew } from '../../system/files'
import { isVolatile, openHeld, replaceHeld, writeAll } from './held-file'
import { type Found, formatHeader, formatRecord, HEADER, readLedger } from './record'

/** Bytes appended before the file is compacted while the daemon runs: some 8,000 knocks. */
const MAX_GROWTH = 1024 * 1024
/** Knocks that may wait for the disk: as many as one key may say in a window. With a disk that hangs, more would come than memory holds. */
const MAX_WAITING = 4_096
/** Bytes of a damaged ledger that are kept aside: more than a sound one grows to. */
export const MAX_DAMAGED = 4 * 1024 * 1024
/** Milliseconds between attempts to write what a disk would not take: what was refused meanwhile is to be dead in the next life, too. */
const AGAIN = 2_000

/**
 * What a daemon may start from (docs/protocol.md, "One-time rule"). Where there is no ledger, or where it is damaged, everything that may
 * have been sent until now is dead (a wait of a minute): nothing says what of it has been accepted.
 * @param wall Unix milliseconds
 * @param isNew the administrator's word that there has never been a ledger, so that nobody has to wait
 */
export function startingRecords({ state, records }: Found, skew: number, wall: number, isNew: boolean): LedgerRecord[] {
  const isKnown = state === 'whole' || (state === 'missing' && isNew)
  return isKnown ? records : [...records, freshBase(wall, skew)]
}

/**
 * Opens a daemon's ledger, by {@link startingRecords}.
 * @param wall Unix milliseconds
 * @param isNew the administrator's word that there has never been a ledger, so that nobody has to wait
 * @param warn told what is wrong and what follows
 * @throws {Fault} when the ledger can't be read or is held by another daemon
 */
export async function openLedger(path: string, skew: number, wall: number, isNew: boolean, warn: (message: string) => void) {
  // By its real name: compaction would put a file in the place of a link.
  const { disk, found, volatile } = await LedgerOnDisk.open(await realpath(path).catch(() => path), warn)
  const records = startingRecords(found, skew, wall, isNew)
  const isFresh = records.length > found.records.length
  if (isFresh) {
    const aside = found.state === 'damaged' ? `; the damaged file is kept as ${disk.aside}` : ''
    warn(`${path}: the ledger is ${found.state}: no knock opens anything for about a minute${aside}`)
  }
  if (volatile) warn(`${path}: the ledger is on tmpfs and is lost when the machine restarts: move it to a disk`)
  const ledger = new Ledger(records, disk, skew)
  await disk.compact(() => ledger.records())
  return { ledger, disk, isFresh }
}

/** The durable ledger: one file, held by one daemon, group commit. */
export class LedgerOnDisk implements LedgerFile {
  readonly #path: string
  readonly #warn: (message: string) => void
  #file: FileHandle
  #length = 0
  #growth = 0
  /** Whether the file's state is unknown, so that it must be written anew before anything counts as durable. */
  #doubtful = true
  /** Whether the last attempt to write failed, which has been said. */
  #failing = false
  #again: NodeJS.Timeout | undefined
  /** The bytes of a damaged ledger, until they are kept aside. */
  #damaged: Buffer | null
  #queue: { line: string; resolve: () => void; reject: (error: unknown) => void }[] = []
  #flushing: Promise<void> | null = null
  #snapshot: () => Iterable<LedgerRecord> = () => []

  private constructor(path: string, file: FileHandle, damaged: Buffer | null, warn: (message: string) => void) {
    this.#path = path
    this.#file = file
    this.#damaged = damaged
    this.#warn = warn
  }

  /**
   * Opens a ledger, making it where it is missing, and holds it until the process ends, however it ends.
   * @param warn told when it can't be written, and when it can again
   * @param isToMake whether it is made where it is missing
   * @throws {Fault} when it can't be read, others may read it, or another daemon holds it
   */
  static async open(
    path: string,
    warn: (message: string) => void,
    isToMake = true,
  ): Promise<{ disk: LedgerOnDisk; found: Found; volatile: boolean }> {
    const { file, bytes, isNew } = await openHeld(path, isToMake)
    const found: Found = isNew ? { state: 'missing', records: [] } : readLedger(bytes)
    const damaged = found.state === 'damaged' ? Buffer.from(bytes.subarray(0, MAX_DAMAGED)) : null
    return { disk: new LedgerOnDisk(path, file, damaged, warn), found, volatile: await isVolatile(path) }
  }

  /** Where the bytes of a damaged ledger are kept. */
  get aside(): string {
    return `${this.#path}.damaged`
  }

  /**
   * Writes the ledger anew with all that must be remembered, and does so again whenever it has grown or gone wrong. Where that
   * fails, nothing is durable until it works.
   * @param snapshot every record that counts, at the time of the call
   */
  async compact(snapshot: () => Iterable<LedgerRecord>): Promise<void> {
    this.#snapshot = snapshot
    await this.#attempt(() => this.#rewrite()).catch(() => {})
  }

  /** Writes the ledger anew with other records, whole or not at all. @throws where it can't be, and then it is as it was */
  async replace(records: Iterable<LedgerRecord>): Promise<void> {
    this.#snapshot = () => records
    await this.#rewrite()
  }

  append(record: LedgerRecord): Promise<void> {
    if (this.#queue.length >= MAX_WAITING) {
      // It is dead in memory; on the disk it will be when all is written anew, which is next.
      this.#doubtful = true
      return Promise.reject(new Error(`the disk hangs: ${MAX_WAITING} knocks are waiting for it already`))
    }
    return new Promise((resolve, reject) => {
      this.#queue.push({ line: `${formatRecord(record)}\n`, resolve, reject })
      this.#flushing ??= this.#flush()
    })
  }

  /** Resolves when nothing is being written any more; then lets go of the file. */
  async close(): Promise<void> {
    clearTimeout(this.#again)
    await this.#flushing
    // What was refused for want of a disk is dead by our word only: the last chance to write it down.
    if (this.#failing) await this.#flush()
    clearTimeout(this.#again)
    await this.#file.close()
  }

  async #flush(): Promise<void> {
    do {
      const batch = this.#queue
      this.#queue = []
      try {
        // The snapshot holds the batch: it was claimed in memory before it came here.
        if (this.#doubtful || this.#growth > MAX_GROWTH) await this.#attempt(() => this.#rewrite())
        else if (batch.length > 0) await this.#attempt(() => this.#write(batch.map(({ line }) => line).join('')))
        for (const { resolve } of batch) resolve()
      } catch (error) {
        for (const { reject } of batch) reject(error)
      }
    } while (this.#queue.length > 0)
    // In the same step as the last look at the queue: who appends from now on starts the next flush.
    this.#flushing = null
  }

  /** Writes, and says when that begins to fail and when it works again: once each, however many knocks come meanwhile. */
  async #attempt(write: () => Promise<void>): Promise<void> {
    try {
      await write()
    } catch (error) {
      // After a failed sync nobody knows what is on the disk, so that nothing is built on it.
      this.#doubtful = true
      if (!this.#failing)
        this.#warn(`${this.#path}: cannot write the ledger, nothing opens until this works again: ${inOneLine(error)}`)
      this.#failing = true
      clearTimeout(this.#again)
      this.#again = setTimeout(() => {
        this.#flushing ??= this.#flush()
      }, AGAIN).unref()
      throw error
    }
    if (this.#failing) this.#warn(`${this.#path}: the ledger is writable again`)
    this.#failing = false
  }

  async #write(lines: string): Promise<void> {
    const bytes = Buffer.from(lines, 'latin1')
    await writeAll(this.#file, bytes, this.#length)
    await writeAll(this.#file, formatHeader(this.#length + bytes.length), 0)
    await this.#file.datasync()
    this.#length += bytes.length
    this.#growth += bytes.length
  }

  async #rewrite(): Promise<void> {
    const lines = Buffer.from([...this.#snapshot()].map((record) => `${formatRecord(record)}\n`).join(''), 'latin1')
    // What is in doubt from here on is not among these.
    this.#doubtful = false
    if (this.#damaged) {
      await unlink(this.aside).catch(() => {})
      await writeNew(this.aside, this.#damaged)
      this.#damaged = null
    }
    const file = await replaceHeld(this.#path, Buffer.concat([formatHeader(HEADER + lines.length), lines]))
    await this.#file.close()
    this.#file = file
    this.#length = HEADER + lines.length
    this.#growth = 0
  }
}
