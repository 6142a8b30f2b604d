import type { Check, Verdict } from '../system/check'
import { printable } from '../system/fault'
import { paint } from './paint'

/* Checks as a terminal shows them: one line each, with what to do below it. */

const STYLES = { ok: 'good', note: 'warn', unknown: 'head', fault: 'bad' } as const
/** Of the longest verdict. */
const WIDTH = 7

/** Of the longest names that most see: `granted services closed`, `UDP to high ports, IPv4`. */
const NAME_WIDTH = 23

/** Prints a check on standard output. */
export function printCheck({ verdict, name, evidence, remedy }: Check): void {
  const line = `${paint(STYLES[verdict], verdict.padEnd(WIDTH))}  ${name.padEnd(NAME_WIDTH)}  ${printable(evidence)}\n`
  process.stdout.write(remedy === undefined ? line : `${line}${' '.repeat(WIDTH)}  hint: ${printable(remedy)}\n`)
}

/** How many checks have ended how, the worst first; what nobody knows is never left out. */
export function summaryOf(checks: readonly Pick<Check, 'verdict'>[]): string {
  const count = (wanted: Verdict) => checks.filter(({ verdict }) => verdict === wanted).length
  const [faults, notes] = [count('fault'), count('note')]
  const words = [
    faults === 1 ? '1 fault' : `${faults} faults`,
    notes === 1 ? '1 note' : `${notes} notes`,
    `${count('unknown')} unknown`,
    `${count('ok')} ok`,
  ]
  return words.join(', ')
}
