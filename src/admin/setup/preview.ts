import { backendOf } from '../../daemon/backends/all'
import { guardOfNow } from '../../daemon/bridges'
import { parseConfig, SERVER_CONFIG } from '../../daemon/config'
import { type Heard, tapRulesOf } from '../../daemon/tap-rules'
import { parsePool } from '../../protocol/pool'
import { CONFIG_FOLDER } from './places'
import type { Plan } from './plan'
import { printedStep } from './take-step'
import type { There } from './there'

/**
 * What a set-up would do, to be read: each step, the files of the guard, and the rules. It changes nothing, and makes no key.
 * @param pool of the key that would be made
 * @param warn told what can't be looked at
 * @throws {Fault} where the firewall can't be read
 */
export async function previewOf(plan: Plan, there: There, pool: string, warn: (line: string) => void): Promise<string> {
  const steps = plan.steps.map((step) => printedStep(step, there.hasSystemd))
  const { value, faults } = await parseConfig(SERVER_CONFIG, plan.config)
  if (!value) throw faults[0]
  const keys: readonly Heard[] = [...there.keys, ...(plan.newKey === null ? [] : [{ key: { pool: parsePool(pool) } }])]
  const backend = backendOf(value)
  const rules = { guard: guardOfNow(value.firewall.guard), taps: tapRulesOf(keys, value) }
  const files = await backend.atBoot(rules, warn)
  const { changes } = await backend.plan(rules, { isPreview: true, isUnattended: false }, (lines) => lines.forEach(warn))
  return [
    ...steps,
    ...files.map(({ path, text }) => `# ${CONFIG_FOLDER}/${path} (root, mode 0600)\n${text}`),
    ...changes.map(({ command, script }) => `# rules, by ${command}\n${script}`),
  ].join('\n')
}
