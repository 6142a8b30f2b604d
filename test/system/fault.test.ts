import { expect, it } from 'vitest'
import { explained, Fault, inOneLine, printable } from '../../src/system/fault'

it.each([
  ['a control', 'a\u001b[2J', 'a\\u001b[2J'],
  ['a control of the second set', 'a\u009b2J', 'a\\u009b2J'],
  ['a line end', 'a\nb', 'a\\u000ab'],
  ['a line separator', 'a\u2028b', 'a\\u2028b'],
  ['a bidi override', 'a\u202eb', 'a\\u202eb'],
  ['a bidi isolate', 'a\u2066b', 'a\\u2066b'],
  ['a zero-width space', 'a\u200bb', 'a\\u200bb'],
  ['a byte order mark', 'a\ufeffb', 'a\\ufeffb'],
  ['a filler', 'a\u3164b', 'a\\u3164b'],
  ['a mark around what is read with a text', 'a\ufff9b', 'a\\ufff9b'],
  ['a tag beyond the first plane', 'a\u{e0041}b', 'a\\udb40\\udc41b'],
  ['half a surrogate pair', 'a\ud800b', 'a\\ud800b'],
])('%s is shown as what it is', (_, text, shown) => {
  expect(printable(text)).toBe(shown)
})

it.each([
  [new Fault('flock is not installed', { hint: 'install it' }), 'flock is not installed: install it', { hint: 'install it' }],
  [new Fault('the terminal is gone'), 'the terminal is gone', {}],
  [new Error("ENOENT: no such file or directory, open '/x'"), 'ENOENT: no such file or directory', {}],
])('%s is told in one line, and its remedy is a field of the log', (error, line, hint) => {
  expect(inOneLine(error)).toBe(line)
  expect(explained(error)).toEqual({ reason: line.split(': install')[0], ...hint })
})

it('letters of all scripts are shown as they are', () => {
  const text = 'Zürich שלום 北京 हिन्दी 🔑'
  expect(printable(text)).toBe(text)
})

it('a line of JSON says the same afterwards', () => {
  const said = { name: 'a\u202e\u{e0041}\ud800"\\b' }
  expect(JSON.parse(printable(JSON.stringify(said)))).toEqual(said)
})
