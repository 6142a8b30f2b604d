import * as v from 'valibot'
import { type Check, remedyOf, unknown } from '../../system/check'
import { readJson } from '../../system/json'
import { askOwnProgram, saidOf } from '../own-script'

/* What knockdaemon --check finds, which looks as the daemon's user: keys, ledger, rules and taps. */

/** How `knockdaemon --check --json` prints it. */
const REPORT = v.object({
  checks: v.array(
    v.object({
      name: v.string(),
      verdict: v.picklist(['ok', 'note', 'fault', 'unknown']),
      evidence: v.string(),
      remedy: v.optional(v.string()),
    }),
  ),
})

/** What it looks at where nothing keeps it from that. */
const WHOLE = ['clock', 'config', 'keys', 'services', 'ledger', 'programs', 'kernel', 'tap source', 'log rules'] as const

/** Has the daemon's program check itself. @param config the daemon's config */
export async function daemonHalf(config: string): Promise<readonly Check[]> {
  const result = await askOwnProgram('knockdaemon', ['--check', '--json', '--config', config])
  const checks = readReport(result.stdout)
  if (checks === null) return [unknown('daemon', `knockdaemon --check failed: ${saidOf(result)}`, 'run "knockdaemon --check"')]
  return [...checks, ...leftOpen(checks)]
}

/** Reads what `knockdaemon --check --json` has printed; null where that is no report. */
export function readReport(text: string): Check[] | null {
  return readJson(REPORT, text)?.checks.map(({ remedy, ...check }) => ({ ...check, ...remedyOf(remedy) })) ?? null
}

/** What a report says nothing of: nobody knows whether it is well. */
export function leftOpen(checks: readonly Check[]): Check[] {
  const missing = WHOLE.filter((name) => !checks.some((check) => check.name === name))
  const isConfigFaulty = checks.some(({ name, verdict }) => name === 'config' && verdict === 'fault')
  const why = isConfigFaulty
    ? 'the config has to be right first'
    : 'with these [firewall] backend and [taps] source it cannot be seen from here'
  return missing.map((name) => unknown(name, `not checked: ${why}`))
}
