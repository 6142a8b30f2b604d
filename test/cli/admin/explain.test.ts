import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, symlinkSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { formatHeader, formatRecord, HEADER } from '../../../src/daemon/ledger/record'
import { fingerprintOf, holdLedger, stateWith } from '../../admin/explain/daemon-state'
import { keyText, put, scratch, secretOf } from '../../system/scratch'
import { run } from '../programs'

const CONFIG = `server = "gate.example"
keys = "keys"
never_lock = ["10.0.0.0/8"]

[firewall]
backend = "dry-run"
leases_per_key = 2

[ledger]
path = "ledger"
`
const GRANT = 'services = ["22/tcp", "53/udp"]\nmax = "15m"\n\n# bans\nlock = true'
const FINGERPRINT = fingerprintOf(keyText({ grant: GRANT }))

interface Setting {
  readonly state?: object | null
  /** Seconds. */
  readonly age?: number
  /** Whether a daemon is alive, as the ledger's lock shows. */
  readonly isHeld?: boolean
  readonly key?: string
  readonly config?: string
}

/** A config, a keyring, a ledger and the state of a daemon. */
function setting({ state = {}, age = 0, isHeld = true, key = keyText({ grant: GRANT }), config = CONFIG }: Setting = {}) {
  const folder = scratch()
  const file = put(folder, 'knockturn.toml', config)
  mkdirSync(join(folder, 'keys'), { mode: 0o700 })
  const keyFile = put(join(folder, 'keys'), 'alice.key', key)
  const ledger = put(folder, 'ledger', 'knockturn-ledger 1 0000000000000036\n')
  if (isHeld) holdLedger(ledger)
  const whole = { ...stateWith(keyText({ grant: GRANT }), ledger), ...state }
  if (state) {
    const path = put(folder, 'state.json', JSON.stringify(whole), 0o640)
    const written = Date.now() / 1_000 - age
    utimesSync(path, written, written)
  }
  const explain = (...args: string[]) =>
    run('knockturn', ['explain', 'alice', '--from', '203.0.113.9', ...args, '--config', file])
  return { folder, file, keyFile, ledger, explain }
}

