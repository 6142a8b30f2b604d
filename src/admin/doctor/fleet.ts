import * as v from 'valibot'
import { Finding } from '../../daemon/checks/finding'
import type { Config } from '../../daemon/config'
import type { FleetConfig } from '../../daemon/fleet/config'
import type { Check } from '../../system/check'
import { readJson } from '../../system/json'
import { askOwnProgram, saidOf } from '../own-script'

/* How the fleet stands of which this server is a gateway, and how knocks come to it. Of a single server there is nothing to say. */

/** What `knockturn fleet status --json` prints, as far as it matters here. */
const REPORT = v.object({
  faults: v.array(v.object({ message: v.string(), hint: v.nullable(v.string()) })),
  gateways: v.nullable(v.array(v.object({ name: v.string(), speaks: v.boolean(), synchronised: v.nullable(v.boolean()) }))),
  members: v.array(v.object({ size: v.nullable(v.number()), quota: v.nullable(v.number()) })),
})
type Report = v.InferOutput<typeof REPORT>

/** Checks the fleet of a config, by `knockturn fleet status`: it may begin again as the daemon's user. @returns none without a fleet */
export async function checkFleet(file: string, { ledger, datagram }: Config): Promise<readonly Check[]> {
  const { fleet } = ledger
  if (!fleet) return []
  const result = await askOwnProgram('knockturn', ['fleet', 'status', '--json', '--config', file])
  return [...judgeFleet(readFleet(result.stdout), saidOf(result)), ...judgeRouting(fleet, datagram.ports)]
}

/** Reads what `knockturn fleet status --json` has printed; null where that is no report. */
export const readFleet = (text: string): Report | null => readJson(REPORT, text)

/** Judges a fleet. @param said what was said where there is no report */
export function judgeFleet(report: Report | null, said: string): readonly Check[] {
  const found = new Finding('fleet')
  if (report === null) {
    found.unknown(`knockturn fleet status failed: ${said}`, 'run "knockturn fleet status"')
    return found.end('')
  }
  const { faults, gateways, members } = report
  for (const { message, hint } of faults) found.wrong(message, hint ?? 'run "knockturn fleet status"')
  const speaking = (gateways ?? []).filter(({ speaks }) => speaks)
  if (speaking.length > 0 && speaking.every(({ synchronised }) => synchronised !== true))
    found.felt(
      'no gateway knows its clock to be kept: after etcd was restored, none may begin anew by itself',
      'run "timedatectl set-ntp true" on the gateways, or install chrony (Debian: apt-get install chrony)',
    )
  const used = members.map(({ size, quota }) => Math.round((100 * (size ?? 0)) / (quota || 1)))
  return found.end(
    `${speaking.length === 1 ? '1 gateway speaks' : `${speaking.length} gateways speak and have the same keys`}; ${
      members.length === 1 ? '1 member of etcd answers, and uses' : `${members.length} members of etcd answer, and use`
    } ${Math.max(0, ...used)} % of its quota`,
  )
}

/** Judges whether a knock reaches one gateway whole. @param datagrams the ports of [datagram] */
export function judgeRouting({ pinned }: Pick<FleetConfig, 'pinned'>, datagrams: readonly number[]): readonly Check[] {
  const found = new Finding('routing')
  if (!pinned)
    found.felt(
      datagrams.length > 0
        ? `a datagram comes to one gateway, however packets are routed (ports ${datagrams.join(', ')}); a knock on ports only if all of its packets do, which nobody can see from here`
        : 'a knock on ports counts only if all of its packets come to one gateway, which nobody can see from here',
      'route by source address, and set pinned = true in [ledger]; or have clients knock by --datagram: see docs/fleet.md, "One knock, several gateways"',
    )
  return found.end('all packets of a source come to one gateway, by your word (pinned = true)')
}
