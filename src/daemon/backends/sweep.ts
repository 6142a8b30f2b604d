import { unlink } from 'node:fs/promises'
import type { Logger } from 'pino'
import { ownPrivileges } from '../../system/capabilities'
import { explained, Fault } from '../../system/fault'
import { ProgramTable } from '../command/command'
import { keptPath, readKept } from '../command/kept'
import type { Config } from '../config'
import { absence, BACKENDS } from './all'
import type { Backend } from './backend'

/** Takes away what other backends have left, leases and all: after a change of backend nobody else would end them. */
export async function sweepOthers(own: Backend, config: Config, log: Logger): Promise<void> {
  const { backend } = config.firewall
  if (backend === 'dry-run') return
  if (backend !== 'command') await sweepProgram(config, log)
  // Without the privilege to look, we had none to leave anything.
  else if ((await ownPrivileges({ firewall: true, capture: false })).missing.length > 0) return
  await sweepFirewalls(own, log)
}

async function sweepFirewalls(own: Backend, log: Logger): Promise<void> {
  for (const [name, backend] of Object.entries(BACKENDS)) {
    if (backend === own || !backend.isReal || (await absence(backend))) continue
    try {
      const changes = await backend.removal(() => {})
      for (const change of changes) await change.apply()
      if (changes.length > 0) log.warn({ backend: name }, 'removed what another backend left in the firewall')
    } catch (error) {
      log.warn({ backend: name, ...explained(error) }, 'cannot tell whether another backend has left anything in the firewall')
    }
  }
}

/** Has the user's program close what it has opened. */
async function sweepProgram({ firewall, ledger }: Config, log: Logger): Promise<void> {
  const backend = 'command'
  const path = keptPath(ledger.path)
  try {
    const { ways, locks } = await readKept(path)
    if (ways.length + locks.length === 0) return
    const hint = `correct [firewall.command] and restart; or close what ${path} lists, and delete the file`
    if (ways.length > 0 && !firewall.command) throw new Fault('[firewall.command] is no longer in the config', { hint })
    if (firewall.command) {
      const table = new ProgramTable({ config: { ...firewall.command, list: null }, path, left: () => 0, log })
      await table.rewrite([])
      if ((await readKept(path)).ways.length > 0) throw new Fault('the program has not closed all of it', { hint })
    }
    await unlink(path)
    log.warn({ backend }, 'removed what another backend left in the firewall')
  } catch (error) {
    log.warn({ backend, ...explained(error) }, 'cannot remove what another backend left open')
  }
}
