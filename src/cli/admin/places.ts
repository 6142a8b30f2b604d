import { type Command, Option } from 'commander'
import { SERVER_CONFIG } from '../../daemon/config'
import { SERVER_KEYS } from '../../keys/keyring'

/* The options that name the server's keyring and config. */

/** The folder of a keyring, whatever its config says. */
export const keysOption = (): Option => new Option('--keys <dir>', "the keyring's folder").default(SERVER_KEYS)

/** A config, whatever its keyring. */
export const configOption = (description = "the daemon's config"): Option =>
  new Option('--config <file>', description).default(SERVER_CONFIG)

/** What {@link withServerKeyring} adds, as src/admin/keyring-config.ts takes it. */
export interface ServerKeyringOptions {
  readonly keys?: string
  readonly config?: string
}

/** Gives a command the options for a keyring together with its config, where neither has to be said. Returns it. */
export function withServerKeyring(command: Command): Command {
  return command
    .addOption(new Option('--keys <dir>', `the keyring's folder (default: the one in the config, or ${SERVER_KEYS})`))
    .addOption(new Option('--config <file>', `the daemon's config (default: ${SERVER_CONFIG}, if it names this keyring)`))
}
