import { base32nopad } from '@scure/base'
import { generateURI } from 'otplib'
import { renderUnicodeCompact } from 'uqr'
import { readConfig } from '../../daemon/config'
import { passcodeFault } from '../../daemon/passcode-rules'
import { isOver, type PasscodeGrant } from '../../gate/server-key'
import { type KeyFile, PASSCODE_SECONDS } from '../../keys/key-file'
import { findKey, readKeyring } from '../../keys/keyring'
import { writePasscode } from '../../keys/passcode-table'
import { type Key, windowAt } from '../../protocol/key'
import { CODE_DIGITS } from '../../protocol/passcode'
import { formatService, type Service } from '../../protocol/service'
import { passcode } from '../../protocol/totp'
import { Fault, UsageFault } from '../../system/fault'
import { asOwner } from '../../system/files'
import { askSecret } from '../../system/terminal'
import { formatDuration } from '../../system/time'

/** How often a code, and a PIN, may be typed wrong. */
const TRIES = 3
/** Windows in which a code is looked for, to say by how much a clock is wrong: ten minutes of 30 seconds. */
const FAR = 20
/** White modules of the border: a scanner wants to see where the code ends. */
const BORDER = 2

export interface EnrolOptions {
  keys: string
  config: string
  services?: Service[]
  time?: number
  once: boolean
  remove?: boolean
  printSecret?: boolean
}

/**
 * Gives a key a passcode: shows its TOTP secret to an authenticator app, asks for a code back and for a PIN, and writes the table.
 * @returns what to say in the end
 * @throws {Fault} where it can't be; nothing is written then
 */
export async function enrol(id: string, options: EnrolOptions): Promise<string> {
  if (options.remove) return remove(id, options)
  const file = await asOwner(options.keys, () => findKey(options.keys, id))
  const grant = within(file, options)
  const pinDigits = await pinDigitsOf(file, options)
  if (!process.stdout.isTTY && !options.printSecret) {
    const why = 'the secret of all its codes would go there'
    throw new Fault(`standard output is no terminal, and ${why}: run this on a terminal, or give --print-secret`)
  }
  show(file)
  await confirm(file.key)
  const pin = await choosePin(pinDigits)
  await asOwner(options.keys, () => writePasscode(options.keys, id, { ...grant, pin }))
  const { services, seconds, once } = grant
  const what = `${services.map(formatService).join(',')} for ${formatDuration(seconds)}${once ? ', one connection' : ''}`
  return `${id} has a passcode, which opens ${what}\nnext: "knockturn firewall install", so that its ports are heard; and clear this screen`
}

async function remove(id: string, { keys }: EnrolOptions): Promise<string> {
  const had = await asOwner(keys, async () => {
    const { passcode: there } = await findKey(keys, id)
    if (there) await writePasscode(keys, id, null)
    return there
  })
  return had ? `${id} has no passcode any more` : `${id} has no passcode`
}

/** What the passcode is to open. @throws {Fault} where the key may not */
function within({ id, grant, revoked, expires }: KeyFile, { services, time, once }: EnrolOptions): Omit<PasscodeGrant, 'pin'> {
  if (!grant) throw new Fault(`${id} has no table [grant]: this is done with the server's file, not with a client's copy`)
  if (isOver({ revoked, expires }, Date.now())) throw new Fault(`${id} has been revoked or has expired: make a new key`)
  if (grant.requireAddress)
    throw new Fault(`${id} has require_address = true, and a passcode can name no address: use a key of its own for it`)
  const granted = grant.services.map(formatService)
  const beyond = services?.map(formatService).filter((service) => !granted.includes(service)) ?? []
  if (beyond.length > 0)
    throw new UsageFault(`--services expected some of the key's own, ${granted.join(',')}, got ${beyond.join(',')}`)
  if (time !== undefined && time > grant.max)
    throw new UsageFault(`--time expected at most ${formatDuration(grant.max)}, the key's longest, got ${formatDuration(time)}`)
  return { services: services ?? grant.services, seconds: time ?? Math.min(PASSCODE_SECONDS, grant.max), once }
}

/** How many digits a PIN has here. @throws {Fault} where the server could not use the passcode */
async function pinDigitsOf(file: KeyFile, options: EnrolOptions): Promise<number> {
  const read = await readConfig(options.config)
  if (read.faults) throw read.faults[0]
  const { keys: all } = await asOwner(options.keys, () => readKeyring(options.keys))
  const others = all.filter((other) => other.passcode && other.id !== file.id)
  const fault = passcodeFault(all, [...others, file], read.value)
  if (fault) throw fault
  return read.value.passcode.pinDigits
}

/** Draws the secret for the app: the one moment at which it is shown. */
function show({ id, key }: KeyFile): void {
  const uri = generateURI({
    issuer: 'knockturn',
    // Behind the issuer's own a colon is one too many: FreeOTP refuses such a code, percent-encoded or not.
    label: `${id}@${key.server}`.replaceAll(':', '-'),
    secret: base32nopad.encode(key.totpSecret),
    algorithm: 'sha1',
    digits: CODE_DIGITS,
    period: key.period,
  })
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
    const why = misfit(key, code, windowAt(Date.now() / 1000, key.period))
    if (why === null) return
    if (tries === TRIES) throw new Fault(`expected a code of this key, and ${why}: nothing is written`)
    process.stderr.write(`No: ${why}.\n`)
  }
}

/** Why a code is none of this moment, as far as that can be told; null: it is one. */
function misfit(key: Key, code: string, now: number): string | null {
  if (!new RegExp(`^\\d{${CODE_DIGITS}}$`).test(code))
    return `it has not ${CODE_DIGITS} digits: an app that shows fewer can't be used`
  for (let off = 0; off <= FAR; off++) {
    const found = [now + off, now - off].find((window) => passcode(key, window) === code)
    if (found === undefined) continue
    if (off <= 1) return null
    return `it is the code of ${off * key.period} s ${found > now ? 'later' : 'ago'}: set the clocks of phone and server`
  }
  return `it does not fit${key.period === 30 ? '' : `: some apps know no period but 30 s, and this key's is ${key.period} s`}`
}

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
