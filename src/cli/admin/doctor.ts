import type { Command } from 'commander'
import { examine } from '../../admin/doctor/doctor'
import { mayTry } from '../../admin/guard'
import type { Check } from '../../system/check'
import { Fault } from '../../system/fault'
import { printCheck, summaryOf } from '../checks'
import { subcommand } from '../options'
import { EXIT, jsonOption, printJson } from '../voice'
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
    .addOption(jsonOption())
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
  if (json) printJson({ checks: all })
  else print(`\n${summaryOf(all)}`)
  if (all.some(({ verdict }) => verdict === 'fault')) process.exitCode = EXIT.failure
}
