import { isAbsolute } from 'node:path'
import { run } from './commands'

/** What systemd has told a process that it has started as a service. */
export interface ServiceManager {
  /** A folder in memory that is ours, and that others may read (RuntimeDirectory=); null: there is none. */
  readonly folder: string | null
  /** Milliseconds within which it has to hear from us again and again; null: it does not wait for that. */
  readonly watchdog: number | null
  /**
   * Tells it something by systemd-notify(1): Node has no datagram sockets of the kind that it listens on. Where it does not listen, nothing
   * happens.
   * @param words as systemd-notify takes them
   * @throws {Fault} where it can't be told
   */
  notify(...words: string[]): Promise<void>
}

/**
 * Reads what systemd has put into the environment.
 * @param pid our process id: what is meant for another process is none of our business
 */
export function serviceManager(env: NodeJS.ProcessEnv, pid: number): ServiceManager {
  const [folder = ''] = (env.RUNTIME_DIRECTORY ?? '').split(':')
  const microseconds = /^\d{1,15}$/.test(env.WATCHDOG_USEC ?? '') ? Number(env.WATCHDOG_USEC) : 0
  const isForUs = env.WATCHDOG_PID === undefined || env.WATCHDOG_PID === String(pid)
  const { NOTIFY_SOCKET } = env
  return {
    folder: isAbsolute(folder) ? folder : null,
    watchdog: NOTIFY_SOCKET && isForUs && microseconds > 0 ? microseconds / 1_000 : null,
    async notify(...words) {
      if (NOTIFY_SOCKET) await run('systemd-notify', words, { NOTIFY_SOCKET })
    },
  }
}
