import { renderUnicodeCompact } from 'uqr'
import { readKey } from '../../admin/keyring'
import {
  enrolmentUri,
  givePasscode,
  grantOf,
  type Misfit,
  misfitOf,
  pinDigitsOf,
  takePasscode,
  ungranted,
} from '../../admin/passcode'
import type { PasscodeGrant } from '../../gate/server-key'
import { type PasscodeWish, passcodeOpens } from '../../keys/grant-table'
import type { KeyFile } from '../../keys/key-file'
import type { Key } from '../../protocol/key'
import { CODE_DIGITS } from '../../protocol/passcode'
import { formatService } from '../../protocol/service'
import { Fault, UsageFault } from '../../system/fault'
import { askSecret } from '../../system/terminal'
import { formatDuration } from '../../system/time'

/** How often a code, and a PIN, may be typed wrong. */
const TRIES = 3
/** White modules of the border: a scanner wants to see where the code ends. */
const BORDER = 2

export interface EnrolOptions extends PasscodeWish {
  keys: string
  config: string
  remove?: boolean
  printSecret?: boolean
}

/**
 * Gives a key a passcode: shows its TOTP secret to an authenticator app, asks for a code back and for a PIN, and writes the table.
 * @returns what to say in the end
 * @throws {Fault} where it can't be; nothing is written then
 */
export async function enrol(id: string, options: EnrolOptions): Promise<string> {
  const { keys, config } = options
  if (options.remove) return `${id} has no passcode${(await takePasscode(keys, id)) ? ' any more' : ''}`
  const file = await readKey(keys, id)
  const grant = within(file, options)
  const pinDigits = await pinDigitsOf(file, keys, config)
  if (!process.stdout.isTTY && !options.printSecret) {
    const why = 'the secret of all its codes would go there'
    throw new Fault(`standard output is no terminal, and ${why}: run this on a terminal, or give --print-secret`)
  }
  show(enrolmentUri(file))
  await confirm(file.key)
  const pin = await choosePin(pinDigits)
  await givePasscode(keys, id, { ...grant, pin })
  const { services, seconds, once } = grant
  const what = `${services.map(formatService).join(',')} for ${formatDuration(seconds)}${once ? ', one connection' : ''}`
  return `${id} has a passcode, which opens ${what}\nnext: "knockturn firewall install", so that its ports are heard; and clear this screen`
}

/** What the passcode is to open. @throws {Fault} where the key may not */
function within(file: KeyFile, wish: PasscodeWish): Omit<PasscodeGrant, 'pin'> {
  const { services = [], time } = wish
  const grant = grantOf(file, Date.now())
  const beyond = ungranted(grant, services).map(formatService)
  if (beyond.length > 0) {
    const granted = grant.services.map(formatService)
    throw new UsageFault(`--services expected some of the key's own, ${granted.join(',')}, got ${beyond.join(',')}`)
  }
  if (time !== undefined && time > grant.max)
    throw new UsageFault(`--time expected at most ${formatDuration(grant.max)}, the key's longest, got ${formatDuration(time)}`)
  return passcodeOpens(wish, grant)
}

/** Draws a URI for the app: the one moment at which the secret is shown. */
function show(uri: string): void {
  const picture = renderUnicodeCompact(uri, { border: BORDER }).split('\n')
  // White on black whatever the terminal's colours are: not every app reads it the other way round.
  const drawn = process.stdout.isTTY ? picture.map((line) => `\x1b[97;40m${line}\x1b[0m`) : picture
  process.stdout.write(`${drawn.join('\n')}\n${uri}\n`)
  process.stderr.write('Scan this with an authenticator app. Whoever sees it can make the codes, too.\n')
}

/** Asks for a code that the app shows. @throws {Fault} when none fits */
async function confirm(key: Key): Promise<void> {
  for (let tries = 1; ; tries++) {
    const code = (await askSecret('The code that the app shows now: ', 'the code')).replaceAll(' ', '')
    const misfit = misfitOf(key, code, Date.now())
    if (misfit === null) return
    const why = wordsOf(misfit, key.period)
    if (tries === TRIES) throw new Fault(`expected a code of this key, and ${why}: nothing is written`)
    process.stderr.write(`No: ${why}.\n`)
  }
}

function wordsOf(misfit: Misfit, period: number): string {
  if (misfit.kind === 'form') return `it has not ${CODE_DIGITS} digits: an app that shows fewer can't be used`
  if (misfit.kind === 'clock') {
    const { ahead } = misfit
    return `it is the code of ${Math.abs(ahead)} s ${ahead > 0 ? 'later' : 'ago'}: set the clocks of phone and server`
  }
  return `it does not fit${period === 30 ? '' : `: some apps know no period but 30 s, and this key's is ${period} s`}`
}

/** Asks for a new PIN, twice. @throws {Fault} when none is right */
async function choosePin(digits: number): Promise<string> {
  if (digits === 0) return ''
  for (let tries = 1; ; tries++) {
    const pin = await askSecret(`A PIN of ${digits} digits: `, 'the PIN')
    const isRight = new RegExp(`^\\d{${digits}}$`).test(pin)
    if (isRight && (await askSecret('The PIN again: ', 'the PIN')) === pin) return pin
    const why = isRight
      ? 'expected the same PIN twice, got two'
      : `expected a PIN of ${digits} digits, got something else (not shown)`
    if (tries === TRIES) throw new Fault(`${why}: nothing is written`)
    process.stderr.write(`No: ${why}.\n`)
  }
}
