import { Fault } from '../../system/fault'
import { askSecret, isTyped, sayOnTerminal } from '../../system/terminal'

const WHAT = 'the passphrase'

/**
 * A passphrase to encrypt a key with: typed twice, or made and shown where it is left empty, and then typed; or the first line of standard input.
 * @param names of the place, which are guessed first: host, server, key, services
 * @throws {Fault} when it is too easily guessed, or mistyped
 */
export async function newPassphrase(names: readonly string[]): Promise<string> {
  // Only who sets one needs it, and it is heavy.
  const { makePassphrase, passphraseFault } = await import('../../keys/passphrase')
  const typed = isTyped()
  let passphrase = await askSecret('passphrase (empty: six random words are made): ', WHAT)
  if (typed && passphrase === '') {
    passphrase = makePassphrase()
    sayOnTerminal(WHAT, `the passphrase, shown this once, so write it down: ${passphrase}\n`)
  } else {
    const fault = passphraseFault(passphrase, names)
    if (fault)
      throw new Fault(`${WHAT}: expected ${fault}: whoever finds the file can try at leisure`, {
        hint: 'leave it empty on a terminal, and six random words are made; or take four words or more that have nothing to do with each other',
      })
  }
  if (typed && (await askSecret('the same once more: ', WHAT)) !== passphrase)
    throw new Fault(`${WHAT}: expected the same twice, got two: nothing was written`)
  return passphrase
}
