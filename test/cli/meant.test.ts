import { describe, expect, it } from 'vitest'
import { meantByWords } from '../../src/cli/meant'
import { scratch } from '../system/scratch'
import { type Program, run } from './programs'

const server = (line: string) => `to knock at a server of that name, run "${line}"`

describe('words where a profile stands', () => {
  it.each<[string[], string]>([
    [['gate.example', '22'], server('knock -r gate.example -p 22')],
    [['22', 'gate.example'], server('knock -r gate.example -p 22')],
    [['gate.example', 'tcp/22'], server('knock -r gate.example -p tcp/22')],
    [['gate', '22'], 'run "knock gate -p 22"'],
    [['alice@gate.example', '22'], server('knock -r gate.example -p 22')],
    [['2001:db8::1', '22'], server('knock -r 2001:db8::1 -p 22')],
    [['gate.example'], server('knock -r gate.example')],
    [['198.51.100.1'], server('knock -r 198.51.100.1')],
    [['gate.example:22'], 'run "knock -r gate.example -p 22"'],
    [['alice@gate.example:22'], 'run "knock -r gate.example -p 22"'],
    [['[2001:db8::1]:22'], 'run "knock -r 2001:db8::1 -p 22"'],
    [['22'], 'run "knock -p 22"'],
    [['gaet'], server('knock -r gaet')],
  ])('%j have a line that says what to type', (words, hint) => {
    expect(meantByWords('knock', words, ['gate'])).toBe(hint)
  })

  it('may be the name of a profile that is still to be made, where there is none', () => {
    expect(meantByWords('knock', ['gate'], [])).toBe(
      `to make that profile, run "knock profile save gate"; ${server('knock -r gate')}`,
    )
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
    ['knockclient', ['help'], 'run "knockclient --help"'],
    ['knockclient', ['help', 'connect'], 'run "knockclient connect --help"'],
    ['knockclient', ['list'], 'run "knockclient profile list"'],
    ['knockclient', ['status'], 'a server never answers: knock with --wait, which tries the port'],
    ['knockclient', ['close'], 'run "knockclient --close"'],
    ['knockclient', ['version'], 'run "knockclient --version"'],
    ['knockturn', ['list'], 'run "knockturn lease list" or "knockturn lock list" or "knockturn key list"'],
    ['knockturn', ['new', 'alice'], 'run "knockturn key new" or "knockturn ledger new"'],
    ['knockturn', ['show'], 'run "knockturn key show" or "knockturn firewall show"'],
    ['knockdaemon', ['help'], 'run "knockdaemon --help"'],
    ['knockdaemon', ['check'], 'run "knockdaemon --check"'],
    ['knockdaemon', ['start'], 'run "systemctl start knockdaemon", if its unit is installed, or knockdaemon without "start"'],
    ['knockdaemon', ['restart'], 'run "systemctl restart knockdaemon", if its unit is installed'],
    [
      'knockdaemon',
      ['status'],
      'run "knockturn status" to see whether it runs and hears, or "knockturn doctor" to see what is wrong',
    ],
    ['knockclient', ['key', 'new', 'alice'], '"key" is a command of knockturn: run "knockturn key"'],
    ['knockclient', ['firewall'], '"firewall" is a command of knockturn: run "knockturn firewall"'],
    ['knockturn', ['connect', 'gate', '22'], '"connect" is a command of knockclient: run "knockclient connect"'],
  ])('is told in %s what to type for %j', async (program, args, hint) => {
    expect(await said(program, ...args)).toEqual([expect.stringMatching(`^${program}: error: `), `hint: ${hint}`])
  })

  it.each<Program>(['knockturn', 'knockclient', 'knockdaemon'])('wrong of %s itself points to its help', async (program) => {
    expect(await said(program, '--loud')).toEqual([`${program}: error: unknown option '--loud'`, `hint: see "${program} --help"`])
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
    ['knockclient', ['completion', 'nu'], 'completion'],
    ['knockturn', ['key', 'lose'], 'key'],
    ['knockturn', ['key', 'new'], 'key new'],
    ['knockturn', ['key', 'new', '../alice'], 'key new'],
    ['knockturn', ['key', 'new', 'alice', '--max', '60'], 'key new'],
    ['knockturn', ['key', 'new', 'alice', '--server', 'gate', '--expires', '2020-01-01'], 'key new'],
    ['knockturn', ['key', 'list', 'all'], 'key list'],
    ['knockturn', ['key', 'show'], 'key show'],
    ['knockturn', ['key', 'export', '../alice'], 'key export'],
    ['knockturn', ['key', 'revoke', 'alice', '--loud'], 'key revoke'],
    ['knockturn', ['key', 'passcode', 'alice', '--time', 'long'], 'key passcode'],
    ['knockturn', ['page', 'alice'], 'page'],
    ['knockturn', ['page', '--out', '/nonexistent/page', '--address', 'gate'], 'page'],
    ['knockturn', ['firewall', 'lose'], 'firewall'],
    ['knockturn', ['firewall', 'install', '--loud'], 'firewall install'],
    ['knockturn', ['firewall', 'remove', '--config', 'x'], 'firewall remove'],
    ['knockturn', ['firewall', 'show', '--config', 'x'], 'firewall show'],
    ['knockturn', ['ledger', 'lose'], 'ledger'],
    ['knockturn', ['ledger', 'rebase', 'now'], 'ledger rebase'],
    ['knockturn', ['completion', 'nu'], 'completion'],
  ])('wrong of a subcommand of %s points to its own help: %j', async (program, args, path) => {
    expect(await said(program, ...args)).toEqual([
      expect.stringMatching(`^${program}: error: `),
      `hint: see "${program} ${path} --help"`,
    ])
  })
})
