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
 * Checks all that a server needs, one thing after the other, and changes nothing that stays. Root sees all of it.
 * @param file the daemon's config
 * @param say told what each check has found, as soon as it is known
 */
export async function examine(file: string, say: (checks: readonly Check[]) => void): Promise<void> {
  const half = await daemonHalf(file)
  say(half.filter(({ name }) => name !== 'daemon'))
  const { value: config } = await readConfig(file)
  const booted = await hasSystemd()
  say(await checkClockKept())
  const isKernelWell = half.some(({ name, verdict }) => name === 'kernel' && verdict === 'ok')
  say(await checkThisMachine(config?.ledger.path ?? null, isKernelWell))
  if (!config) {
    say(BY_CONFIG.map((name) => ({ name, verdict: 'unknown', evidence: 'not checked: the config has to be right first' })))
    return
  }
  say(
    await checkAlive(
      config.ledger.path,
      half.filter(({ name }) => name === 'daemon'),
      booted,
    ),
  )
  say(await checkGuard(file, config, booted))
  say(await checkUnits(config, booted))
  say(await checkFirewalls(config, booted))
  say(await checkKeyEnds(file, config.server))
  say(await checkListeners(config.firewall.guard.ports))
}
