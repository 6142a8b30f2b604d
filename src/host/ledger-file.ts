import { constants, type Stats } from 'node:fs'
import { type FileHandle, open, realpath, rename, stat, statfs, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { crc32 } from 'node:zlib'
import { execa } from 'execa'
import { freshBase, Ledger, type LedgerFile, type LedgerRecord } from '../gate/ledger'
import { commandPath, missing } from './commands'
import { errorCode, Fault, reason } from './fault'
import { checkPrivate, syncFolder, writeNew } from './files'

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
/** Largest ledger that is read. It is compacted at MAX_GROWTH, so only something else can make it this large. */
export const MAX_LEDGER = 256 * 1024 * 1024
/** Bytes appended before the file is compacted while the daemon runs: some 8,000 knocks. */
const MAX_GROWTH = 1024 * 1024
/** Bytes of a damaged ledger that are kept aside: more than a sound one grows to. */
export const MAX_DAMAGED = 4 * 1024 * 1024
/** Milliseconds between attempts to write what a disk would not take: what was refused meanwhile is to be dead in the next life, too. */
const AGAIN = 2_000
/** How long flock(1) may take, in milliseconds, and most of what it may say, in bytes. */
const FLOCK_LIMIT = 5_000
const FLOCK_OUTPUT = 4_096
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
   * @throws {Fault} when it can't be read, others may read it, or another daemon holds it
   */
  static async open(
    path: string,
    warn: (message: string) => void,
  ): Promise<{ disk: LedgerOnDisk; found: Found; volatile: boolean }> {
    const { file, isNew } = await openHeld(path)
    const { size } = await file.stat()
    if (size > MAX_LEDGER) throw new Fault(`${path}: expected at most ${MAX_LEDGER} bytes, got ${size}`)
    const bytes = Buffer.alloc(size)
    await file.read(bytes, 0, size, 0).catch((cause) => Promise.reject(cannotOpen(path, cause)))
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

  append(record: LedgerRecord): Promise<void> {
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
    this.#doubtful = false
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
async function openHeld(path: string): Promise<{ file: FileHandle; isNew: boolean }> {
  for (;;) {
    const { file, isNew } = await openOrMake(path)
    const stats = await file.stat()
    if (!stats.isFile()) throw new Fault(`${path}: expected a file, got something else`)
    // Compaction puts another file in its place, and the other name would keep the old one.
    if (stats.nlink > 1)
      throw new Fault(`${path}: expected a file with one name, got one with ${stats.nlink}: give the ledger a file of its own`)
    checkPrivate(path, stats, 0o600)
    await hold(path, file)
    if (sameFile(stats, await stat(path).catch(() => null))) return { file, isNew }
    await file.close()
  }
}

async function openOrMake(path: string): Promise<{ file: FileHandle; isNew: boolean }> {
  const flags = constants.O_RDWR | constants.O_NONBLOCK
  try {
    return { file: await open(path, flags | constants.O_CREAT | constants.O_EXCL, 0o600), isNew: true }
  } catch (error) {
    if (errorCode(error) !== 'EEXIST') throw cannotOpen(path, error)
  }
  // On a disk that is read-only for now, what is spent can be read at least; it is written again when that is over.
  const readOnly = (error: unknown) =>
    errorCode(error) === 'EROFS' ? open(path, constants.O_RDONLY | constants.O_NONBLOCK) : Promise.reject(error)
  const file = await open(path, flags)
    .catch(readOnly)
    .catch((cause) => Promise.reject(cannotOpen(path, cause)))
  return { file, isNew: false }
}

function cannotOpen(path: string, error: unknown): Fault {
  return new Fault(`${path}: the ledger cannot be opened: ${reason(error)}: set [ledger] path to a file that you may write`)
}

const sameFile = (a: Stats, b: Stats | null): boolean => a.ino === b?.ino && a.dev === b.dev

/**
 * Takes an exclusive lock on an open file. Node has no flock(2), but the lock belongs to the open file, not to the process that
 * asked for it: flock(1) takes it on our descriptor and is gone, and the kernel lets go of it when we end, by kill -9 too.
 */
async function hold(path: string, file: FileHandle): Promise<void> {
  try {
    await execa('flock', ['--nonblock', '--exclusive', '3'], {
      stdio: ['ignore', 'ignore', 'pipe', file.fd as 3],
      env: { PATH: commandPath() },
      extendEnv: false,
      timeout: FLOCK_LIMIT,
      maxBuffer: FLOCK_OUTPUT,
    })
  } catch (error) {
    if (errorCode(error) === 'ENOENT') throw missing('flock')
    // flock(1) ends with 1 where somebody else has the lock.
    if ((error as { exitCode?: number }).exitCode === 1) {
      throw new Fault(`${path}: the ledger is held by another daemon: end that one, or give this one a ledger of its own`)
    }
    throw new Fault(`${path}: the ledger cannot be locked: ${reason(error)}`)
  }
}
