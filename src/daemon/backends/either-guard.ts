import type { ServerKey } from '../../gate/server-key'
import { guardOfNow } from '../bridges'
import type { Config } from '../config'
import { tapRulesOf } from '../tap-rules'
import type { Rules } from './backend'

/** What a daemon has in the firewall, strict or not: whether the kernel knows all connections by now is not for us to say. */
export function eitherGuard(keys: readonly ServerKey[], config: Config): Rules[] {
  const taps = tapRulesOf(keys, config)
  return [false, true].map((isStrict) => ({ guard: guardOfNow(config.firewall.guard, isStrict), taps }))
}
