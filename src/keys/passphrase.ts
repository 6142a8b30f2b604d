import { randomInt } from 'node:crypto'
import { ZxcvbnFactory } from '@zxcvbn-ts/core'
import { adjacencyGraphs, dictionary } from '@zxcvbn-ts/language-common'

/* Passphrases that are set. Its lists are heavy: loaded only where one is. */

/**
 * Least guesses that a passphrase must take, by zxcvbn's estimate. Whoever finds the file tries at leisure, but each try is an scrypt that moves
 * 128 MB (work factor 16): by a graphics card, whose memory moves 1 TB a second, 7,500 tries a second at most, so that a hundred of them
 * take four years.
 */
const LEAST_GUESSES = 1e14

/** The EFF's long list: 7,776 words, 12.9 bits each. */
const WORDS = dictionary['diceware-common']
/** Words of a passphrase that is made: 77.5 bits, out of reach at any work factor. */
const MADE_WORDS = 6

/**
 * What is expected of a passphrase that is to be set, and what it has; null: nothing is wrong with it.
 * @param names of the place, which whoever finds the file knows: host, key, services
 */
export function passphraseFault(passphrase: string, names: readonly string[]): string | null {
  // `diceware` is the name by which the estimate takes its words for equally likely; by another one, it ranks them by the alphabet.
  const lists = { diceware: WORDS, passwords: dictionary['passwords-common'] }
  const known = names.flatMap((name) => [name, ...name.split(/[^\p{L}\p{N}]+/u)]).filter((name) => name !== '')
  const { guesses } = new ZxcvbnFactory({ dictionary: lists, graphs: adjacencyGraphs }).check(passphrase, known)
  const magnitude = (number: number) => `10^${Math.floor(Math.log10(number))}`
  return guesses < LEAST_GUESSES ? `at least ${magnitude(LEAST_GUESSES)} guesses, got about ${magnitude(guesses)}` : null
}

/** A new passphrase: six random words. */
export function makePassphrase(): string {
  return Array.from({ length: MADE_WORDS }, () => WORDS[randomInt(WORDS.length)]).join('-')
}
