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
    'give a key a passcode: a PIN and the codes of an authenticator app, which scans a QR code',
    'key passcode alice --remove',
  )
    .addOption(keysOption())
    .addOption(configOption("the daemon's config, which sets the length of the PIN"))
    .addOption(servicesOption('services it opens (default: all that the key may open)'))
    .addOption(
      reading(
        '--time <duration>',
        "how long it opens for (default: 5m, or the key's longest time if that is less)",
        parseLifetime,
        'a duration such as 5m, 1h30m',
      ),
    )
    .option('--no-once', 'let it open for any number of connections, not for one')
    .option('--remove', 'remove the passcode')
    .option('--print-secret', "show the app's secret even if standard output is not a terminal")
    .action(async (id: string, options: EnrolOptions) => {
      checkId(id)
      // What draws the picture is loaded only where one is drawn.
      const { enrol } = await import('./enrol')
      print(await enrol(id, options))
    })
}
