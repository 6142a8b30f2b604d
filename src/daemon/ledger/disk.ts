import { constants, type Stats } from 'node:fs'
import { type FileHandle, open, realpath, rename, stat, statfs, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { crc32 } from 'node:zlib'
import { freshBase, Ledger, type LedgerFile, type LedgerRecord, rebased } from '../../gate/ledger'
import { errorCode, Fault, reason } from '../../system/fault'
import { checkPrivate, syncFolder, writeNew } from '../../system/files'
import { HeldFault, hold } from './lock'

/*
 * The ledger is a text file. Its first line says how many bytes have been synced, in a fixed width:
 *
 *     knockturn-ledger 1 0000000000000123
 *     spent <fingerprint> <period> <window> <V> <floor> <CRC-32 of what stands before it>
 *     floor <fingerprint> <period> <floor> <CRC-32>
 *     base <Unix seconds> <windows ahead> <CRC-32>
 *
 * A line and the new length are written and synced together, and only then is the firewall touched. So what lies beyond that length
 * was never acted upon, and a tear there is no harm; whatever is wrong within it (or a file that is shorter) is damage.
 */

const MAGIC = 'knockturn-ledger 1 '
const HEADER = MAGIC.length + 16 + 1
/**
 * Largest ledger that is read. It is compacted at MAX_GROWTH, and what it must remember of one key is bounded: it takes hundreds of keys (with
 * the largest skew, dozens) whose holders fill it together to make it this large.
 */
export const MAX_LEDGER = 256 * 1024 * 1024
/** Bytes appended before the file is compacted while the daemon runs: some 8,000 knocks. */
const MAX_GROWTH = 1024 * 1024
/** Knocks that may wait for the disk: as many as one key may say in a window. With a disk that hangs, more would come than memory holds. */
const MAX_WAITING = 4_096
/** Bytes of a damaged ledger that are kept aside: more than a sound one grows to. */
export const MAX_DAMAGED = 4 * 1024 * 1024
/** Milliseconds between attempts to write what a disk would not take: what was refused meanwhile is to be dead in the next life, too. */
const AGAIN = 2_000
const TMPFS_MAGIC = 0x01021994
const RAMFS_MAGIC = 0x858458f6

/** One record as a line, without its end. */
export function formatRecord(record: LedgerRecord): string {
  const body = bodyOf(record)
  return `${body} ${checksum(body)}`
}

function bodyOf(record: LedgerRecord): string {
  switch (record.kind) {
    case 'base':
      return `base ${record.seconds} ${record.ahead}`
    case 'floor':
      return `floor ${record.fingerprint} ${record.period} ${record.floor}`
    case 'spent':
      return `spent ${record.fingerprint} ${record.period} ${record.window} ${record.v} ${record.floor}`
  }
}

/** Reads a line that {@link formatRecord} wrote, or null for anything else. */
export function parseRecord(line: string): LedgerRecord | null {
  const cut = line.lastIndexOf(' ')
  const body = line.slice(0, cut)
  if (cut < 0 || line.slice(cut + 1) !== checksum(body)) return null
  const match =
    /^(?:base (\d+) (\d+)|floor ([0-9a-f]{32}) (\d+) (\d+)|spent ([0-9a-f]{32}) (\d+) (\d+) ([0-9a-f]{32}) (\d+))$/.exec(body)
  if (!match) return null
  const [, seconds, ahead, floorOf, floorPeriod, floor, fingerprint, period, window, v, raised] = match
  const record: LedgerRecord = seconds
    ? { kind: 'base', seconds: Number(seconds), ahead: Number(ahead) }
    : floorOf
      ? { kind: 'floor', fingerprint: floorOf, period: Number(floorPeriod), floor: Number(floor) }
      : { kind: 'spent', fingerprint, period: Number(period), window: Number(window), v, floor: Number(raised) }
  // A number too large to be exact would not be the number that was written.
  return Object.values(record).every((value) => typeof value === 'string' || Number.isSafeInteger(value)) ? record : null
}

const checksum = (body: string): string => crc32(body).toString(16).padStart(8, '0')

/** A ledger of more than MAX_LEDGER bytes. */
export function tooLarge(path: string, size: number): Fault {
  const remedy = 'revoke the keys that have filled it, delete it, and start the daemon without --new-ledger'
  return new Fault(`${path}: expected a ledger of at most ${MAX_LEDGER} bytes, got ${size}: ${remedy}`)
}

/** What {@link LedgerOnDisk.open} found. `whole`: nothing that was acted upon is lost. */
export interface Found {
  readonly state: 'missing' | 'whole' | 'damaged'
  readonly records: LedgerRecord[]
}

/** Reads a ledger's bytes. Pure, so that every tear and every flipped bit can be tried. */
export function readLedger(bytes: Buffer): Found {
  const synced = new RegExp(`^${MAGIC}(\\d{16})\\n`).exec(bytes.toString('latin1', 0, HEADER))?.[1]
  const records: LedgerRecord[] = []
  let at = HEADER
  for (let end = bytes.indexOf(10, at); end >= 0; end = bytes.indexOf(10, at)) {
    const record = parseRecord(bytes.toString('latin1', at, end))
    if (!record) break
    records.push(record)
    at = end + 1
  }
  // What is left is kept even then: every row that survives is one more knock that stays dead.
  return { state: synced !== undefined && at >= Number(synced) ? 'whole' : 'damaged', records }
}

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
    const aside = found.state === 'damaged' ? `; what it held is kept as ${disk.aside}` : ''
    warn(`${path}: the ledger is ${found.state}: nothing that was sent before the next minute or so opens${aside}`)
  }
  if (volatile) warn(`${path}: the ledger lies on tmpfs and is lost with the machine's power: move it to a disk`)
  const ledger = new Ledger(records, disk, skew)
  await disk.compact(() => ledger.records())
  return { ledger, disk, isFresh }
}

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
    throw new Fault(`${path}: there is no ledger: start the daemon, which makes one by the clock of then`)
  })
  const { disk, found } = await LedgerOnDisk.open(real, () => {}, false).catch((error) => {
    if (!(error instanceof HeldFault)) throw error
    throw new Fault(`${path}: a daemon holds the ledger: end it first, since it goes by what it has read`)
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
    throw new Fault(`${path}: the ledger cannot be written, and is as it was: ${reason(error)}`)
  } finally {
    await disk.close()
  }
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
    const { file, isNew } = await openHeld(path, isToMake)
    const bytes = await readWhole(path, file).catch(closing(file))
    const found: Found = isNew ? { state: 'missing', records: [] } : readLedger(bytes)
    const { type } = await statfs(path)
    return {
      disk: new LedgerOnDisk(path, file, found.state === 'damaged' ? Buffer.from(bytes.subarray(0, MAX_DAMAGED)) : null, warn),
      found,
      volatile: type === TMPFS_MAGIC || type === RAMFS_MAGIC,
    }
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
      return Promise.reject(new Error(`the disk hangs, and ${MAX_WAITING} knocks wait for it already`))
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
        this.#warn(`${this.#path}: the ledger cannot be written, and nothing opens until it can: ${reason(error)}`)
      this.#failing = true
      clearTimeout(this.#again)
      this.#again = setTimeout(() => {
        this.#flushing ??= this.#flush()
      }, AGAIN).unref()
      throw error
    }
    if (this.#failing) this.#warn(`${this.#path}: the ledger can be written again`)
    this.#failing = false
  }

  async #write(lines: string): Promise<void> {
    const bytes = Buffer.from(lines, 'latin1')
    await writeAll(this.#file, bytes, this.#length)
    await writeAll(this.#file, header(this.#length + bytes.length), 0)
    await this.#file.datasync()
    this.#length += bytes.length
    this.#growth += bytes.length
  }

  async #rewrite(): Promise<void> {
    const next = `${this.#path}.new`
    const lines = Buffer.from([...this.#snapshot()].map((record) => `${formatRecord(record)}\n`).join(''), 'latin1')
    // What is in doubt from here on is not among these.
    this.#doubtful = false
    if (this.#damaged) {
      await unlink(this.aside).catch(() => {})
      await writeNew(this.aside, this.#damaged)
      this.#damaged = null
    }
    await unlink(next).catch(() => {})
    const file = await open(next, 'wx+', 0o600)
    try {
      await writeAll(file, Buffer.concat([header(HEADER + lines.length), lines]), 0)
      await file.sync()
      await hold(next, file)
      await rename(next, this.#path)
      await syncFolder(dirname(this.#path))
    } catch (error) {
      await file.close()
      await unlink(next).catch(() => {})
      throw error
    }
    await this.#file.close()
    this.#file = file
    this.#length = HEADER + lines.length
    this.#growth = 0
  }
}

const header = (length: number): Buffer => Buffer.from(`${MAGIC}${String(length).padStart(16, '0')}\n`, 'latin1')

async function writeAll(file: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) at += (await file.write(bytes, at, bytes.length - at, position + at)).bytesWritten
}

/**
 * Opens the file behind the path and holds it; where it was replaced in between, once more.
 * @returns `isNew`: it was not there before. One that was there and is empty has been emptied: that is damage.
 */
async function openHeld(path: string, isToMake: boolean): Promise<{ file: FileHandle; isNew: boolean }> {
  for (;;) {
    const { file, isNew } = isToMake ? await openOrMake(path) : { file: await openThere(path), isNew: false }
    if (await holdIfSame(path, file).catch(closing(file))) return { file, isNew }
    await file.close()
  }
}

/** Holds a file that is as a ledger has to be. @returns whether it still is the one behind the path */
async function holdIfSame(path: string, file: FileHandle): Promise<boolean> {
  const stats = await file.stat()
  if (!stats.isFile()) throw new Fault(`${path}: expected a file, got something else`)
  // Compaction puts another file in its place, and the other name would keep the old one.
  if (stats.nlink > 1)
    throw new Fault(`${path}: expected a file with one name, got one with ${stats.nlink}: give the ledger a file of its own`)
  checkPrivate(path, stats, 0o600)
  await hold(path, file)
  return sameFile(stats, await stat(path).catch(() => null))
}

async function readWhole(path: string, file: FileHandle): Promise<Buffer> {
  const { size } = await file.stat()
  if (size > MAX_LEDGER) throw tooLarge(path, size)
  const bytes = Buffer.alloc(size)
  await file.read(bytes, 0, size, 0).catch((cause) => Promise.reject(cannotOpen(path, cause)))
  return bytes
}

/** Closes a file that is of no use, and goes on failing: from Node 25 on, one that is forgotten open ends the process some day. */
const closing =
  (file: FileHandle) =>
  async (error: unknown): Promise<never> => {
    await file.close()
    throw error
  }

const FLAGS = constants.O_RDWR | constants.O_NONBLOCK

async function openOrMake(path: string): Promise<{ file: FileHandle; isNew: boolean }> {
  try {
    return { file: await open(path, FLAGS | constants.O_CREAT | constants.O_EXCL, 0o600), isNew: true }
  } catch (error) {
    if (errorCode(error) !== 'EEXIST') throw cannotOpen(path, error)
  }
  return { file: await openThere(path), isNew: false }
}

async function openThere(path: string): Promise<FileHandle> {
  // On a disk that is read-only for now, what is spent can be read at least; it is written again when that is over.
  const readOnly = (error: unknown) =>
    errorCode(error) === 'EROFS' ? open(path, constants.O_RDONLY | constants.O_NONBLOCK) : Promise.reject(error)
  return open(path, FLAGS)
    .catch(readOnly)
    .catch((cause) => Promise.reject(cannotOpen(path, cause)))
}

function cannotOpen(path: string, error: unknown): Fault {
  return new Fault(`${path}: the ledger cannot be opened: ${reason(error)}: ${ledgerRemedy(path, error)}`)
}

/** What to do where a ledger can't be opened or made. */
export function ledgerRemedy(path: string, error: unknown): string {
  const folder = dirname(path)
  // Root is here to look only, before there is anything that would tell who the daemon's user is.
  const user = process.geteuid?.() || 'knockturn'
  if (errorCode(error) === 'ENOENT') return `make its folder: as root, run "install -d -m 700 -o ${user} ${folder}"`
  if (errorCode(error) === 'EACCES') return `they are to be the daemon's: as root, run "chown -R ${user}: ${folder}"`
  return 'set [ledger] path to a file that the daemon may write'
}

const sameFile = (a: Stats, b: Stats | null): boolean => a.ino === b?.ino && a.dev === b.dev
