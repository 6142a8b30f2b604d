import { dirname } from 'node:path'
import { makeLedger, type Rebase, rebaseLedger } from '../daemon/ledger/rebase'
import { asOwner } from '../system/files'
import { checkClock } from '../system/time'
import { wholeConfig } from './config'

/**
 * Has the ledger of a config begin now, as its owner.
 * @param file the daemon's config
 * @param now Unix milliseconds
 * @returns where the ledger is, and what has come about
 * @throws {Fault} where the config is faulty, the clock can't be true, there is no ledger, or a daemon holds it
 */
export async function rebase(file: string, now: number): Promise<Rebase & { readonly path: string }> {
  const { ledger, skew } = await wholeConfig(file)
  const { path } = ledger
  checkClock(now, 'set the clock first: the ledger starts at this time')
  return { path, ...(await asOwner(dirname(path), () => rebaseLedger(path, skew, now))) }
}

/**
 * Makes the first ledger of a config, as its owner: a daemon that starts from it makes nobody wait.
 * @param file the daemon's config
 * @returns where it is
 * @throws {Fault} where there is one already, or it can't be made
 */
export async function makeFirst(file: string): Promise<string> {
  const { path } = (await wholeConfig(file)).ledger
  await asOwner(dirname(path), () => makeLedger(path))
  return path
}
