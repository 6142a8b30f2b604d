import { fstatSync, writeSync } from 'node:fs'
import { Fault, reason } from '../../system/fault'
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
    sayOnTerminal(WHAT, inWords(passphrase))
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

/**
 * Shows a passphrase that was made: on the terminal, and where standard error is a pipe or a file there, for the program that has started
 * us. Never on standard output, which has what it seals.
 * @throws {Fault} where nobody would see it
 */
export function showPassphrase(passphrase: string): void {
  // A device is a terminal, or /dev/null.
  if (fstatSync(2).isCharacterDevice()) {
    sayOnTerminal(WHAT, inWords(passphrase))
    return
  }
  try {
    writeSync(2, `passphrase: ${passphrase}\n`)
  } catch (error) {
    throw new Fault(`${WHAT} cannot be shown: ${reason(error)}`)
  }
}

const inWords = (passphrase: string): string => `your passphrase is shown only once, so write it down: ${passphrase}\n`
