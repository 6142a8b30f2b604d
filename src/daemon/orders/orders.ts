import { mkdir } from 'node:fs/promises'
import type { Logger } from 'pino'
import type { Chronicle } from '../../gate/chronicle'
import type { Now } from '../../gate/clock'
import { Quiet } from '../../gate/quiet'
import type { Tap } from '../../gate/tap'
import { errorCode, inOneLine, reason } from '../../system/fault'
import { SureFolder } from '../../system/sure-folder'
import { isoTime } from '../../system/time'
import type { Daemon } from '../daemon'
import { inTurn } from '../in-turn'
import { stateLease, stateLock } from '../state/compose'
import { watchFolder } from '../watch-folder'
import { Awaited } from './awaited'
import { Inbox } from './inbox'
import {
  type Answer,
  answersFolder,
  type GivenOrder,
  MAX_ORDERS,
  type Order,
  orderFile,
  orderOfFile,
  ordersFolder,
} from './order'

/** An order that is ignored is told of once in so many milliseconds. */
const QUIET = 60_000
/** An answer that nobody wants any more, in milliseconds: who has asked waits for seconds. */
const ANSWER_LIFE = 60_000

/** Milliseconds between two looks where no watch sees: whoever gives the first order, which makes the folder, has their answer within a second. */
const LOOK = 400

/** What orders are carried out by. */
export interface OrdersSetup {
  /** The ledger's path. */
  readonly ledger: string
  readonly daemon: Pick<Daemon, 'closeNamed' | 'unlock'>
  readonly chronicle: Chronicle
  /** Has the state file show what is now: who has given an order looks there next. */
  readonly show: () => Promise<void>
  readonly log: Logger
  readonly now: () => Now
}

/** Carries out what an administrator tells a running daemon, and answers each order once. */
export class Orders {
  readonly #setup: OrdersSetup
  readonly #inbox: Inbox
  readonly #quiet = new Quiet(QUIET)
  readonly #awaited = new Awaited()
  readonly #running = new Set<Promise<void>>()
  readonly #look = inTurn(() => this.look())
  #isEnded = false

  constructor(setup: OrdersSetup) {
    this.#setup = setup
    this.#inbox = new Inbox(ordersFolder(setup.ledger), (why) => this.#warn(`an order was ignored: ${why}`))
  }

  /** Follows the orders that come from now on. */
  async begin(): Promise<void> {
    await this.#inbox.begin(this.#wall)
    await this.#tidy().catch(() => {})
    // What can't be watched is looked at all the same.
    watchFolder(ordersFolder(this.#setup.ledger), this.#look, () => {}, LOOK)
    this.#look()
  }

  /** Hears a tap: somebody may wait for it. */
  hear(tap: Tap): void {
    if (!this.#awaited.isEmpty) this.#awaited.hear(tap)
  }

  /** Takes no order any more; resolves when those that were taken have been answered. Call it when the daemon has settled. */
  async end(): Promise<void> {
    this.#isEnded = true
    this.#awaited.end()
    await Promise.all(this.#running)
  }

  /** Looks for orders, and begins to carry them out. */
  async look(): Promise<void> {
    if (this.#isEnded) return
    for (const given of await this.#inbox.take(this.#wall)) {
      const running: Promise<void> = this.#answer(given).finally(() => this.#running.delete(running))
      this.#running.add(running)
    }
  }

  async #answer({ id, order }: GivenOrder): Promise<void> {
    const outcome = await this.#carryOut(order).catch((error) => ({ failed: inOneLine(error) }))
    if (order.kind !== 'await-tap') await this.#setup.show()
    const answer: Answer = { id, at: isoTime(this.#setup.now().wall), ...outcome }
    try {
      await this.#tidy()
      const folder = await openAnswers(answersFolder(this.#setup.ledger))
      try {
        await folder.place(orderFile(id), `${JSON.stringify(answer)}\n`, 0o640)
      } finally {
        await folder.close()
      }
    } catch (error) {
      this.#warn(`an order was carried out and cannot be answered: ${reason(error)}`)
    }
  }

  async #carryOut(order: Order): Promise<Omit<Answer, 'id' | 'at'>> {
    const { daemon, chronicle } = this.#setup
    switch (order.kind) {
      case 'close': {
        const { ended, failed } = await daemon.closeNamed(order)
        return { closed: ended.map((lease) => stateLease(lease, chronicle.openedAt(lease))), failed }
      }
      case 'unlock': {
        const { ended, failed } = await daemon.unlock(order.address)
        return { unlocked: ended.map(stateLock), failed }
      }
      case 'await-tap':
        return { heard: await this.#awaited.wait(order.source) }
    }
  }

  /** Removes answers that nobody has taken. */
  async #tidy(): Promise<void> {
    const folder = await SureFolder.open(answersFolder(this.#setup.ledger))
    if (!folder) return
    try {
      const { wall } = this.#setup.now()
      for (const name of (await folder.names(2 * MAX_ORDERS)) ?? []) {
        const changed = orderOfFile(name) === null ? null : await folder.changed(name)
        if (changed !== null && Math.abs(wall - changed) > ANSWER_LIFE) await folder.remove(name)
      }
    } finally {
      await folder.close()
    }
  }

  readonly #wall = (): number => this.#setup.now().wall

  #warn(message: string): void {
    if (this.#quiet.may(message.split(':')[0], this.#setup.now().steady)) this.#setup.log.warn(message)
  }
}

/** The folder of answers, which is made where it is missing. @throws where it is not our own, or can't be made */
async function openAnswers(path: string): Promise<SureFolder> {
  await mkdir(path, 0o700).catch((error) => {
    if (errorCode(error) !== 'EEXIST') throw error
  })
  const folder = await SureFolder.open(path)
  if (!folder) throw new Error(`${path}: is gone`)
  return folder
}
