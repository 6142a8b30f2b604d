import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { keyText, put, scratch } from '../../system/scratch'
import { run } from '../programs'

/* The program from outside, at this very machine: there is no network then that it would look at. */

const HERE = '127.0.0.1'

/** A user's folder, with these files below knockturn. */
function home(files: Readonly<Record<string, string>>, mode = 0o600) {
  const config = scratch()
  mkdirSync(join(config, 'knockturn', 'keys'), { recursive: true, mode: 0o700 })
  for (const [name, text] of Object.entries(files)) put(join(config, 'knockturn'), name, text, mode)
  return { XDG_CONFIG_HOME: config }
}
const KEY = { 'keys/alice.key': keyText({ more: `host = "${HERE}"\n`, grant: '' }) }

async function doctor(env: NodeJS.ProcessEnv, ...args: string[]) {
  const { code, stdout, stderr } = await run('knockclient', ['doctor', ...args], { env })
  return { code, lines: stdout.split('\n'), stderr }
}

describe('knockclient doctor', () => {
  it('ends with 0 where no check finds a fault, each in one line', async () => {
    const { code, lines } = await doctor(home(KEY))
    expect([code, lines.filter((line) => !/^ +hint: /.test(line))]).toEqual([
      0,
      [
        expect.stringMatching(/^ok {7}key {22}alice, server label "gate.example", .*, at 127\.0\.0\.1$/),
        "ok       key's end                never, according to its file",
        'unknown  clock                    it is not known whether this clock is right',
        'ok       name                     127.0.0.1 is an address: no name server is asked',
        'note     IPv4                     127.0.0.1 is this machine itself: there is no network to be looked at',
        'note     IPv6                     127.0.0.1 has no IPv6 address: not tried',
        ...['', '0 faults, 2 notes, 1 unknown, 3 ok', ''],
      ],
    ])
  })

  it.each<[string, NodeJS.ProcessEnv, RegExp, RegExp]>([
    [
      'that others may read',
      home(KEY, 0o644),
      /^fault {4}key {22}.*: expected mode 0600, got 0644$/,
      /^ {9}hint: run "chmod 600 /,
    ],
    [
      'that has expired',
      home({ 'keys/alice.key': keyText({ more: `host = "${HERE}"\nexpires = 2021-01-01T00:00:00Z\n`, grant: '' }) }),
      /^fault {4}key's end {16}the key expired at 2021-01-01T00:00:00Z/,
      /^ {9}hint: make a new key/,
    ],
    ['that is not there', home({}), /^fault {4}key {22}.*: there is no key /, /^ {9}hint: put a key there/],
  ])('ends with 1 and says what to do for a key %s', async (_, env, fault, hint) => {
    const { code, lines } = await doctor(env, '-r', HERE)
    const at = lines.findIndex((line) => line.startsWith('fault'))
    expect([code, lines[at], lines[at + 1]]).toEqual([1, expect.stringMatching(fault), expect.stringMatching(hint)])
  })

  it('looks at the server where there is no key', async () => {
    expect((await doctor(home({}), HERE)).lines).toContain(
      'ok       name                     127.0.0.1 is an address: no name server is asked',
    )
  })

  it('asks nobody for the name of a key that can’t be used', async () => {
    const { lines } = await doctor(home(KEY, 0o644), 'alice')
    expect(lines).toContain('unknown  name                     no server to look at: there is no key that names it')
  })

  it('sends nothing to a host that is not the key’s, unless that is meant', async () => {
    const { code, lines } = await doctor(home(KEY), '::1')
    expect([code, ...lines.filter((line) => /another/.test(line))]).toEqual([
      1,
      'fault    name                     the key alice is for 127.0.0.1, and ::1 is another host',
      '         hint: use another key, or -r ::1 if you mean that host',
    ])
  })

  it('takes host, key and clock from a profile', async () => {
    const profile = `[profile.gate]\nhost = "${HERE}"\nkey = "alice"\ntime_offset = -315360000\n`
    const { code, lines } = await doctor(home({ ...KEY, 'config.toml': profile }), 'gate')
    expect([code, lines.find((line) => / clock /.test(line))]).toEqual([
      1,
      expect.stringMatching(/^fault {4}clock {20}it shows 201\d/),
    ])
  })

  it('prints one document of JSON', async () => {
    const { code, lines } = await doctor(home(KEY), '--json')
    const { host, key, checks, sent } = JSON.parse(lines.join('\n'))
    expect([code, host, key, sent, checks[1]]).toEqual([
      0,
      HERE,
      'alice',
      [],
      { name: "key's end", verdict: 'ok', evidence: 'never, according to its file' },
    ])
  })

  it.each([
    [['-p', '0'], '-p expected a port from 1 to 65535 such as 22 or 22/tcp, got "0"'],
    [['-4', '-6'], '-4 cannot be used with -6'],
    [['-k', 'alice', '--key-fd', '3'], '-k cannot be used with --key-fd'],
  ])('refuses %j', async (args, message) => {
    const { code, stderr } = await doctor(home(KEY), ...args)
    expect([code, stderr.split('\n')[0]]).toEqual([2, `knockclient: error: ${message}`])
  })

  it('refuses options in front of it', async () => {
    const { code, stderr } = await run('knockclient', ['-r', HERE, 'doctor'], { env: home(KEY) })
    expect([code, stderr]).toEqual([2, 'knockclient: error: -r comes before "doctor"\nhint: put -r after "doctor"\n'])
  })
})