describe('knockturn explain', () => {
  it.each([
    ['a pipe', (path: string) => execFileSync('mkfifo', ['-m', '600', path])],
    ['a device', (path: string) => symlinkSync('/dev/zero', path)],
  ])('comes to its end where the ledger is %s', async (_, make) => {
    const { ledger, explain } = setting()
    rmSync(ledger)
    make(ledger)
    expect((await explain('-p', '22')).stdout).toContain(`the ledger cannot be read: ${ledger}: is not a regular file`)
  })

  it('says that a knock would open, for whom and until when, and exits with 0', async () => {
    const { explain } = setting()
    const { code, stdout, stderr } = await explain('-p', '22')
    expect(stdout).toMatch(/^a knock of alice from 203\.0\.113\.9, to open port 22, for 5m\n/)
    expect(stdout).toMatch(/\nwould open 22\/tcp for 203\.0\.113\.9 until \d{4}-\S+Z\n$/)
    expect([code, stderr]).toEqual([0, ''])
  })

  it('names the rule that says no, with file and line, and exits with 1', async () => {
    const { explain, keyFile } = setting()
    const { code, stdout, stderr } = await explain('-p', '80')
    expect(stdout).toContain(`\n  NO    services            ${keyFile}:6  the grant opens only 22/tcp, 53/udp (services)\n`)
    expect(stdout).toMatch(/\nwould not open \(not-granted\): the grant opens only 22\/tcp, 53\/udp \(services\)\n$/)
    expect([code, stderr]).toEqual([1, `hint: see services in ${keyFile}:6\n`])
  })

  it.each([
    [['-p', '22', '-t', '1h'], 'max', 'alice.key:7'],
    [['-p', '22', '-t', '0'], 'allow_until_closed', 'alice.key:5'],
    [['--lock', '-i', '203.0.113.9', '-t', '16m'], 'max', 'alice.key:7'],
    [['-p', '22', '-i', '203.0.113.8'], 'bind_source', 'alice.key:5'],
  ])('of %j, %s refuses, in %s: its line, or its table’s where it is not written', async (args, rule, where) => {
    const { explain, folder } = setting()
    const { stdout } = await explain(...args, '--json')
    const refused = JSON.parse(stdout).rules.filter(({ verdict }: { verdict: string }) => verdict === 'refuses')
    expect(refused).toMatchObject([{ rule, where: join(folder, 'keys', where) }])
  })

  it('finds an entry between comments and lists of several lines, where it counts', async () => {
    const grant = [
      '# services = ["80/tcp"]',
      'services = [',
      '  "22/tcp", # max = "1h"',
      '  # "80/tcp",',
      '  "53/udp",',
      ']',
      'addresses = [ "198.51.100.0/24",',
      '  "2001:db8::/32" ]',
      '# max = "2h"',
      '  max  =  "15m" # max = "3h"',
    ]
    const key = keyText({ grant: grant.join('\n') })
    const line = (text: string) => key.split('\n').indexOf(text) + 1
    const { explain, keyFile } = setting({ key })
    const { stdout } = await explain('-p', '80', '-t', '1h', '--json')
    const refused = JSON.parse(stdout).rules.filter(({ verdict }: { verdict: string }) => verdict === 'refuses')
    const wheres = refused.map(({ rule, where }: { rule: string; where: string }) => [rule, where])
    expect(wheres).toEqual([
      ['addresses', `${keyFile}:${line('addresses = [ "198.51.100.0/24",')}`],
      ['services', `${keyFile}:${line('services = [')}`],
      ['max', `${keyFile}:${line('  max  =  "15m" # max = "3h"')}`],
    ])
  })

  it.each([
    ['a ban that never_lock forbids', ['--from', '10.1.2.3', '--lock'], {}, 'never_lock', 'knockturn.toml:3'],
    [
      'more leases than one key may have',
      ['-p', '0'],
      {
        leases: [1, 2].map((n) => ({
          ...{ id: `${n}`, key: 'alice', fingerprint: FINGERPRINT, address: `203.0.113.${n}`, service: '22/tcp' },
          ...{ once: false, opened: null, until: null },
        })),
      },
      'leases_per_key',
      'knockturn.toml:7',
    ],
  ])('%s is refused by the config’s line', async (_, args, state, rule, where) => {
    const { explain, folder } = setting({ state })
    const { stdout, code } = await explain(...args, '--json')
    const refused = JSON.parse(stdout).rules.filter(({ verdict }: { verdict: string }) => verdict === 'refuses')
    expect(refused).toMatchObject([{ rule, where: join(folder, where) }])
    expect(code).toBe(1)
  })

  it('has in its JSON what is asked, what comes of it and every rule, with the same entries each', async () => {
    const { stdout } = await setting().explain('-p', '53/udp', '-t', '90s', '--json')
    const { rules, ...rest } = JSON.parse(stdout)
    expect(rest).toEqual({
      key: 'alice',
      asked: { source: '203.0.113.9', address: null, action: 'open', port: 53, protocol: 'udp', seconds: 90, once: false },
      would: true,
      grant: { address: '203.0.113.9', services: ['53/udp'], until: expect.stringMatching(/^\d{4}-\S+Z$/) },
    })
    for (const rule of rules) expect(Object.keys(rule)).toEqual(['rule', 'verdict', 'where', 'says', 'refusal'])
  })

  it.each<[string, Setting, RegExp]>([
    ['that is not there', { state: null }, /a daemon is running, and has said nothing of itself: if it hangs, nothing opens\n/],
    [
      'that is older than a daemon leaves it',
      { age: 60 },
      /a daemon is running, and has said nothing of itself for 1m\d?s?: if it hangs, nothing opens\n/,
    ],
    ['of a clock that is ahead', { age: -60 }, /a daemon is running, and has said nothing of itself/],
    ['that is damaged', { state: { hearing: 'perfectly' } }, /state\.json: is damaged/],
  ])('does not say "would open" by a state %s', async (_, its, says) => {
    const { code, stdout } = await setting(its).explain('-p', '22')
    expect(stdout).toMatch(new RegExp(`\\ncannot tell whether it would open: .*${says.source}`))
    expect(code).toBe(1)
  })

  it.each([0, 60])('does not say "would open" where no daemon runs, %d s after it last wrote its state', async (age) => {
    const { code, stdout, stderr } = await setting({ isHeld: false, age }).explain('-p', '22')
    expect(stdout).toMatch(/\nwould not open: no daemon is running: nothing opens\n$/)
    expect([code, stderr]).toEqual([1, 'hint: look at it with "knockturn status"\n'])
  })

  it.each<[string, Setting, RegExp]>([
    [
      'of another server',
      { key: keyText({ server: 'other', grant: GRANT }) },
      /expected server "gate\.example", as in the config, got "other"/,
    ],
    ['that is a client’s copy', { key: keyText({ grant: '' }) }, /the table \[grant\] is missing/],
    [
      'that is revoked',
      { key: keyText({ grant: GRANT, more: 'revoked = 2026-01-01T00:00:00Z\n' }) },
      /the key was revoked at 2026-01-01T00:00:00Z/,
    ],
  ])('says why a key %s opens nothing', async (_, its, says) => {
    const { code, stdout } = await setting(its).explain('-p', '22')
    expect(stdout).toMatch(new RegExp(`\\nwould not open.*: ${says.source}`))
    expect(code).toBe(1)
  })

  it('says that the ledger has the key open nothing yet', async () => {
    const { explain, folder } = setting()
    // As of a daemon that was started while the clock was ahead.
    const line = `${formatRecord({ kind: 'base', seconds: Math.floor(Date.now() / 1_000) + 86_400, ahead: 2 })}\n`
    put(folder, 'ledger', Buffer.concat([formatHeader(HEADER + line.length), Buffer.from(line)]))
    const { code, stdout } = await explain('-p', '22')
    expect(stdout).toMatch(/\nwould not open \(stale\): the ledger's base is ahead of the clock: nothing opens before /)
    expect(code).toBe(1)
  })

  it('shows no secret', async () => {
    for (const args of [['-p', '22'], ['-p', '80', '--json'], ['--lock']]) {
      const { stdout, stderr } = await setting().explain(...args)
      expect(`${stdout}${stderr}`).not.toContain(secretOf(1).slice(0, 12))
    }
  })

  it.each([
    [['-p', 'ssh'], /-p expected a port such as 22 or 22\/tcp, got "ssh"/],
    [['-t', '300'], /-t expected 0, minutes, or a duration/],
    [['--close', '--lock'], /--close cannot be used with --lock/],
    [['--close', '--once'], /--once cannot be used with --close or --lock/],
    [['--from', 'gate.example'], /--from expected an IPv4 or IPv6 address, got "gate\.example"/],
  ])('%j is a usage fault', async (args, says) => {
    const { code, stderr } = await setting().explain(...args)
    expect(code).toBe(2)
    expect(stderr).toMatch(says)
  })

  it('of a key that there is not is a fault, which names those that there are', async () => {
    const { file } = setting()
    const { code, stderr } = await run('knockturn', ['explain', 'bob', '--from', '203.0.113.9', '--config', file])
    expect(code).toBe(1)
    expect(stderr).toMatch(/no key "bob" \(there are: alice\)/)
  })
})
