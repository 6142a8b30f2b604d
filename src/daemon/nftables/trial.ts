import { release } from 'node:os'
import { CommandFault, run } from '../../system/commands'
import { Fault } from '../../system/fault'
import type { Rules } from '../backends/backend'
import { SAMPLES } from '../backends/samples'
import { TABLE } from './elements'
import { check, scriptOf } from './nft'
import { placeLines } from './places'
import { failOpenLines, rulesetLines } from './ruleset'
import { Standing } from './standing'

/** The first nft whose batches were tried: Debian 12 has it. */
const LEAST = [1, 0, 6] as const

/** @throws {Fault} where nft is too old or does not say how old it is */
export async function checkVersion(): Promise<void> {
  const said = await run('nft', ['--version'])
  const version = readVersion(said)
  if (!version) throw new Fault(`cannot tell the version of nft: it said "${said.trim().slice(0, 60)}"`)
  const least = LEAST.join('.')
  if (isOlder(version, LEAST))
    throw new Fault(`nft ${version.join('.')} is too old: requires ${least}`, {
      hint: `install nftables ${least} or newer (Debian 12 has it), or set backend = "iptables" in [firewall]`,
    })
}

/** Reads what `nft --version` prints; null where it is nothing of the kind. */
export function readVersion(text: string): readonly number[] | null {
  const [, version] = /^nftables v(\d+\.\d+(?:\.\d+)?)\b/.exec(text) ?? []
  return version?.split('.').map(Number) ?? null
}

/** Whether a version comes before another. */
export function isOlder(version: readonly number[], least: readonly number[]): boolean {
  const n = least.findIndex((part, i) => (version[i] ?? 0) !== part)
  return n >= 0 && (version[n] ?? 0) < (least[n] ?? 0)
}

/** Has the kernel look at the table and at leases of each kind, and change nothing. @throws {Fault} where it can't have them */
export async function tryTable(rules: Rules): Promise<void> {
  const add = Object.values(SAMPLES).flatMap(({ leases, lock }) => [...leases, lock])
  const { lines, places } = new Standing().compose({ add, remove: [] }, 0, () => SAMPLE_LIFE)
  const script = [...rulesetLines(rules), ...failOpenLines(rules.guard), ...places.flatMap(placeLines), ...lines]
  const text = scriptOf(script)
  try {
    await check(text)
  } catch (error) {
    if (!(error instanceof CommandFault)) throw error
    // Another version's table, or a stranger's, may be what ours can't be made from.
    if (await works(`delete table ${TABLE}\n${text}`))
      throw new Fault(`table ${TABLE} is of another version or another program: ours cannot be made from it: ${error.message}`, {
        hint: 'run "knockturn firewall remove", which ends its leases and opens what it guards, and at once "knockturn firewall install"',
      })
    throw new Fault(`the kernel (Linux ${release()}) cannot hold our table: ${error.message}`, {
      hint: 'load its module nf_tables ("modprobe nf_tables"), use Linux 5.10 or newer, or set backend = "iptables" in [firewall]',
    })
  }
}

/** Whether the kernel would take a script: not where it deletes what is not there. */
const works = (script: string): Promise<boolean> =>
  check(script).then(
    () => true,
    () => false,
  )

/** Milliseconds that a lease has which is tried. */
const SAMPLE_LIFE = 60_000
