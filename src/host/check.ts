import { access, constants, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { commandPath } from './commands'
import { type Config, readConfig } from './config'
import { errorCode, Fault, reason } from './fault'
import { checkPrivate } from './files'
import { loadServerKeys } from './server-keys'
import { checkClock } from './time'

/**
 * Looks at all that a daemon would need, and changes nothing.
 * @returns every fault, and a line that sums up what is well
 */
export async function checkDaemon(file: string): Promise<{ faults: Fault[]; summary: string }> {
  const faults: Fault[] = []
  const attempt = async <T>(look: () => Promise<T> | T): Promise<T | undefined> => {
    try {
      return await look()
    } catch (error) {
      if (!(error instanceof Fault)) throw error
      faults.push(error)
      return undefined
    }
  }
  await attempt(() => checkClock(Date.now(), 'set it before the daemon starts'))
  const read = await readConfig(file)
  if (read.faults) return { faults: [...faults, ...read.faults], summary: '' }
  const config = read.value
  const keys = await attempt(() => loadServerKeys(config.keys, config.server))
  faults.push(...(keys?.faults ?? []))
  if (keys && keys.keys.length === 0 && keys.faults.length === 0) {
    faults.push(new Fault(`${config.keys}: holds no key: make one with "knockturn key new"`))
  }
  await attempt(() => checkLedger(config.ledger.path))
  for (const [command, use] of neededCommands(config)) await attempt(() => checkCommand(command, use))
  return {
    faults,
    summary: `${file}: no fault; server "${config.server}", ${keys?.keys.length} keys, taps from ${config.taps.source}`,
  }
}

async function checkLedger(path: string): Promise<void> {
  try {
    const stats = await stat(path)
    if (!stats.isFile()) throw new Fault(`${path}: expected a file, got something else`)
    checkPrivate(path, stats, 0o600)
    await access(path, constants.R_OK | constants.W_OK)
    await access(dirname(path), constants.W_OK)
  } catch (error) {
    if (error instanceof Fault) throw error
    if (errorCode(error) !== 'ENOENT') throw new Fault(`${path}: the ledger cannot be used: ${reason(error)}`)
    await access(dirname(path), constants.W_OK).catch((cause) => {
      throw new Fault(`${path}: the ledger cannot be made: ${reason(cause)}: make its folder, writable for the daemon`)
    })
  }
}

function neededCommands({ taps, firewall }: Config): [string, string][] {
  return [
    ['flock', 'util-linux'],
    ...(taps.source === 'nflog'
      ? [['tcpdump', 'tcpdump'] as [string, string], ['setpriv', 'util-linux'] as [string, string]]
      : []),
    ...(firewall.backend === 'iptables' ? ['iptables', 'ip6tables'].map((name): [string, string] => [name, 'iptables']) : []),
  ]
}

async function checkCommand(command: string, pack: string): Promise<void> {
  for (const folder of commandPath().split(':').filter(Boolean)) {
    const found = await access(join(folder, command), constants.X_OK).then(
      () => true,
      () => false,
    )
    if (found) return
  }
  throw new Fault(`${command} is missing: install it (Debian: apt-get install ${pack})`)
}
