import { type Fault, keepFault } from '../../system/fault'
import { ProgramTable } from '../command/command'
import type { CommandConfig } from '../command/config'
import { entriesOf, keptPath, readKept } from '../command/kept'
import { networkObstacle } from '../command/network'
import { findProgram, RUNNERS } from '../command/program'
import { NOTHING } from '../exposure/text'
import type { Backend } from './backend'

/** Most leases: each is a call of the program, at the latest when the daemon ends. */
const MAX_LEASES = 1_024

/**
 * Leases by the user's own program: on a router, or in a cloud. Nothing of this machine's firewall is its business, so that log rules are the
 * user's own.
 * @param config null only where the config says another backend
 * @param ledger the ledger's path: what may be open is written down beside it
 */
export function commandBackend(config: CommandConfig | null, ledger: string): Backend {
  if (!config) throw new Error('[firewall.command] is missing')
  const programs = [config.open, config.close, ...(config.list ? [config.list] : [])]
  return {
    isReal: false,
    hearsLoopback: false,
    commands: RUNNERS,
    maxLeases: MAX_LEASES,

    async open(_rules, left, _warn, log) {
      for (const words of programs) await findProgram(words)
      const table = new ProgramTable({ config, path: keptPath(ledger), left, log })
      return { firewall: [table], logged: null, follow: () => {} }
    },

    async rehearse(_rules, say) {
      const faults: Fault[] = []
      for (const words of programs) await keepFault(faults, () => findProgram(words))
      const obstacle = await networkObstacle()
      if (obstacle !== null)
        say(
          `the unit of the daemon forbids its programs the network (${obstacle}): if yours needs it, ` +
            'add docs/systemd/knockdaemon-command.conf',
        )
      return faults
    },

    leftOut: async () => ({ isInstalled: true, isOutdated: false, lines: [] }),
    isInPlace: async () => null,
    strangers: async () => NOTHING,
    plan: async () => ({
      changes: [],
      notes: [],
      outcome: 'nothing to install: with backend = "command" all rules are your own',
    }),
    removal: async () => [],
    atBoot: async () => [],
    counted: async () => [],
    standing: async () => entriesOf(await readKept(keptPath(ledger))),
    show: async () => [],
  }
}
