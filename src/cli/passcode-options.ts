import type { Option } from 'commander'
import { LAST_PASSCODE_BASE, MAX_PIN_DIGITS, PASSCODE_BASE } from '../protocol/passcode'
import { reading, whole } from './options'

/* What of a server's config must be known where a passcode becomes ports: by knockclient, and by the page that knockturn makes. */

/** The option that says where the server's passcode ports begin. */
export function passcodeBaseOption(): Option {
  return reading(
    '--passcode-base <port>',
    "first of the server's passcode ports",
    whole(1, LAST_PASSCODE_BASE),
    `a port from 1 to ${LAST_PASSCODE_BASE}`,
  ).default(PASSCODE_BASE)
}

/** The option that says how long the server's PINs are. */
export function pinDigitsOption(): Option {
  return reading(
    '--pin-digits <n>',
    "digits of the server's PINs",
    whole(0, MAX_PIN_DIGITS),
    `a number from 0 to ${MAX_PIN_DIGITS}`,
  ).default(MAX_PIN_DIGITS)
}
