import { Finding } from '../../daemon/checks/finding'
import type { Config } from '../../daemon/config'
import type { Check } from '../../system/check'
import { run } from '../../system/commands'

/* Whether systemd starts at boot what has to run. */

const DAEMON = 'knockdaemon.service'
const GUARD = 'knockturn-guard.service'
const PROBE = 'knockturn-probe.service'
const FAIL_OPEN = 'knockturn-fail-open.timer'

/** What systemd says of a unit. */
export interface UnitFacts {
  /** Whether it knows it at all. */
  readonly isThere: boolean
  /** Such as `enabled`. */
  readonly enabled: string
  /** Such as `active`. */
  readonly active: string
  /** Whether its file was changed since it was read. */
  readonly isStale: boolean
}

/** What a config needs of systemd. */
export interface Needs {
  readonly guard: boolean
  readonly probe: boolean
  readonly failOpen: boolean
}

/** Checks the units. @param hasSystemd whether systemd runs here */
export async function checkUnits({ firewall, taps }: Config, hasSystemd: boolean): Promise<readonly Check[]> {
  const needs = {
    guard: firewall.guard.ports.length > 0,
    probe: taps.source === 'nflog',
    failOpen: firewall.guard.failOpen !== undefined,
  }
  if (!hasSystemd) return judgeUnits(needs, null)
  const found = new Finding('units')
  const facts = await found.look(async () => {
    const all = await Promise.all([DAEMON, GUARD, PROBE, FAIL_OPEN].map(async (unit) => [unit, await factsOf(unit)] as const))
    return new Map(all)
  })
  return facts === null ? found.end('') : judgeUnits(needs, facts)
}

async function factsOf(unit: string): Promise<UnitFacts> {
  return readUnit(await run('systemctl', ['show', unit, '-p', 'LoadState,UnitFileState,ActiveState,NeedDaemonReload']))
}

/** Reads what `systemctl show` prints of a unit. */
export function readUnit(text: string): UnitFacts {
  const field = (name: string) => new RegExp(`^${name}=(.*)$`, 'm').exec(text)?.[1] ?? ''
  return {
    isThere: field('LoadState') === 'loaded',
    enabled: field('UnitFileState'),
    active: field('ActiveState'),
    isStale: field('NeedDaemonReload') === 'yes',
  }
}

/** Judges the units. @param units by their names; null: there is no systemd */
export function judgeUnits(needs: Needs, units: ReadonlyMap<string, UnitFacts> | null): readonly Check[] {
  const found = new Finding('units')
  if (units === null) {
    found.unknown(
      'systemd does not run here: whether guard and daemon start at boot cannot be seen',
      'have your init run "knockturn-guard" before the network, and then the daemon: docs/by-hand.md',
    )
    return found.end('')
  }
  /** One that has to start at boot. @param else what is so without it */
  const needed = (unit: string, otherwise: string) => {
    const facts = units.get(unit)
    if (!facts?.isThere)
      found.wrong(
        `${unit} is not installed: ${otherwise}`,
        `run "knockturn setup", or copy it from docs/systemd to /etc/systemd/system and run "systemctl daemon-reload && systemctl enable --now ${unit}"`,
      )
    else if (!facts.enabled.startsWith('enabled'))
      found.wrong(
        `${unit} is ${facts.enabled || 'not enabled'}: ${otherwise}`,
        `run "${facts.enabled === 'masked' ? `systemctl unmask ${unit} && ` : ''}systemctl enable --now ${unit}"`,
      )
    else if (facts.active === 'failed')
      found.wrong(`${unit} has failed`, `run "journalctl -eu ${unit}" to see why, then "systemctl restart ${unit}"`)
  }
  needed(DAEMON, 'after a boot nobody new gets in')
  if (needs.guard) needed(GUARD, 'at boot the guarded ports are open until the daemon starts')
  if (needs.failOpen) needed(FAIL_OPEN, 'fail_open_to opens nothing when the daemon is dead')
  if (needs.probe && !units.get(PROBE)?.isThere)
    found.felt(
      `${PROBE} is not installed: on a quiet day nobody knows whether the daemon hears`,
      `copy it from docs/systemd to /etc/systemd/system, and run "systemctl daemon-reload && systemctl restart ${DAEMON}"`,
    )
  if ([...units.values()].some(({ isStale }) => isStale))
    found.felt(
      'a unit file was changed since systemd has read it',
      `run "systemctl daemon-reload && systemctl restart ${DAEMON}"`,
    )
  const names = [DAEMON, ...(needs.guard ? [GUARD] : []), ...(needs.failOpen ? [FAIL_OPEN] : [])]
  return found.end(`enabled: ${names.join(', ')}`)
}
