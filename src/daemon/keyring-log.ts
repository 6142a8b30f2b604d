import type { Logger } from 'pino'
import { Quiet } from '../gate/quiet'
import { explained } from '../system/fault'
import type { ServerKeys } from './server-keys'

/** What can't be read is said once in so many milliseconds, for as long as that lasts: nothing that is changed meanwhile is heeded. */
const UNREAD = 60_000

/** Says what is wrong with the keyring while the other keys go on opening doors: everything once, and each minute what nobody can know. */
export class KeyringLog {
  readonly #log: Logger
  /** What has been said, and is so still. */
  #told = new Set<string>()
  readonly #quiet = new Quiet(UNREAD)

  constructor(log: Logger) {
    this.#log = log
  }

  /** All of it is said again: somebody has asked for it. */
  forget(): void {
    this.#told.clear()
  }

  /** @param steady milliseconds on a monotonic clock */
  tell({ faults, held, unread, ignored }: ServerKeys, steady: number): void {
    const log = this.#log
    const before = this.#told
    this.#told = new Set()
    const isNew = (name: string) => {
      this.#told.add(name)
      return !before.has(name)
    }
    for (const fault of faults)
      if (isNew(`refused ${fault.message}`)) log.error(explained(fault), 'invalid key file: key rejected')
    for (const fault of held.flatMap(({ faults }) => faults))
      if (isNew(`held ${fault.message}`))
        log.error(explained(fault), 'invalid key file: last good version kept for 10 s, then key rejected')
    for (const path of ignored) if (isNew(`ignored ${path}`)) log.warn({ file: path }, 'ignored: not named <id>.key')
    if (unread.length > 0 && this.#quiet.may('', steady))
      log.error({ ...explained(unread[0]), count: unread.length }, 'cannot read the keyring: last good version kept')
  }
}
