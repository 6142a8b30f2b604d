import { constants } from 'node:fs'
import { type FileHandle, open, readdir, readFile, stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { execa } from 'execa'
import { commandPath, missing, WHEREVER } from '../../system/commands'
import { errorCode, Fault, reason } from '../../system/fault'

/** How long flock(1) may take, in milliseconds, and most of what it may say, in bytes. */
const FLOCK_LIMIT = 5_000
const FLOCK_OUTPUT = 4_096
/** Seconds to wait for a lock: who only looks whether there is one has it for a moment. */
const PATIENCE = '1'

/** Somebody else has the lock. */
export class HeldFault extends Fault {}

/**
 * Takes an exclusive lock on an open file. Node has no flock(2), but the lock belongs to the open file, not to the process that
 * asked for it: flock(1) takes it on our descriptor and is gone, and the kernel lets go of it when we end, by kill -9 too.
 * @param signal ends the wait for it; then it throws
 * @throws {HeldFault} where somebody else has it
 */
export async function hold(path: string, file: FileHandle, signal?: AbortSignal): Promise<void> {
  try {
    await execa('flock', ['--wait', PATIENCE, '--exclusive', '3'], {
      stdio: ['ignore', 'ignore', 'pipe', file.fd as 3],
      env: { PATH: commandPath() },
      extendEnv: false,
      cwd: WHEREVER,
      timeout: FLOCK_LIMIT,
      maxBuffer: FLOCK_OUTPUT,
      ...(signal ? { cancelSignal: signal } : {}),
    })
  } catch (error) {
    if (errorCode(error) === 'ENOENT') throw missing('flock')
    // flock(1) ends with 1 where somebody else has the lock.
    if ((error as { exitCode?: number }).exitCode === 1) {
      const hint = 'stop that daemon, or give this one a ledger of its own'
      throw new HeldFault(`${path}: another daemon uses the ledger`, { hint })
    }
    throw new Fault(`${path}: the ledger cannot be locked: ${reason(error)}`)
  }
}

/**
 * Looks whether a ledger is held, by taking its lock for a moment.
 * @param flags more of those of open(2), such as O_NOFOLLOW
 * @param signal ends the look, for whom it does not matter any more; then it throws
 * @throws {Fault} where that can't be known
 */
export async function isHeld(path: string, flags = 0, signal?: AbortSignal): Promise<boolean> {
  const file = await open(path, constants.O_RDWR | constants.O_NONBLOCK | flags)
  try {
    await hold(path, file, signal)
    return false
  } catch (error) {
    if (error instanceof HeldFault) return true
    throw error
  } finally {
    await file.close()
  }
}

/** A process that holds a ledger. */
interface Holder {
  readonly pid: number
  readonly name: string
  readonly isDaemon: boolean
}

/** Looks who holds a ledger. @returns null where that can't be seen: who may not look at others, or not into their namespace */
export async function findHolder(path: string): Promise<Holder | null> {
  const ledger = await stat(path)
  for (const pid of (await readdir('/proc').catch(() => [])).filter((name) => /^\d+$/.test(name))) {
    for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
      const file = await stat(`/proc/${pid}/fd/${fd}`).catch(() => null)
      if (file?.ino !== ledger.ino || file.dev !== ledger.dev) continue
      if (!/^lock:.* FLOCK /m.test(await read(`/proc/${pid}/fdinfo/${fd}`))) continue
      const words = (await read(`/proc/${pid}/cmdline`)).split('\0')
      const name = (await read(`/proc/${pid}/comm`)).trim()
      return { pid: Number(pid), name, isDaemon: words.some((word) => basename(word) === 'knockdaemon') }
    }
  }
  return null
}

/** Nothing where a process has ended meanwhile. */
const read = (path: string): Promise<string> => readFile(path, 'utf8').catch(() => '')
