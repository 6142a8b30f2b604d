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
import { keyPath } from '../../keys/keyring'
import type { Key } from '../../protocol/key'
import { CODE_DIGITS } from '../../protocol/passcode'
import { formatService } from '../../protocol/service'
import { Fault, UsageFault } from '../../system/fault'
import { askSecret } from '../../system/terminal'
import { formatDuration } from '../../system/time'
import { qrLines } from './qr'

/** How often a code, and a PIN, may be typed wrong. */
const TRIES = 3

export interface EnrolOptions extends PasscodeWish {
  keys: string
  config: string
  remove?: boolean
  printSecret?: boolean
}

/**
 * Gives a key a passcode: shows its TOTP secret to an authenticator app, asks for a code back and for a PIN, and writes the table.
 * @returns what to print in the end
 * @throws {Fault} where it can't be; nothing is written then
 */
export async function enrol(id: string, options: EnrolOptions): Promise<string> {
  const { keys, config } = options
  if (options.remove) return (await takePasscode(keys, id)) ? `removed the passcode of ${id}` : `${id} has no passcode`
  const file = await readKey(keys, id)
  const grant = within(file, options, keyPath(keys, id))
  const pinDigits = await pinDigitsOf(file, keys, config)
  if (!process.stdout.isTTY && !options.printSecret)
    throw new Fault('standard output is not a terminal, and the secret of all codes would be written there', {
      hint: 'run this on a terminal, or add --print-secret',
    })
  show(enrolmentUri(file))
  await confirm(file.key)
  const pin = await choosePin(pinDigits)
  await givePasscode(keys, id, { ...grant, pin })
  const { services, seconds, once } = grant
  const opens = `${services.map(formatService).join(',')} for ${formatDuration(seconds)}${once ? ', one connection' : ''}`
  return `${id} has a passcode that opens ${opens}\nnext: run "knockturn firewall install" so that its ports are heard, and clear this screen`
}

/** What the passcode is to open. @param path the key's file @throws {Fault} where the key may not */
function within(file: KeyFile, wish: PasscodeWish, path: string): Omit<PasscodeGrant, 'pin'> {
  const { services = [], time } = wish
  const grant = grantOf(file, Date.now())
  const beyond = ungranted(grant, services).map(formatService)
  if (beyond.length > 0) {
    const granted = grant.services.map(formatService)
    throw new UsageFault(`--services: the key may not open ${beyond.join(',')} (it may open: ${granted.join(',')})`, {
      hint: `choose from those, or change services in [grant] of ${path}`,
    })
  }
  if (time !== undefined && time > grant.max)
    throw new UsageFault(`--time expected at most ${formatDuration(grant.max)} (max of the key), got ${formatDuration(time)}`, {
      hint: `choose a shorter time, or change max in [grant] of ${path}`,
    })
  return passcodeOpens(wish, grant)
}

/** Draws a URI for the app: the one moment at which the secret is shown. */
function show(uri: string): void {
  process.stdout.write(`${qrLines(uri).join('\n')}\n${uri}\n`)
  process.stderr.write('Scan this with an authenticator app. Anyone who sees it can make the codes too.\n')
}

/** Asks for a code that the app shows. @throws {Fault} when none fits */
async function confirm(key: Key): Promise<void> {
  for (let tries = 1; ; tries++) {
    const code = (await askSecret('The code that the app shows now: ', 'the code')).replaceAll(' ', '')
    const misfit = misfitOf(key, code, Date.now())
    if (misfit === null) return
    const { what, hint } = wordsOf(misfit, key.period)
    if (tries === TRIES) throw new Fault(`${what}: nothing was written`, { hint })
    process.stderr.write(`Try again: ${what}. Hint: ${hint}.\n`)
  }
}

/** What is wrong with a code, and what to do about it. */
function wordsOf(misfit: Misfit, period: number): { readonly what: string; readonly hint: string } {
  if (misfit.kind === 'form')
    return { what: `the code does not have ${CODE_DIGITS} digits`, hint: `use an app that shows ${CODE_DIGITS} digits` }
  if (misfit.kind === 'clock') {
    const { ahead } = misfit
    const apart = `${Math.abs(ahead)} s ${ahead > 0 ? 'ahead of' : 'behind'}`
    return { what: `the code is ${apart} this machine's clock`, hint: 'set the clocks of the phone and the server' }
  }
  const another = `use an app that knows a period of ${period} s: some know only 30 s`
  return { what: 'the code does not match this key', hint: period === 30 ? 'scan the QR code shown above' : another }
}

/** Asks for a new PIN, twice. @throws {Fault} when none is right */
async function choosePin(digits: number): Promise<string> {
  if (digits === 0) return ''
  for (let tries = 1; ; tries++) {
    const pin = await askSecret(`A PIN of ${digits} digits: `, 'the PIN')
    const isRight = new RegExp(`^\\d{${digits}}$`).test(pin)
    if (isRight && (await askSecret('The PIN again: ', 'the PIN')) === pin) return pin
    const why = isRight ? 'the two PINs differ' : `expected a PIN of ${digits} digits, got something else (not shown)`
    if (tries === TRIES) throw new Fault(`${why}: nothing was written`)
    process.stderr.write(`Try again: ${why}.\n`)
  }
}
