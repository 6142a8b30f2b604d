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
  let passphrase = await askSecret('passphrase (leave empty for six random words): ', WHAT)
  if (typed && passphrase === '') {
    passphrase = makePassphrase()
    sayOnTerminal(WHAT, `your passphrase is shown only once, so write it down: ${passphrase}\n`)
  } else {
    const fault = passphraseFault(passphrase, names)
    if (fault)
      throw new Fault(`${WHAT} is too easy to guess: expected ${fault}`, {
        hint: 'leave it empty on a terminal for six random words, or take four or more unrelated words: whoever finds the file can try without limit',
      })
  }
  if (typed && (await askSecret('the same passphrase again: ', WHAT)) !== passphrase)
    throw new Fault('the two passphrases differ: nothing was written')
  return passphrase
}
