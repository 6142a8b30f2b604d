import { Fault } from '../host/fault'
import { makePassphrase, passphraseFault } from '../host/sealed-key'
import { askSecret, isTyped, sayOnTerminal } from '../host/terminal'

const WHAT = 'the passphrase'

/**
 * A passphrase to encrypt a key with: typed twice, made and shown where it is left empty, or the first line of standard input.
 * @throws {Fault} when it is too short, or mistyped
 */
export async function newPassphrase(): Promise<string> {
  const typed = isTyped()
  const passphrase = await askSecret('passphrase (empty: make one): ', WHAT)
  if (typed && passphrase === '') {
    const made = makePassphrase()
    sayOnTerminal(WHAT, `the passphrase, shown this once: ${made}\n`)
    return made
  }
  const fault = passphraseFault(passphrase)
  if (fault) throw new Fault(`${WHAT}: expected ${fault}: whoever finds the file can try at leisure`)
  if (typed && (await askSecret('the same once more: ', WHAT)) !== passphrase)
    throw new Fault(`${WHAT}: expected the same twice, got two: nothing was written`)
  return passphrase
}
