import type { Logger } from 'pino'
import { Quiet } from '../gate/quiet'
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
    for (const { message } of faults)
      if (isNew(`refused ${message}`)) log.error({ reason: message }, 'a key file is faulty: its key is refused')
    for (const { message } of held.flatMap(({ faults }) => faults))
      if (isNew(`held ${message}`))
        log.error({ reason: message }, 'a key file is faulty: its key stays for 10 s, and is refused then')
    for (const path of ignored) if (isNew(`ignored ${path}`)) log.warn({ file: path }, 'expected <id>.key: the file is ignored')
    if (unread.length > 0 && this.#quiet.may('', steady))
      log.error({ reason: unread[0].message, count: unread.length }, 'the keyring cannot be read, and what was read before holds')
  }
}
