import { isIP } from 'node:net'
import { knockAll } from '../../client/client'
import { placeOf } from '../../client/place'
import { CODE_DIGITS, passcodePorts } from '../../protocol/passcode'
import { Fault, UsageFault } from '../../system/fault'
import { askSecret } from '../../system/terminal'
import { type AimOptions, checkAim } from './aim'
import { type Draft, guardSecrets, makeReady } from './ready'
import { warnOfTouches } from './unopened'
import { printSequence, speaker, whatOf } from './words'

const OTHER_LENGTH = "if this server's PINs have another length, give it with --pin-digits"
const OTHER_APP = `use an authenticator app that shows ${CODE_DIGITS} digits, and scan the QR code again with it`

interface PasscodeOptions extends AimOptions {
  passcodeBase: number
  pinDigits: number
}

/**
 * PIN and code → ports → server: a knock without a key. Both are asked for, so that they stand in no argument and in no history.
 * @throws {Fault} where they are no PIN and code, or nothing could be sent
 */
export async function knockByPasscode(options: PasscodeOptions): Promise<void> {
  const { server: host, udp = false, pace, passes, dryRun } = options
  checkAim(options)
  if (host === undefined && !dryRun)
    throw new UsageFault('no server to knock at: a passcode names none', { hint: 'name it with -r' })
  // A PIN is no less a secret than a key.
  guardSecrets(options)
  const ports = await ask(options)
  // The clock of "ms" is about sending, and not about typing.
  const started = performance.now()
  const knock = { sending: { udp, pace, passes, random: Math.random }, sequence: { ports } }
  const draft: Draft<typeof knock> = {
    aim: { key: null, host, isMeant: true },
    // It opens for the address that the server sees, and nobody here knows until when its code is good.
    knocksFor: () => [knock],
    upToDate: () => knock,
    print: ({ sequence }) => printSequence(sequence),
  }
  const ready = await makeReady(options, draft, () => speaker(options, started))
  if (ready === null) return
  const { address, outgoing, say } = ready
  say?.(`knocking at ${placeOf(ready.host, address)} by passcode`)
  const touched = await knockAll(outgoing, address, (pass) => {
    if (pass === 1 || options.verbose) say?.(`sent ${whatOf([knock.sequence], udp)}, pass ${pass}`)
  })
  // A passcode is never a datagram.
  await warnOfTouches(options, touched, '--udp')
  say?.(`the server never answers a passcode: try your connection now, by IPv${isIP(address)}`)
}

async function ask({ passcodeBase, pinDigits }: PasscodeOptions): Promise<number[]> {
  const pin = pinDigits === 0 ? '' : (await askSecret('PIN: ', 'the PIN')).trim()
  // A digit too few puts all behind it in wrong places, and that is in the way for a minute.
  if (pin.length !== pinDigits || /\D/.test(pin))
    throw new Fault(`expected a PIN of ${pinDigits} digits, got something else (not shown)`, { hint: OTHER_LENGTH })
  const code = await askSecret('Code: ', 'the code')
  try {
    return passcodePorts(pin, code.replaceAll(' ', ''), passcodeBase)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    throw new Fault(`expected a code of ${CODE_DIGITS} digits, got something else (not shown)`, { hint: OTHER_APP })
  }
}
