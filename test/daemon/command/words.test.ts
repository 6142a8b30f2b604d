import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fill, isProgram, strangers, uses, type Words } from '../../../src/daemon/command/words'

const VALUES = { address: '2001:db8::7', protocol: 'tcp', port: '22', seconds: '60', lease: 'ab12cd34.0', key: 'alice' }
const ALL: Words = ['/bin/door', 'open', '{address}', '{protocol}/{port}', 'for={seconds}', '{lease}{key}']

describe('the words of a program', () => {
  it('have values in the place of placeholders, wherever these stand', () => {
    expect(fill(ALL, VALUES)).toEqual(['/bin/door', 'open', '2001:db8::7', 'tcp/22', 'for=60', 'ab12cd34.0alice'])
  })

  it('keep other braces: nft has some', () => {
    const words: Words = ['nft', 'add element inet fw4 doors { {address} . {protocol} . {port} } {} {1}']
    expect(fill(words, VALUES)[1]).toBe('add element inet fw4 doors { 2001:db8::7 . tcp . 22 } {} {1}')
    expect(strangers(words)).toEqual([])
  })

  it('name what is no placeholder, as a shell’s variable is not', () => {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: somebody may think of a shell
    expect(strangers(['x', '{adress}', '${HOME}/{key}'])).toEqual(['{adress}', '{HOME}'])
    expect(strangers(['x', '{address}'], [])).toEqual(['{address}'])
  })

  it('know which placeholder they use', () => {
    expect([uses(ALL, 'seconds'), uses(['x', 'seconds'], 'seconds')]).toEqual([true, false])
  })

  it.each([
    '-rf',
    '--',
    '$(id)',
    '`id`',
    'a b',
    'a;b',
    'a|b',
    'a\nb',
    "a'b",
    'a"b',
    '*',
    '~',
    '',
    'a&b',
    'a>b',
    '../x',
    '{key}',
    'a\0',
  ])('take no value that is an option or more than a word to a shell: %j', (value) => {
    for (const name of Object.keys(VALUES))
      expect(() => fill(ALL, { ...VALUES, [name]: value })).toThrow(`${name} is no word for a program`)
  })

  it('say whatever they say only by what they are: as many, and without a character that means something to a shell', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 4 }), fc.constantFrom(...Object.keys(VALUES)), (value, name) => {
        let words: readonly string[]
        try {
          words = fill(['x', `{${name}}`], { ...VALUES, [name]: value })
        } catch {
          return
        }
        expect(words).toEqual(['x', value])
        expect(value).toMatch(/^[A-Za-z0-9:][A-Za-z0-9:./_-]*$/)
      }),
    )
  })

  it.each([
    ['/usr/bin/ssh', true],
    ['ssh', true],
    ['knockturn-door.sh', true],
    ['./door', false],
    ['bin/door', false],
    ['-x', false],
    ['', false],
    ['/', false],
    ['/opt/{key}', false],
  ])('begin with a program: %j %s', (word, isOne) => {
    expect(isProgram(word)).toBe(isOne)
  })
})
