import type { Command } from 'commander'
import { KEY_ID_RULE } from '../../protocol/key'
import { canAsk } from '../../system/ask-line'
import { UsageFault } from '../../system/fault'
import { parseDuration } from '../../system/time'
import { oneOf, readId, reading, subcommand } from '../options'
import { servicesOption } from './lists'
import { HOST_RULE, readHost } from './new-key'
import { GUARD_RULE, PUBLIC_RULE, readGuard, readPublic, type SetupOptions } from './setup-words'

/** Seconds that a trial may last: long enough to go to another machine, short enough to be waited for. */
const SHORTEST = 10
const LONGEST = 24 * 3600
/** And if nothing else is said. */
const USUAL = 300

/** Gives knockturn the command that sets up a server. */
export function addSetup(parent: Command): void {
  const command = subcommand(
    parent,
    'setup',
    'set up this server: keys, guard and daemon, tried until you have come in by a knock',
    'setup --dry-run',
  )
  withAnswers(command)
  command
    .option('--key-out <file>', "write the client's copy of the key to a file, and show it nowhere")
    .addOption(
      reading('--for <duration>', 'how long the trial lasts', readTrial, 'a duration from 10s to 24h, such as 5m').default(
        USUAL,
        '5m',
      ),
    )
    .option('--yes', 'take what is proposed, and ask nothing')
    .option('--dry-run', 'print each file, rule and command, and change nothing')
    .option('--confirm', 'make a trial permanent: in a session that has come in by a knock')
    .option('--revert', 'end a trial: everything is as before')
    .action(setUp)
}

/** What is asked if it is not said. */
function withAnswers(command: Command): void {
  command
    .addOption(reading('--host <host>', 'name or address at which clients knock', readHost, HOST_RULE))
    .addOption(reading('--key <id>', 'name of the first key', readId, KEY_ID_RULE))
    .addOption(servicesOption('what the first key may open (default: SSH, and what containers publish)'))
    .addOption(reading('--guard <list>', 'what opens by a knock only: all, or ports such as 22/tcp', readGuard, GUARD_RULE))
    .addOption(reading('--public <list>', 'with --guard all: what stays open to everyone, or none', readPublic, PUBLIC_RULE))
    .addOption(oneOf('--backend <name>', 'the firewall', ['nftables', 'iptables']))
}

async function setUp(options: SetupOptions, command: Command): Promise<void> {
  const { confirm, revert, guard, public: open, yes, dryRun } = options
  if (confirm || revert) {
    const other = command.options.find(
      (option) =>
        command.getOptionValueSource(option.attributeName()) === 'cli' && option.long !== (confirm ? '--confirm' : '--revert'),
    )
    if (other) throw new UsageFault(`${other.long} does not go with ${confirm ? '--confirm' : '--revert'}`)
  }
  if (open && guard && guard !== 'all') throw new UsageFault('--public requires --guard all')
  const isAsked = !(yes || dryRun || confirm || revert)
  if (isAsked && !canAsk(process.stdout))
    throw new UsageFault('there is no terminal to ask questions on', {
      hint: 'add --yes to take what is proposed, or --dry-run to see it first',
    })
  // Who sets nothing up need not load it.
  const { confirmHere, revertHere, setUpHere } = await import('./setup-run')
  if (confirm) await confirmHere()
  else if (revert) await revertHere()
  else await setUpHere(options, isAsked)
}

function readTrial(text: string): number | null {
  const seconds = parseDuration(text)
  return seconds !== null && seconds >= SHORTEST && seconds <= LONGEST ? seconds : null
}
