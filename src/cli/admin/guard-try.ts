import type { Command } from 'commander'
import { tryGuard } from '../../admin/guard-try'
import type { Tried } from '../../daemon/nftables/tried'
import { parseLifetime } from '../../system/time'
import { reading, subcommand } from '../options'
import { configOption } from './places'
import { print } from './voice'

/** Lines that are printed: the rest is counted in one. */
const MAX_LINES = 50
/** Milliseconds between two looks at the clock: nobody who has counted for minutes notices. */
const LOOK = 200
/** What ends in order what goes on until it is ended. The last comes when the terminal is gone. */
export const ENDING = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

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
  const ending = new AbortController()
  const end = () => ending.abort()
  for (const signal of ENDING) process.on(signal, end)
  const timer = endAfter(seconds ?? Infinity, end)
  try {
    const tried = await tryGuard(config, ending.signal, () =>
      process.stderr.write(`counting what the guard would drop${seconds === undefined ? ': end it with Ctrl-C' : ''}\n`),
    )
    printTried(tried)
  } finally {
    clearInterval(timer)
    for (const signal of ENDING) process.off(signal, end)
  }
}

/** In steps, since a timer of Node's takes 24 days at most; and without one nothing would keep the process waiting. */
function endAfter(seconds: number, end: () => void): NodeJS.Timeout {
  const last = performance.now() + seconds * 1_000
  return setInterval(() => performance.now() >= last && end(), LOOK)
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
