import { spawnSync } from 'node:child_process'
import { chmodSync, lstatSync, mkdirSync, readFileSync, statSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { hostBlock, readSsh, type SshHost, sshPort, stepForSsh, writeSsh } from '../../../src/client/add/ssh-config'
import { put, scratch } from '../../system/scratch'

const GATE: SshHost = { profile: 'gate.example', host: 'gate.example', port: null, program: 'knockclient' }
const LINE = 'ProxyCommand knockclient connect gate.example %p'

/** A home folder with this ssh_config. */
function home(config?: string): string {
  const folder = scratch()
  if (config === undefined) return folder
  mkdirSync(join(folder, '.ssh'), { mode: 0o700 })
  put(join(folder, '.ssh'), 'config', config)
  return folder
}
const read = (folder: string, name: string) => readFileSync(join(folder, '.ssh', name), 'utf8')

/** What ssh itself makes of it. It looks for an Include beside the passwd's home alone, so here it is named whole. */
function effective(folder: string, host: string, option: string): string[] {
  const config = read(folder, 'config').replace('Include knockturn.conf', `Include ${join(folder, '.ssh', 'knockturn.conf')}`)
  const { status, stdout } = spawnSync('ssh', ['-G', '-F', put(folder, 'config', config), host], { encoding: 'utf8' })
  expect(status).toBe(0)
  return stdout.split('\n').flatMap((line) => (line.startsWith(`${option} `) ? line.slice(option.length + 1) : []))
}

describe('a block for ssh', () => {
  it('has the profile in the place of the host, which brings the key', () => {
    expect(hostBlock(GATE)).toBe(`Host gate.example\n  ${LINE}\n`)
  })

  it("answers to the profile's name, too, where that is another", () => {
    expect(hostBlock({ ...GATE, profile: 'gate', port: 2222 })).toBe(
      'Host gate gate.example\n  HostName gate.example\n  Port 2222\n  ProxyCommand knockclient connect gate %p\n',
    )
  })

  it.each([
    [null, 22],
    [[22, 443], 22],
    [[2222], 2222],
    [[443, 8443], null],
    [[], null],
  ])('is for the port of ssh among %j: %s', (ports, port) => {
    expect(sshPort(ports)).toBe(port)
  })
})

describe('what ssh reads', () => {
  it.each([
    ['there is nothing', undefined],
    ['it is empty', ''],
    ['it has something for all hosts', 'Compression yes\nUser alice\n'],
    ['Host * has a proxy', 'Host *\n  ProxyCommand nc %h %p\n  User alice\n'],
    ['Host *.example has a proxy', 'Host *.example\n  ProxyJump bastion\n'],
    ["the host's block has no proxy", 'Host other\n  Port 1\nHost gate.example\n  User alice\n'],
    ['a Match has a proxy', 'Match all\n  ProxyCommand nc %h %p\n'],
    ['it ends without a line end', 'Host x\n  User y'],
  ])('has it knock where %s', async (_, config) => {
    const folder = home(config)
    await writeSsh(folder, GATE)
    expect(effective(folder, 'gate.example', 'proxycommand')).toEqual([LINE.slice('ProxyCommand '.length)])
    // All that was there is there, as it was.
    expect(read(folder, 'config').endsWith(config ?? '')).toBe(true)
  })

  it('says for every other host what it said before, and for this one all but the proxy', async () => {
    const config = 'User alice\nPort 2200\nHost gate.example other\n  User bob\nHost *\n  ProxyCommand nc %h %p\n'
    const folder = home(config)
    const before = ['other', 'third'].map((host) =>
      effective(folder, host, 'user').concat(effective(folder, host, 'proxycommand')),
    )
    await writeSsh(folder, GATE)
    expect(
      ['other', 'third'].map((host) => effective(folder, host, 'user').concat(effective(folder, host, 'proxycommand'))),
    ).toEqual(before)
    expect([effective(folder, 'gate.example', 'user'), effective(folder, 'gate.example', 'port')]).toEqual([['alice'], ['2200']])
  })

  it('is written once, however often', async () => {
    const folder = home('User alice\n')
    expect(await writeSsh(folder, GATE)).toEqual(['knockturn.conf', 'config'].map((name) => join(folder, '.ssh', name)))
    const before = ['config', 'knockturn.conf'].map((name) => read(folder, name))
    expect(await writeSsh(folder, GATE)).toEqual([])
    expect(['config', 'knockturn.conf'].map((name) => read(folder, name))).toEqual(before)
  })

  it('is written once by several at once', async () => {
    const folder = home('User alice\n')
    await Promise.all(
      [GATE, GATE, { ...GATE, host: 'other.example', profile: 'other.example' }].map((one) => writeSsh(folder, one)),
    )
    expect(read(folder, 'config').match(/^Include/gm)).toHaveLength(1)
    expect(
      read(folder, 'knockturn.conf')
        .match(/^Host .*/gm)
        ?.sort(),
    ).toEqual(['Host gate.example', 'Host other.example'])
  })

  it('has a second host beside the first', async () => {
    const folder = home()
    for (const host of ['gate.example', 'other.example']) await writeSsh(folder, { ...GATE, host, profile: host })
    expect(effective(folder, 'gate.example', 'proxycommand')).toEqual(['knockclient connect gate.example %p'])
    expect(effective(folder, 'other.example', 'proxycommand')).toEqual(['knockclient connect other.example %p'])
  })

  it('is for its owner alone', async () => {
    const folder = home()
    await writeSsh(folder, GATE)
    const modes = ['.ssh', '.ssh/config', '.ssh/knockturn.conf'].map((name) => statSync(join(folder, name)).mode & 0o777)
    expect(modes).toEqual([0o700, 0o600, 0o600])
  })

  it('stays a link into a folder of dotfiles', async () => {
    const folder = home()
    const dotfiles = put(folder, 'dotfiles', 'User alice\n')
    mkdirSync(join(folder, '.ssh'))
    symlinkSync(dotfiles, join(folder, '.ssh', 'config'))
    await writeSsh(folder, GATE)
    expect(lstatSync(join(folder, '.ssh', 'config')).isSymbolicLink()).toBe(true)
    expect(readFileSync(dotfiles, 'utf8')).toMatch(/^# .*\nInclude knockturn\.conf\n\nUser alice\n$/)
  })

  it('is refused where others may write it', async () => {
    const folder = home('User alice\n')
    chmodSync(join(folder, '.ssh', 'config'), 0o666)
    await expect(readSsh(folder)).rejects.toThrow(/users other than its owner may write it/)
  })
})

describe("the user's own block for the host", () => {
  const step = (config: string, ours: string | null = null) => stepForSsh(GATE, { config, ours })

  it.each([
    'Host gate.example\n  ProxyCommand nc %h %p',
    'host=other "GATE.example"\n\tproxyjump bastion',
    'Host x\n  User y\nHost a gate.example\n  User z\n  ProxyJump none',
  ])('is not overruled where it has a proxy: %j', (config) => {
    expect(step(config).change).toBe('theirs')
  })

  it('is enough where it knocks', () => {
    expect(step(`Host gate.example\n  ProxyCommand knockclient connect %h %p\n`).change).toBe('kept')
  })

  it('is shown as it stands, up to the next', () => {
    const config = 'Host a\n  Port 1\nHost gate.example\n  User bob\n  # about bob\n\nMatch all\n  User eve\n'
    expect(step(config).theirs).toBe('Host gate.example\n  User bob\n  # about bob')
  })

  it.each([
    'Host gate',
    'Host *.example',
    'HostName gate.example',
    '# Host gate.example',
    'Host !gate.example',
    'HostKeyAlias gate.example',
  ])('is none where a line is "%s"', (line) => {
    expect(step(`${line}\n  ProxyCommand nc %h %p\n`).theirs).toBeNull()
  })

  it('is never lost, whatever it is', () => {
    const line = fc.oneof(
      fc.constantFrom(
        'Host gate.example',
        'Host *',
        'Include knockturn.conf',
        '  ProxyJump x',
        'Match all',
        '',
        '# Host',
        'Host "a',
      ),
      fc.string(),
    )
    fc.assert(
      fc.property(fc.array(line), (lines) => {
        const config = lines.join('\n')
        const { change } = step(config)
        return typeof change === 'string' || change.config === null || change.config.endsWith(config)
      }),
    )
  })

  it.each([
    ['Include knockturn.conf\n', true],
    ['User x\ninclude  ~/.ssh/knockturn.conf other\n', true],
    ['Host x\n  Include knockturn.conf\n', false],
    ['# Include knockturn.conf\n', false],
    ['Include knockturn.conf.d/*\n', false],
  ])('is followed by an Include only where that holds for all hosts: %j', (config, isThere) => {
    const { change } = step(config, 'Host gate.example\n')
    expect(change === 'kept').toBe(isThere)
  })
})
