import { readConfig } from '../daemon/config'
import { grantedServices, lookForStrangers } from '../daemon/exposure/look'
import { Fault, inOneLine } from '../system/fault'
import { readKeys } from './keyring'

/**
 * What strangers reach of the services of a config's keys, as lines for a warning: what is open, then what nobody can know. Firewalls that are
 * not iptables' are not judged.
 */
export async function exposedServices(file: string): Promise<string[]> {
  try {
    const { value } = await readConfig(file)
    if (value?.firewall.backend !== 'iptables') return []
    const { keys } = await readKeys(value.keys)
    const { open, unknown } = await lookForStrangers(grantedServices(keys, Date.now()))
    return [...open.map(inOneLine), ...unknown]
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    return [`cannot tell whether the services are open to everyone: ${inOneLine(error)}`]
  }
}
