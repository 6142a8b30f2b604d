import type { Check } from '../../daemon/checks/check'
import { readConfig } from '../../daemon/config'
import { hasSystemd } from '../setup/machine'
import { checkClockKept } from './clock'
import { checkAlive } from './daemon'
import { daemonHalf } from './daemon-half'
import { checkFirewalls } from './firewalls'
import { checkGuard } from './guard'
import { checkKeyEnds } from './key-ends'
import { checkListeners } from './listeners'
import { checkThisMachine } from './machine'
import { checkUnits } from './units'

/** What cannot be asked without a config. */
const BY_CONFIG = ['daemon', 'guard', 'units', 'other firewalls', 'key ends', 'listeners']

/**
 * Checks all that a server needs, and changes nothing that stays. Root sees all of it.
 * @param file the daemon's config
 * @param say told what each check has found, as soon as it is known
 */
export async function examine(file: string, say: (checks: readonly Check[]) => void): Promise<void> {
  const half = await daemonHalf(file)
  say(half.filter(({ name }) => name !== 'daemon'))
  const { value: config } = await readConfig(file)
  const booted = await hasSystemd()
  const isKernelWell = half.some(({ name, verdict }) => name === 'kernel' && verdict === 'ok')
  const looks = [checkClockKept(), checkThisMachine(config?.ledger.path ?? null, isKernelWell)]
  if (!config) {
    for (const look of await Promise.all(looks)) say(look)
    say(BY_CONFIG.map((name) => ({ name, verdict: 'unknown', evidence: 'not checked: the config has to be right first' })))
    return
  }
  const holder = half.filter(({ name }) => name === 'daemon')
  const all = await Promise.all([
    ...looks,
    checkAlive(config.ledger.path, holder, booted),
    checkGuard(file, config, booted),
    checkUnits(config, booted),
    checkFirewalls(config, booted),
    checkKeyEnds(file, config.server),
    checkListeners(config.firewall.guard.ports),
  ])
  for (const checks of all) say(checks)
}
