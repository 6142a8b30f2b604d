import { randomBytes } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Config } from '../daemon/config'
import {
  type Answer,
  answersFolder,
  formatOrder,
  isOrder,
  MAX_ANSWER,
  MAX_ORDERS,
  type Order,
  orderFile,
  orderOfFile,
  ordersFolder,
  parseAnswer,
} from '../daemon/orders/order'
import { readGiven } from '../daemon/state/state'
import { errorCode, Fault, hintOf, reason } from '../system/fault'
import { ReadFault } from '../system/files'
import { checkWay, SureFolder } from '../system/sure-folder'
import { isLedgerHeld } from './alive'

/** How long to wait for an answer, in milliseconds: a firewall with 20,000 leases is read in 3 s, and a daemon awaits a tap for 8. */
const ANSWER_LIMIT = 15_000
/** Milliseconds between two looks for an answer. */
const LOOK = 25
/** What lies among the orders for so many milliseconds has been left by somebody who was killed. */
const LEFT = 60_000
/** Files that are looked at for what was left: far more than anybody leaves. */
const MAX_LEFT = 100_000

/** The daemon's user needs to see orders, and nothing secret is in them. */
const FOLDER_MODE = 0o755
const FILE_MODE = 0o644

/**
 * Gives an order to the daemon that holds the ledger of a config. Only root may, and the daemon's own user where the folder is theirs.
 * @returns its answer; `dead`: no daemon holds the ledger, and none will carry the order out; `silent`: one does, and has not answered in time, so
 *   that nobody knows what it has done
 * @throws {Fault} where the caller may give no orders, somebody else could lead them astray, or whether a daemon lives can't be known
 */
export async function giveOrder(config: Pick<Config, 'ledger'>, order: Order): Promise<Answer | 'dead' | 'silent'> {
  if (!isOrder(order)) throw new Fault('expected an address, a key id or a lease id in their usual form')
  const ledger = config.ledger.path
  const folder = await ownFolder(ordersFolder(ledger))
  const id = randomBytes(8).toString('hex')
  const name = orderFile(id)
  try {
    await tidy(folder)
    await folder.place(name, formatOrder({ id, at: Date.now(), order }), FILE_MODE).catch((error) => {
      throw cannotGive(folder.path, error)
    })
    return await answerTo(id, ledger)
  } finally {
    // A daemon follows no order that is gone, and none twice.
    await folder.remove(name)
    await folder.close()
  }
}

/** Waits for the answer to an order, and looks meanwhile whether anybody is there who could give one. */
async function answerTo(id: string, ledger: string): Promise<Answer | 'dead' | 'silent'> {
  const path = join(answersFolder(ledger), orderFile(id))
  let isDead = false
  let failure: unknown
  const looking = new AbortController()
  const looked = isLedgerHeld(ledger, looking.signal).then(
    (alive) => {
      isDead = !alive
    },
    (error) => {
      failure = error
    },
  )
  const end = performance.now() + ANSWER_LIMIT
  for (;;) {
    const isLast = isDead || failure !== undefined || performance.now() >= end
    const given = await readGiven(path, MAX_ANSWER)
    const answer = given && parseAnswer(given.text)
    if (answer?.id === id) {
      // A daemon that lives holds its ledger: this program would not end for the second in which that is waited for.
      looking.abort()
      return answer
    }
    if (isLast) break
    await sleep(LOOK)
  }
  await looked
  if (failure !== undefined) throw failure
  return isDead ? 'dead' : 'silent'
}

/** Opens the folder of orders, which is made where it is missing. @throws {Fault} where it can't be, or is not as it has to be */
async function ownFolder(path: string): Promise<SureFolder> {
  await checkWay(path)
  try {
    const there = await SureFolder.open(path)
    if (there) return there
    await mkdir(path, FOLDER_MODE).catch((error) => {
      if (errorCode(error) !== 'EEXIST') throw error
    })
    const made = await SureFolder.open(path)
    if (!made) throw new Fault(`${path}: is gone`)
    await made.setMode(FOLDER_MODE)
    return made
  } catch (error) {
    throw error instanceof Fault && !(error instanceof ReadFault) ? error : cannotGive(path, error)
  }
}

function cannotGive(path: string, error: unknown): Fault {
  return new Fault(`${path}: an order cannot be given: ${reason(error)}`, {
    hint: ['EACCES', 'EPERM'].includes(errorCode(error) ?? '') ? 'run this as root' : hintOf(error),
  })
}

/** Removes what killed runs have left. @throws {Fault} where so much else lies there that no daemon looks at it */
async function tidy(folder: SureFolder): Promise<void> {
  const names = (await folder.names(MAX_LEFT)) ?? []
  let left = 0
  for (const name of names) {
    const isOurs = orderOfFile(name.replace(/^\.(.*)\.new$/, '$1')) !== null
    const changed = isOurs ? await folder.changed(name) : null
    if (changed !== null && Math.abs(Date.now() - changed) > LEFT) await folder.remove(name)
    else left++
  }
  if (left >= MAX_ORDERS || names.length > MAX_LEFT)
    throw new Fault(`${folder.path}: holds more than ${MAX_ORDERS} files: a daemon follows no order there`, {
      hint: 'delete what is in it',
    })
}
