import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { clientCopy } from '../../src/admin/client-copy'
import { type KeyFile, parseKeyFile } from '../../src/keys/key-file'
import { formatKeyLine, isKeyLine, isWholeLine, readKeyLine } from '../../src/keys/key-line'
import { readSealed, sealText } from '../../src/keys/sealed-key'
import { keyText } from '../system/scratch'

const PASSPHRASE = 'heron-velvet-quarry-sundial-otter-plume'
/** What may stand in a line behind its prefix. */
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
const FAULT =
  /^standard input: (the line is (cut off|not as it was printed)|the end of the line is missing|expected at most 4000 char)/

const file = (more = '') => parseKeyFile('', keyText({ more: `host = "gate.example"\n${more}` })).value as KeyFile
const lineOf = (key: KeyFile) => formatKeyLine(clientCopy(key, false), PASSPHRASE, 2)
const read = (text: string) => readKeyLine('standard input', text)
async function keyIn(text: string) {
  const opened = await (await readSealed('', read(text)))(PASSPHRASE)
  return parseKeyFile('', new TextDecoder().decode(opened ?? new Uint8Array())).value
}

let line: string
beforeAll(async () => {
  line = await lineOf(file())
})

describe('a key as a line', () => {
  it.each([
    ['as most are', ''],
    ['with a period and a pool of its own', 'period = 60\npool = "20000-49999"\n'],
    ['that ends', 'expires = 2099-01-01T00:00:00Z\n'],
  ])('comes back as the copy in a file does: one %s', async (_, more) => {
    const copy = clientCopy(file(more), false)
    expect(clientCopy((await keyIn(await lineOf(file(more)))) as KeyFile, false)).toBe(copy)
  })

  it('is a command of letters, digits, dots, dashes and underscores, which no shell reads otherwise', () => {
    expect(line).toMatch(/^knockclient add kt1\.[\w-]+\.[\w-]{6}$/)
  })

  it('fits a QR code of 81 by 81 modules, as a file with comments would not', async () => {
    // Version 16 at level L, in bytes (ISO/IEC 18004).
    expect(line.length).toBeLessThanOrEqual(586)
    expect(`knockclient add ${await sealText(clientCopy(file(), false), PASSPHRASE)}`.length).toBeGreaterThan(586)
  })

  it('opens with age(1) by its middle part alone', async () => {
    const [, middle] = line.split('.')
    const open = await readSealed('', Buffer.from(middle, 'base64url'))
    expect(await open(PASSPHRASE)).not.toBeNull()
  })

  it('is refused where the key says too much for one', async () => {
    const long = parseKeyFile('', keyText({ more: `host = "${'h'.repeat(2700)}"\n` })).value as KeyFile
    await expect(lineOf(long)).rejects.toThrow(/^the key is too long for a line: expected at most 4000 characters, got \d+$/)
  })
})

describe('a line that has been on its way', () => {
  it.each([
    ['without the command', (text: string) => text.replace('knockclient add ', '')],
    ['with a prompt', (text: string) => `$ ${text}\n`],
    ["with root's prompt", (text: string) => `# ${text}\r\n`],
    ['in quotes', (text: string) => `knockclient add "${text.replace('knockclient add ', '')}"`],
    ['in single quotes', (text: string) => `'${text}'`],
    ['broken by a terminal of 80 columns', (text: string) => text.replace(/.{80}/g, '$&\r\n')],
    ['quoted by mail', (text: string) => `> ${text.replace(/.{72}/g, '$&\n> ')}\n`],
    ['with blanks and a byte order mark', (text: string) => `\ufeff\n\n   ${text} \t\u200b\n\n`],
  ])('is read %s', async (_, change) => {
    expect((await keyIn(change(line)))?.id).toBe('alice')
    expect(isKeyLine(change(line))).toBe(true)
  })

  it('is at its end where it is whole, and nowhere before', () => {
    expect(isWholeLine(line)).toBe(true)
    for (let at = 0; at < line.length; at++) expect(isWholeLine(line.slice(0, at))).toBe(false)
  })

  it('is told from a key file, plain or under a passphrase', async () => {
    const copy = clientCopy(file(), false)
    const others = [copy, await sealText(copy, PASSPHRASE), '', 'id = "kt1."', 'alice']
    expect(others.filter(isKeyLine)).toEqual([])
  })

  it('is no wrong passphrase where it was cut, wherever', () => {
    const start = line.indexOf('kt1.') + 4
    for (let at = start; at < line.length; at++) expect(() => read(line.slice(0, at))).toThrow(FAULT)
    // Its end is taken for a whole one by nobody either.
    for (let at = start; at < line.length; at += 7) expect(() => read(`kt1.${line.slice(at + 1)}`)).toThrow(FAULT)
  })

  it('is no wrong passphrase where a character is another, missing, twice, or two have changed places', () => {
    const start = line.indexOf('kt1.') + 4
    const place = fc.integer({ min: start, max: line.length - 1 })
    const change = fc.oneof(
      fc.tuple(place, fc.constantFrom(...ALPHABET)).map(([at, other]) => line.slice(0, at) + other + line.slice(at + 1)),
      place.map((at) => line.slice(0, at) + line.slice(at + 1)),
      place.map((at) => line.slice(0, at) + line[at] + line.slice(at)),
      place.map((at) => line.slice(0, at) + (line[at + 1] ?? '') + line[at] + line.slice(at + 2)),
    )
    fc.assert(fc.property(change, (changed) => changed === line || FAULT.test(faultOf(changed))))
  })

  it.each([
    ['other text behind it', () => `${line} passphrase: heron`],
    ['other text in front of it', () => `curl evil.example; ${line}`],
    ['two of them', () => `${line}\n${line}`],
    ['nothing but the prefix', () => 'kt1.'],
    ['an empty middle', () => 'kt1..AAAAAA'],
    ['another version', () => line.replace('kt1.', 'kt2.')],
    ['letters that only look alike', () => line.replace('kt1.Y', 'kt1.Ү')],
    ['10 MB', () => `kt1.${'A'.repeat(10_000_000)}.AAAAAA`],
  ])('is refused with %s', (_, text) => {
    expect(faultOf(text())).toMatch(FAULT)
  })

  it('is never quoted in a fault', () => {
    expect(faultOf(line.slice(0, -1))).not.toContain(line.slice(30, 40))
  })
})

function faultOf(text: string): string {
  try {
    read(text)
    return ''
  } catch (error) {
    return (error as Error).message
  }
}
