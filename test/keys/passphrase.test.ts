import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { makePassphrase, passphraseFault } from '../../src/keys/passphrase'

describe('a passphrase', () => {
  it.each([
    '',
    'aaaaaaaaaaaa',
    'abababababab',
    '123456789012',
    'abcdefghijkl',
    'passwordpassword',
    'qwertyuiop12',
    'P@ssw0rd1234',
    'hunter2hunter2hunter2',
    'Summer2026!Summer',
    'Liverpool2019champions',
    'thisismypassphrase',
    'monkey dragon football',
  ])('that is guessed first is refused: %j', (passphrase) => {
    expect(passphraseFault(passphrase, [])).toContain('at least 10^14 guesses, got about 10^')
  })

  it.each(['correct horse battery staple', 'f7k2-p9x4-m3w8-q6z1', 'Der Hund frisst um sechs'])(
    'that is not may be set: %j',
    (passphrase) => {
      expect(passphraseFault(passphrase, ['gate.example', 'alice'])).toBeNull()
    },
  )

  it.each(['zq7kvwx9htb4.example', 'ZQ7KVWX9HTB4.EXAMPLE-traveller', 'elpmaxe.4bth9xwvk7qz', 'Zq7kvwx9htb4-Traveller-2026'])(
    'is refused where it is the name of the place, turned or written otherwise, and nowhere else: %s',
    (passphrase) => {
      expect(passphraseFault(passphrase, ['zq7kvwx9htb4.example', 'traveller', '22/tcp'])).not.toBeNull()
      expect(passphraseFault(passphrase, [])).toBeNull()
    },
  )

  it('of random words is no weaker where they are the first of their list', () => {
    expect(passphraseFault('abacus abdomen abdominal', [])).toBeNull()
  })

  it('that is made is six words, others each time, and would pass', () => {
    const made = Array.from({ length: 20 }, makePassphrase)
    for (const passphrase of made) {
      expect(passphrase).toMatch(/^[a-z]+(-[a-z]+){5}$/)
      expect(passphraseFault(passphrase, [])).toBeNull()
    }
    expect(new Set(made).size).toBe(made.length)
  })
})

describe('the lists', () => {
  it.each([
    ['knockturn.cjs', true],
    ['knockclient.cjs', false],
    ['knockdaemon.cjs', false],
    ['page.txt', false],
  ])('are in %s: %s', (name, are) => {
    expect(readFileSync(new URL(`../../dist/${name}`, import.meta.url), 'utf8').includes('diceware')).toBe(are)
  })
})
