import { readFile, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { Ledger } from '../../gate/ledger'
import type { ServerKey } from '../../gate/server-key'
import type { Check } from '../../system/check'
import { errorCode, Fault, reason } from '../../system/fault'
import { checkPrivate, checkWritable } from '../../system/files'
import { floorsAhead } from '../ahead'
import { ledgerRemedy, MAX_LEDGER, tooLarge } from '../ledger/held-file'
import { findHolder, isHeld } from '../ledger/lock'
import { readLedger } from '../ledger/record'
import { Finding } from './finding'

/**
 * Looks at the ledger as its daemon would, and changes nothing.
 * @param keys those whose floors matter
 * @returns whether somebody holds it
 * @throws {Fault} where a daemon could not use it
 */
export async function checkLedger(path: string, keys: readonly ServerKey[], found: Finding): Promise<boolean> {
  try {
    const stats = await stat(path)
    if (!stats.isFile()) throw new Fault(`${path}: is not a regular file`)
    checkPrivate(path, stats, 0o600)
    const held = await isHeld(path)
    await checkWritable(dirname(path))
    if (stats.size > MAX_LEDGER) throw tooLarge(path, stats.size)
    const { state, records } = readLedger(await readFile(path))
    if (state === 'damaged')
      found.felt(`${path}: the ledger is damaged: no knock opens anything for about a minute after the daemon starts`)
    // It is only asked: nothing is written, and no window accepted.
    const known = new Ledger(records, { append: () => Promise.reject() }, 0)
    for (const { key, message, isFar } of floorsAhead(known, keys, Date.now()))
      if (isFar) found.felt(key ? `key "${key.id}": ${message}` : `${path}: ${message}`)
    return held
  } catch (error) {
    if (error instanceof Fault) throw error
    if (errorCode(error) !== 'ENOENT')
      throw new Fault(`${path}: the ledger cannot be used: ${reason(error)}`, { hint: ledgerRemedy(path, error) })
    await checkWritable(dirname(path)).catch((cause) => {
      throw new Fault(`${path}: the ledger cannot be created: ${reason(cause)}`, { hint: ledgerRemedy(path, cause) })
    })
    found.felt(`${path}: there is no ledger yet`, 'start the daemon with --new-ledger, or wait a minute after it starts')
    return false
  }
}

/** Finds who holds a ledger that is held. @returns whether it may be a daemon, which has what it hears by then, too */
export async function checkHolder(path: string): Promise<{ readonly check: Check; readonly mayBeDaemon: boolean }> {
  const name = 'daemon'
  const holder = await findHolder(path)
  if (!holder) {
    const evidence = `not checked: which process uses ${path}, and whether taps arrive`
    const remedy = 'run this as root to see; if it is the daemon, all is well'
    return { check: { name, verdict: 'unknown', evidence, remedy }, mayBeDaemon: true }
  }
  if (holder.isDaemon) {
    const evidence = `a daemon is running (process ${holder.pid}): it uses the ledger and the source of taps`
    return { check: { name, verdict: 'note', evidence }, mayBeDaemon: true }
  }
  const hint = 'stop that process, or set [ledger] path to another file'
  const { pid, name: program } = holder
  const found = new Finding(name)
  found.fault(new Fault(`${path}: the ledger is in use by process ${pid} (${program}), which is not a daemon`, { hint }))
  return { check: found.end('')[0], mayBeDaemon: false }
}
