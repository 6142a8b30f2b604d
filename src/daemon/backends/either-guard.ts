import { guardOfNow } from '../bridges'
import type { Config } from '../config'
import { type Heard, tapRulesOf } from '../tap-rules'
import type { Rules } from './backend'

/** What a daemon has in the firewall, strict or not: whether the kernel knows all connections by now is not for us to say. */
export function eitherGuard(keys: readonly Heard[], config: Config): Rules[] {
  const taps = tapRulesOf(keys, config)
  return [false, true].map((isStrict) => ({ guard: guardOfNow(config.firewall.guard, isStrict), taps }))
}
