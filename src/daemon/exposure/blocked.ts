import { formatService, type Service } from '../../protocol/service'
import { Fault } from '../../system/fault'
import { type Guard, guards } from '../guard'
import type { Exposure } from './text'

/** Looks which services that are to open by a knock only are not guarded. */
export async function lookForBlocked(services: readonly Service[], { ports }: Pick<Guard, 'ports'>): Promise<Exposure> {
  const open = services.filter((service) => !guards(ports, service)).map((service) => notGuarded(formatService(service)))
  return { open, unknown: [] }
}

const notGuarded = (service: string): Fault =>
  new Fault(`${service} is not guarded: Knockturn keeps nobody from it`, {
    hint: `add "${service}" to guard in [firewall]`,
  })
