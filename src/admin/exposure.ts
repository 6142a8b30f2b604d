import { backendOf } from '../daemon/backends/all'
import { readConfig } from '../daemon/config'
import { grantedServices } from '../daemon/exposure/look'
import { Fault, inOneLine } from '../system/fault'
import { readKeys } from './keyring'

/** What strangers reach of the services of a config's keys, and leases don't, as lines for a warning: then what nobody can know. */
export async function exposedServices(file: string): Promise<string[]> {
  try {
    const { value } = await readConfig(file)
    if (!value || !backendOf(value).isReal) return []
    const { keys } = await readKeys(value.keys)
    const { open, shut, unknown } = await backendOf(value).strangers(grantedServices(keys, Date.now()), value.firewall.guard)
    return [...[...open, ...shut].map(inOneLine), ...unknown]
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    return [`cannot tell whether the services are open to everyone: ${inOneLine(error)}`]
  }
}
