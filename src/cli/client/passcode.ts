import { isIP } from 'node:net'
import { knock } from '../../client/client'
import { resolveHost } from '../../client/host'
import { passcodePorts } from '../../protocol/passcode'
import { forbidCoreDumps } from '../../system/core-dumps'
import { Fault, UsageFault } from '../../system/fault'
import { askSecret } from '../../system/terminal'
import { warnOf } from '../voice'
import { type AimOptions, checkAim, checkPace, NAME, placeOf, requiredFamily, speaker, whatOf } from './aim'
import { warnOfTouches } from './timeout'

const OTHER_LENGTH = "where this server's PINs have another length, say so with --pin-digits"

export interface PasscodeOptions extends AimOptions {
  passcodeBase: number
  pinDigits: number
  dryRun?: boolean
}

/**
 * PIN and code → ports → server: a knock without a key. Both are asked for, so that they stand in no argument and in no history.
 * @throws {Fault} where they are no PIN and code, or nothing could be sent
 */
export async function knockByPasscode(options: PasscodeOptions): Promise<void> {
  const { server: host, udp = false, pace, passes, dryRun, quiet } = options
  checkAim(options)
  if (host === undefined && !dryRun) throw new UsageFault('-r expected: a passcode has no key that names a host')
  // A PIN is no less a secret than a key.
  forbidCoreDumps((message) => quiet || warnOf(NAME, message))
  const ports = await ask(options)
  checkPace(options, ports)
  // The clock of "ms" is about sending, and not about typing.
  const say = speaker(options, performance.now())
  if (dryRun || host === undefined) {
    process.stdout.write(`${ports.join('\n')}\n`)
    return
  }
  const address = await resolveHost(host, requiredFamily(options))
  say?.(`knocking at ${placeOf(host, address)} by passcode`)
  const touched = await knock({ udp, pace, passes, random: Math.random }, address, { ports }, (pass) => {
    if (pass === 1 || options.verbose) say?.(`sent ${whatOf([{ ports }], udp)}, pass ${pass}`)
  })
  // A passcode is never a datagram.
  await warnOfTouches(options, touched, '--udp')
  say?.(`the server never answers a passcode: now try your connection, by IPv${isIP(address)}`)
}

async function ask({ passcodeBase, pinDigits }: PasscodeOptions): Promise<number[]> {
  const pin = pinDigits === 0 ? '' : (await askSecret('PIN: ', 'the PIN')).trim()
  // A digit too few puts all behind it in wrong places, and that is in the way for a minute.
  if (pin.length !== pinDigits || /\D/.test(pin))
    throw new Fault(`the PIN expected ${pinDigits} digits, got something else (not shown): ${OTHER_LENGTH}`)
  const code = await askSecret('Code: ', 'the code')
  try {
    return passcodePorts(pin, code.replaceAll(' ', ''), passcodeBase)
  } catch (error) {
    // It says what was expected, and never what was typed.
    throw error instanceof RangeError ? new Fault(`${error.message}, got something else (not shown)`) : error
  }
}
