import { type Config, readConfig } from '../../daemon/config'
import { formatService } from '../../protocol/service'
import { type Check, unknown } from '../../system/check'
import { isValid, type ListedKey, readKeyList } from '../key-list'
import { askOwnProgram } from '../own-script'
import { hasSystemd } from '../setup/machine'
import { checkClockKept } from './clock'
import { checkAlive } from './daemon'
import { daemonHalf } from './daemon-half'
import { checkFirewalls } from './firewalls'
import { checkFleet } from './fleet'
import { checkGuard } from './guard'
import { heardChecks } from './heard'
import { judgeKeyEnds } from './key-ends'
import { checkListeners } from './listeners'
import { checkThisMachine } from './machine'
import { selfKnockChecks } from './self-knock'
import { checkState } from './state'
import { strangerChecks } from './strangers'
import { checkUnits } from './units'

/** The checks that cannot be made without a config. */
export const BY_CONFIG = ['daemon', 'hearing', 'guard', 'units', 'other firewalls', 'key ends', 'listeners'] as const
/** Those that try something by packets. */
export const TRIED = ['packets heard', 'granted services closed', 'self-knock'] as const

/**
 * Checks all that a server needs, and changes nothing that stays. Root sees all of it.
 * @param file the daemon's config
 * @param isToTry whether packets are sent, and a whole daemon started in a place of its own, to see that it is as the rules say
 * @param say told what each check has found, as soon as it is known
 */
export async function examine(file: string, isToTry: boolean, say: (checks: readonly Check[]) => void): Promise<void> {
  const half = await daemonHalf(file)
  say(half.filter(({ name }) => name !== 'daemon'))
  const { value: config } = await readConfig(file)
  const booted = await hasSystemd()
  const isKernelWell = half.some(({ name, verdict }) => name === 'kernel' && verdict === 'ok')
  const looks = [checkClockKept(), checkThisMachine(config?.ledger.path ?? null, isKernelWell)]
  if (!config) {
    for (const look of await Promise.all(looks)) say(look)
    say([...BY_CONFIG, ...TRIED].map((name) => unknown(name, 'not checked: the config has to be right first')))
    return
  }
  const keys = readKeyList((await askOwnProgram('knockturn', ['key', 'list', '--json', '--config', file])).stdout)
  const holder = half.filter(({ name }) => name === 'daemon')
  const alive = await checkAlive(config.ledger.path, holder, booted, Date.now())
  const isAlive = alive.some(({ name, verdict }) => name === 'daemon' && verdict === 'ok')
  const all = await Promise.all([
    ...looks,
    alive,
    checkState(file, config, isAlive, booted),
    checkGuard(file, config, booted),
    checkUnits(config, booted),
    checkFirewalls(config, booted),
    judgeKeyEnds(keys, config.server, Date.now()),
    checkListeners(config.firewall.guard.ports),
    checkFleet(file, config),
  ])
  for (const checks of all) say(checks)
  if (isToTry) await tryIt(config, keys, say)
  else say(TRIED.map((name) => unknown(name, 'not tried: --no-try')))
}

/** Tries with packets what the rules only promise, one thing after the other: all of them take the same addresses. */
async function tryIt(config: Config, keys: readonly ListedKey[] | null, say: (checks: readonly Check[]) => void): Promise<void> {
  const own = keys?.filter((key) => isValid(key, config.server, Date.now()))
  if (own) {
    const distinct = new Map(own.flatMap(({ services }) => services.map((one) => [formatService(one), one] as const)))
    say(await heardChecks(config, own))
    say(await strangerChecks(config, [...distinct.values()]))
  } else {
    say(['packets heard', 'granted services closed'].map((name) => unknown(name, 'not tried: the keys cannot be listed')))
  }
  say(await selfKnockChecks(config))
}
