import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { checkDaemon } from '../../../src/daemon/check'
import { inLine } from '../../../src/daemon/checks/finding'
import { readConfig } from '../../../src/daemon/config'
import { inOneLine } from '../../../src/system/fault'
import { keyText, put, scratch } from '../../system/scratch'

const OPEN = 'open = ["door", "{address}"]'
const CLOSE = 'close = ["door", "{lease}"]'
const config = (...lines: string[]) => ['server = ""', '[firewall]', 'backend = "command"', ...lines].join('\n')
const read = (text: string) => readConfig(put(scratch(), 'knockturn.toml', text))
const faultsOf = async (text: string) =>
  ((await read(text)).faults ?? []).map((fault) => inOneLine(fault).replace(/^.*knockturn\.toml:/, ''))

describe('a program in the config', () => {
  it('has its words, and a time limit', async () => {
    const { value } = await read(config('[firewall.command]', OPEN, CLOSE))
    expect(value?.firewall.command).toEqual({
      open: ['door', '{address}'],
      close: ['door', '{lease}'],
      list: null,
      timeLimit: 15,
    })
    const more = await read(config('[firewall.command]', OPEN, CLOSE, 'list = ["/bin/door", "list"]', 'time_limit = 120'))
    expect(more.value?.firewall.command).toMatchObject({ list: ['/bin/door', 'list'], timeLimit: 120 })
  })

  it('may stay there with another backend', async () => {
    const { value } = await read(config('[firewall.command]', OPEN, CLOSE).replace('"command"', '"nftables"'))
    expect(value?.firewall.command).toMatchObject({ timeLimit: 15 })
  })

  it.each([
    [['[firewall.command]', CLOSE], '4: "firewall.command.open" is missing'],
    [['[firewall.command]', OPEN], '4: "firewall.command.close" is missing'],
    [
      ['[firewall.command]', 'open = ["door"]', CLOSE],
      '5: "firewall.command.open" must contain {address}: it would open for everybody',
    ],
    [['[firewall.command]', OPEN, 'close = ["door"]'], '6: "firewall.command.close" must contain {address} or {lease}'],
    [
      ['[firewall.command]', 'open = ["door", "{address}", "{adress}"]', CLOSE],
      '5: "firewall.command.open" must not contain {adress}: it is no placeholder here',
    ],
    [
      ['[firewall.command]', OPEN, CLOSE, 'list = ["door", "{key}"]'],
      '7: "firewall.command.list" must not contain {key}: it is no placeholder here',
    ],
    [
      ['[firewall.command]', 'open = ["./door", "{address}"]', CLOSE],
      '5: "firewall.command.open" expected first the path of a program, or its name where it is in PATH, got ["./door","{address}"]',
    ],
    [
      ['[firewall.command]', 'open = []', CLOSE],
      '5: "firewall.command.open" expected first the path of a program, or its name where it is in PATH, got []',
    ],
    [
      ['[firewall.command]', 'open = "door {address}"', CLOSE],
      '5: "firewall.command.open" expected an array, got "door {address}"',
    ],
    [
      ['[firewall.command]', OPEN, CLOSE, 'time_limit = 121'],
      '7: "firewall.command.time_limit" expected a whole number from 1 to 120, got 121',
    ],
    [['[firewall.command]', OPEN, CLOSE, 'shell = true'], '7: unknown entry "firewall.command.shell"'],
    [[], '3: "firewall.backend" must come with open = [...] and close = [...] in [firewall.command]'],
    [
      ['guard = ["22/tcp"]', '[firewall.command]', OPEN, CLOSE],
      '4: "firewall.guard" must not be set with backend = "command", which guards nothing',
    ],
  ])('has its faults told: %j', async (lines, fault) => {
    expect(await faultsOf(config(...lines))).toEqual([fault])
  })
})

describe('--check', () => {
  const checked = async (open: string) => {
    const folder = scratch()
    mkdirSync(join(folder, 'keys'), { mode: 0o700 })
    put(join(folder, 'keys'), 'alice.key', keyText())
    put(folder, 'ledger', '')
    put(folder, 'knocks.log', '')
    put(folder, 'plain', '', 0o644)
    const taps = '[taps]\nsource = "file"\nfile = "knocks.log"\n[ledger]\npath = "ledger"\n[firewall]\nbackend = "command"\n'
    const program = `[firewall.command]\nopen = ["${open.replace('FOLDER', folder)}", "{address}"]\nclose = ["true", "{address}"]\n`
    const checks = await checkDaemon(put(folder, 'knockturn.toml', `server = "gate.example"\nkeys = "keys"\n${taps}${program}`))
    return checks.flatMap((check) => (check.verdict === 'fault' ? inLine(check).replaceAll(folder, '') : []))
  }

  it('finds no fault in a program that is there', async () => {
    expect(await checked('true')).toEqual([])
  })

  it.each([
    [
      'no-such-door',
      /^no-such-door: cannot be executed: no-such-door is not installed: correct \[firewall\.command\], or install it$/,
    ],
    ['FOLDER/none', /^\/none: cannot be executed: ENOENT: no such file or directory: correct /],
    ['FOLDER/plain', /^\/plain: cannot be executed: EACCES: permission denied: correct /],
  ])('names a program that is not: %s', async (program, fault) => {
    expect(await checked(program)).toEqual([expect.stringMatching(fault)])
  })
})
