import type { Command } from 'commander'
import { examine } from '../../admin/doctor/doctor'
import { mayTry } from '../../admin/guard'
import type { Check, Verdict } from '../../daemon/checks/check'
import { Fault, printable } from '../../system/fault'
import { subcommand } from '../options'
import { paint } from '../paint'
import { EXIT } from '../voice'
import { configOption } from './places'
import { print } from './voice'

interface Options {
  readonly config: string
  readonly json?: boolean
  readonly try: boolean
}

/** Gives knockturn the command that checks a server. */
export function addDoctor(parent: Command): void {
  subcommand(
    parent,
    'doctor',
    'check all that this server needs, and print what is wrong, how that is known and what to do',
    'doctor',
  )
    .addOption(configOption())
    .option('--json', 'print what was found as JSON')
    .option('--no-try', 'only look: send no packets, and start no daemon to try a whole knock')
    .action(doctor)
}

async function doctor({ config, json = false, try: isToTry }: Options): Promise<void> {
  if (process.geteuid?.() !== 0 || !(await mayTry()))
    throw new Fault('only root sees all that is to be checked, with CAP_NET_ADMIN', { hint: 'run this as root, or with sudo' })
  const all: Check[] = []
  await examine(config, isToTry, (checks) => {
    all.push(...checks)
    if (!json) for (const check of checks) printCheck(check)
  })
  print(json ? JSON.stringify(all, null, 2) : `\n${summaryOf(all)}`)
  if (all.some(({ verdict }) => verdict === 'fault')) process.exitCode = EXIT.failure
}

const STYLES = { ok: 'good', note: 'warn', unknown: 'head', fault: 'bad' } as const
/** Of the longest verdict, and of the longest name of a check. */
const WIDTHS = { verdict: 7, name: 23 } as const

function printCheck({ verdict, name, evidence, remedy }: Check): void {
  const shown = paint(STYLES[verdict], verdict.padEnd(WIDTHS.verdict))
  print(`${shown}  ${name.padEnd(WIDTHS.name)}  ${printable(evidence)}`)
  if (remedy !== undefined) print(`${' '.repeat(WIDTHS.verdict)}  hint: ${printable(remedy)}`)
}

/** How many checks have ended how, the worst first; what nobody knows is never left out. */
function summaryOf(checks: readonly Check[]): string {
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
