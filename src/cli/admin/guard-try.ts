import type { Command } from 'commander'
import { tryGuard } from '../../admin/guard-try'
import type { Tried } from '../../daemon/nftables/tried'
import { parseLifetime } from '../../system/time'
import { reading, subcommand } from '../options'
import { endingAfter } from './ending'
import { configOption } from './places'
import { print } from './voice'

/** Lines that are printed: the rest is counted in one. */
const MAX_LINES = 50

/** Gives knockturn the command that tries a guard. */
export function addTry(guard: Command): void {
  subcommand(guard, 'try', 'count what the guard would drop, by port and network, and drop nothing', 'guard try --for 1h')
    .addOption(configOption())
    .addOption(
      reading(
        '--for <duration>',
        'how long to count (default: until Ctrl-C)',
        parseLifetime,
        'a duration such as 10m, at most 194 days',
      ),
    )
    .action(tryAndPrint)
}

async function tryAndPrint({ config, for: seconds }: { config: string; for?: number }): Promise<void> {
  const ending = endingAfter(seconds ?? Infinity)
  try {
    const tried = await tryGuard(config, ending.signal, () =>
      process.stderr.write(`counting what the guard would drop${seconds === undefined ? ': end it with Ctrl-C' : ''}\n`),
    )
    printTried(tried)
  } finally {
    ending.abort()
  }
}

function printTried(tried: readonly Tried[]): void {
  if (tried.length === 0) print('nothing: the guard would have dropped no packet')
  for (const { protocol, port, network, packets } of tried.slice(0, MAX_LINES))
    print(`${packets}\t${port}/${protocol}\t${network}`)
  const rest = tried.slice(MAX_LINES)
  if (rest.length === 0) return
  const packets = rest.reduce((sum, one) => sum + one.packets, 0)
  print(`${packets}\tand ${rest.length} more ports and networks`)
}
