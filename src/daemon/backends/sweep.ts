import type { Logger } from 'pino'
import { explained } from '../../system/fault'
import { absence, BACKENDS } from './all'
import type { Backend } from './backend'

/** Takes away what other backends have left, leases and all: after a change of backend nobody else would end them. */
export async function sweepOthers(own: Backend, log: Logger): Promise<void> {
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
