import { describe, expect, it } from 'vitest'
import { meantByWords } from '../../src/cli/meant'
import { scratch } from '../system/scratch'
import { type Program, run } from './programs'

const server = (line: string) => `to knock at a server of that name, type "${line}"`

describe('words where a profile stands', () => {
  it.each<[string[], string]>([
    [['gate.example', '22'], server('knock -r gate.example -p 22')],
    [['22', 'gate.example'], server('knock -r gate.example -p 22')],
    [['gate.example', 'tcp/22'], server('knock -r gate.example -p tcp/22')],
    [['gate', '22'], 'type "knock gate -p 22"'],
    [['alice@gate.example', '22'], server('knock -r gate.example -p 22')],
    [['2001:db8::1', '22'], server('knock -r 2001:db8::1 -p 22')],
    [['gate.example'], server('knock -r gate.example')],
    [['198.51.100.1'], server('knock -r 198.51.100.1')],
    [['gate.example:22'], 'type "knock -r gate.example -p 22"'],
    [['alice@gate.example:22'], 'type "knock -r gate.example -p 22"'],
    [['[2001:db8::1]:22'], 'type "knock -r 2001:db8::1 -p 22"'],
    [['22'], 'type "knock -p 22"'],
    [['gaet'], server('knock -r gaet')],
  ])('%j have a line that says what to type', (words, hint) => {
    expect(meantByWords('knock', words, ['gate'])).toBe(hint)
  })

  it('may be the name of a profile that is still to be made, where there is none', () => {
    expect(meantByWords('knock', ['gate'], [])).toBe(`"knock profile save gate" makes that profile; ${server('knock -r gate')}`)
    expect(meantByWords('knock', ['gate.example'], [])).toBe(server('knock -r gate.example'))
  })

  it.each([
    [[]],
    [['x', 'y']],
    [['22', '443']],
    [['gate.example', '22', 'more']],
    [['$(touch pwned)']],
    [['gate.example; ls']],
    [['x'.repeat(61)]],
    [['x'.repeat(61), '22']],
  ])('%j have none', (words) => {
    expect(meantByWords('knock', words, ['gate'])).toBeUndefined()
  })
})

describe('what hands type', () => {
  const config = scratch()
  const env = { HOME: config, XDG_CONFIG_HOME: undefined }
  const said = async (program: Program, ...args: string[]) => {
    const { code, stdout, stderr } = await run(program, args, { env })
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    return stderr.trimEnd().split('\n')
  }

  it.each<[Program, string[], string]>([
    ['knockclient', ['gate.example', '22'], server('knockclient -r gate.example -p 22')],
    ['knockclient', ['gate.example', '22', '-t', '15'], server('knockclient -r gate.example -p 22')],
    ['knockclient', ['help'], 'type "knockclient --help"'],
    ['knockclient', ['help', 'connect'], 'type "knockclient connect --help"'],
    ['knockclient', ['list'], 'type "knockclient profile list"'],
    ['knockclient', ['status'], 'no server tells its clients what is open: knock with --wait, which tries the port'],
    ['knockclient', ['close'], 'type "knockclient --close"'],
    ['knockclient', ['version'], 'type "knockclient --version"'],
    ['knockturn', ['list'], 'type "knockturn key list"'],
    ['knockturn', ['new', 'alice'], 'type "knockturn key new"'],
    ['knockturn', ['show'], 'type "knockturn key show" or "knockturn firewall show"'],
    ['knockturn', ['status'], '"knockturn firewall show" shows what is open, and "knockdaemon --check" what is wrong'],
    ['knockdaemon', ['help'], 'type "knockdaemon --help"'],
    ['knockdaemon', ['check'], 'type "knockdaemon --check"'],
    ['knockdaemon', ['status'], '"systemctl status knockdaemon" tells whether it runs, and "knockdaemon --check" what is wrong'],
  ])('is told in %s what to type for %j', async (program, args, hint) => {
    expect(await said(program, ...args)).toEqual([expect.stringMatching(`^${program}: error: `), `hint: ${hint}`])
  })

  it('may be the name of a profile, where there is one', async () => {
    const folder = scratch()
    const args = ['profile', 'save', 'list', '--port', '22']
    expect((await run('knockclient', args, { env: { HOME: folder, XDG_CONFIG_HOME: undefined } })).code).toBe(0)
    const { stderr } = await run('knockclient', ['list', '--dry-run'], { env: { HOME: folder, XDG_CONFIG_HOME: undefined } })
    expect(stderr).toMatch(/^knockclient: error: \S+keys: the keyring cannot be read/)
  })

  it.each<[Program, string[], string]>([
    ['knockclient', ['connect', 'gate.example'], 'connect'],
    ['knockclient', ['connect', 'gate.example', '22', 'more'], 'connect'],
    ['knockclient', ['exec', '--loud', '--', 'true'], 'exec'],
    ['knockclient', ['profile', 'lose'], 'profile'],
    ['knockclient', ['profile', 'save', 'gate', '--loud'], 'profile save'],
    ['knockclient', ['completion', 'fish'], 'completion'],
    ['knockturn', ['key', 'lose'], 'key'],
    ['knockturn', ['key', 'new'], 'key new'],
    ['knockturn', ['firewall', 'install', '--loud'], 'firewall install'],
  ])('wrong of a subcommand of %s points to its own help: %j', async (program, args, path) => {
    expect(await said(program, ...args)).toEqual([
      expect.stringMatching(`^${program}: error: .*: see "${program} ${path} --help"$`),
    ])
  })
})
