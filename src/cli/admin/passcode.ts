import type { Command } from 'commander'
import { parseLifetime } from '../../system/time'
import { checkId, reading, subcommand } from '../options'
import type { EnrolOptions } from './enrol'
import { servicesOption } from './lists'
import { configOption, keysOption } from './places'
import { print } from './voice'

/** Gives `knockturn key` the command `passcode`. */
export function addPasscode(keys: Command): void {
  subcommand(
    keys,
    'passcode <id>',
    'give a key a passcode: codes of an authenticator app, which it shows a QR code, and a PIN',
    'key passcode alice --remove',
  )
    .addOption(keysOption())
    .addOption(configOption("the daemon's config, for the PIN's length"))
    .addOption(servicesOption('what it opens (default: all that the key may)'))
    .addOption(
      reading(
        '--time <duration>',
        'for how long (default: 5m, or what the key may)',
        parseLifetime,
        'a duration such as 5m, 1h30m',
      ),
    )
    .option('--no-once', 'open for any number of connections')
    .option('--remove', 'take the passcode away again')
    .option('--print-secret', "show the app's secret where standard output is no terminal, too")
    .action(async (id: string, options: EnrolOptions) => {
      checkId(id)
      // What draws the picture is loaded only where one is drawn.
      const { enrol } = await import('./enrol')
      print(await enrol(id, options))
    })
}
