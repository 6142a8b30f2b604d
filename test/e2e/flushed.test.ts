import { appendFileSync, chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import { knock, knocked } from '../lab/knocks'
import type { Child } from '../lab/processes'
import { until } from '../lab/waiters'
import { useGate } from './use-gate'

const SSH = 22
const WEB = 443
const FAMILIES = ['iptables', 'ip6tables']

const { server, client, gate } = useGate(['client'], { backend: 'iptables', serve: [SSH, WEB] })
let daemon: Child

beforeAll(async () => {
  await gate.daemon.end('SIGTERM')
})

const sees = async (port = SSH) => (await client.connect(server.ipv4, port)).saw
const open = (...options: string[]) => knocked(client, daemon, gate.key, '-p', String(SSH), '-t', '1h', ...options)
const close = () => knocked(client, daemon, gate.key, '--close')
const save = (family: string) => server.must([`${family}-save`, '-t', 'filter'])
const PUT_BACK = 'another program changed the firewall: our rules have been restored'
/** The rules of a table without their counters and comments, which tell when it was printed. */
const rulesOf = async (family: string) =>
  (await save(family))
    .split('\n')
    .filter((line) => /^[-:]/.test(line))
    .map(bare)
    .sort()
const bare = (line: string) => line.replace(/ \[\d+:\d+\]$/, '')

describe('another program that', () => {
  beforeAll(async () => {
    daemon = await gate.startDaemon()
  })
  afterAll(() => daemon?.end('SIGTERM'))
  beforeEach(async () => {
    await close()
  })

  /** Changes the firewall, and waits until all is as it was. */
  const restored = async (change: () => Promise<unknown>) => {
    const before = await Promise.all(FAMILIES.map(rulesOf))
    await change()
    await until(
      async () => JSON.stringify(await Promise.all(FAMILIES.map(rulesOf))) === JSON.stringify(before),
      'the rules are as they were',
      30_000,
    )
  }
  /** Loads a table anew, without what is ours, as a firewall's own start script does. */
  const reload = async (family: string) => {
    const others = (await save(family)).split('\n').filter((line) => !line.includes('KNOCKTURN'))
    await server.must([`${family}-restore`], { input: others.join('\n') })
  }

  it('loads its own tables in the place of all chains has ours back, leases too, and is named once', async () => {
    await open()
    const since = daemon.lines.length
    await restored(() => Promise.all(FAMILIES.map(reload)))
    await daemon.line(logged(PUT_BACK), since)
    expect(await sees()).toBe('open')
    expect(await knocked(client, daemon, gate.key, '-p', String(WEB))).toMatchObject({ msg: 'accepted' })
    // Told once, however often it is done.
    await restored(() => Promise.all(FAMILIES.map(reload)))
    expect(await knocked(client, daemon, gate.key, '-p', String(WEB))).toMatchObject({ msg: 'accepted' })
    expect(daemon.lines.slice(since).filter(logged(PUT_BACK))).toHaveLength(1)
  })

  it.each(['KNOCKTURN', 'KNOCKTURN-LEASES', 'KNOCKTURN-TAPS'])('flushes %s has its rules back', async (chain) => {
    await open()
    await restored(() => server.must(['iptables', '-F', chain]))
    expect(await sees()).toBe('open')
  })

  it('takes away our jump has it back', async () => {
    await open()
    await restored(() => server.must(['iptables', '-D', 'INPUT', '-j', 'KNOCKTURN']))
    expect(await sees()).toBe('open')
  })

  it('takes away a lock has it back', async () => {
    const key = await gate.newKey('locker', '--services', '22/tcp', '--lock')
    await daemon.line(logged('reloaded', { keys: 2 }))
    await client.moveOn()
    expect(await knocked(client, daemon, key, '--lock', '-t', '1h')).toMatchObject({ msg: 'accepted', action: 'lock' })
    await restored(() => server.must(['iptables', '-F', 'KNOCKTURN-LEASES']))
    await gate.knockturn('key', 'revoke', 'locker', '--keys', gate.keys)
    await until(async () => (await server.leases(client)).length === 0, 'the lock has ended with its key')
    await client.moveOn()
  })

  it('takes away the way to our leases has it back', async () => {
    await open()
    await restored(() => server.must(['iptables', '-D', 'KNOCKTURN', '-j', 'KNOCKTURN-LEASES']))
    expect(await sees()).toBe('open')
  })

  it('puts back a table with a lease that has been closed since opens nothing', async () => {
    await open()
    const saved = await save('iptables')
    await close()
    await restored(() => server.must(['iptables-restore'], { input: saved }))
    expect(await sees()).toBe('silence')
  })

  it('doubles the rule of a lease leaves one', async () => {
    await open()
    const rule = (await server.must(['iptables', '-S', 'KNOCKTURN-LEASES']))
      .split('\n')
      .find((line) => line.includes(client.ipv4))
    await restored(() => server.must(['sh', '-c', `iptables ${rule}`]))
    await close()
    expect(await sees()).toBe('silence')
  })

  it('takes away a lease for one connection does not make it two', async () => {
    await open('--once')
    expect(await sees()).toBe('open')
    await server.must(['iptables', '-F', 'KNOCKTURN-LEASES'])
    // A lease that is put back tells that the daemon has looked.
    await knocked(client, daemon, gate.key, '-p', String(WEB), '-t', '1h')
    await restored(() => server.must(['iptables', '-F', 'KNOCKTURN-LEASES']))
    expect(await sees()).toBe('silence')
  })
})

describe('iptables that fails', () => {
  let tools: string
  /** Has iptables fail where it is given these words: because another program holds it up, or because it does not like them. */
  const fail = (words: string, why: 'busy' | 'refused' = 'busy') => writeFileSync(join(tools, why), words)
  const mend = () => {
    for (const why of ['busy', 'refused', 'held']) rmSync(join(tools, why), { force: true })
  }
  const send = (...options: string[]) => client.must(knock(gate, '--passes', '1', ...options))
  /** Knocks, and gives what the log says of a firewall that fails. */
  async function failing(...options: string[]): Promise<Record<string, unknown>> {
    const since = daemon.lines.length
    await send(...options)
    return JSON.parse(await daemon.line(logged('cannot change the firewall rules'), since))
  }
  const rules = async () => (await server.leases(client)).length

  beforeAll(async () => {
    tools = join(gate.folder, 'tools')
    mkdirSync(tools, { mode: 0o755 })
    for (const family of FAMILIES) {
      const real = (await server.must(['sh', '-c', `command -v ${family}-restore`])).trim()
      const script = `#!/bin/sh
text=$(cat)
words=$(cat ${tools}/busy 2>/dev/null) && case "$text" in *$words*) echo "Another app is currently holding the xtables lock." >&2; exit 4;; esac
words=$(cat ${tools}/refused 2>/dev/null) && case "$text" in *$words*) echo "iptables-restore: line 2 failed" >&2; exit 1;; esac
printf '%s\\n' "$text" | exec ${real} "$@"
`
      writeFileSync(join(tools, `${family}-restore`), script)
      chmodSync(join(tools, `${family}-restore`), 0o755)
      const reads = (await server.must(['sh', '-c', `command -v ${family}`])).trim()
      writeFileSync(join(tools, family), `#!/bin/sh\n[ -e ${tools}/held ] && exec sleep 60\nexec ${reads} "$@"\n`)
      chmodSync(join(tools, family), 0o755)
    }
    daemon = server.start(['env', `PATH=${tools}:${process.env.PATH}`, ...gate.command])
    await daemon.line(logged('ready'))
  })
  afterAll(() => daemon?.end('SIGTERM'))
  beforeEach(async () => {
    mend()
    await close()
    await until(async () => (await rules()) === 0, 'no rule is left')
    await client.moveOn()
  })

  it('leaves the door shut and says what it said; the next knock opens', async () => {
    fail('-A KNOCKTURN-LEASES')
    const line = await failing('-p', String(SSH))
    expect([await sees(), line.reason]).toEqual(['silence', expect.stringContaining('holding the xtables lock')])
    mend()
    expect([await open(), await sees()]).toMatchObject([{ msg: 'accepted' }, 'open'])
  })

  it('half-way through a grant opens nothing of it, and says so', async () => {
    fail('--dport 443', 'refused')
    expect(await failing('-p', '0', '-t', '1h')).toMatchObject({ service: '22/tcp,443/tcp', level: 50 })
    expect([await sees(SSH), await sees(WEB)]).toEqual(['silence', 'silence'])
  })

  it('for one key opens for the others, and ends what is to end', async () => {
    const key = await gate.newKey('other', '--services', '22/tcp')
    await daemon.line((line) => logged('reloaded')(line) && JSON.parse(line).keys > 1)
    await open()
    fail(':other:', 'refused')
    const since = daemon.lines.length
    await client.must(knock({ key }, '-p', String(SSH), '--passes', '1'))
    await daemon.line(logged('cannot change the firewall rules', { key: 'other' }), since)
    await close()
    expect(await sees()).toBe('silence')
    expect([await knocked(client, daemon, gate.key, '-p', String(WEB)), await sees(WEB)]).toMatchObject([
      { msg: 'accepted' },
      'open',
    ])
    await gate.knockturn('key', 'revoke', 'other', '--keys', gate.keys)
  })

  it('while it looks for the passcode ports keeps no revocation waiting', async () => {
    const since = daemon.lines.length
    const key = await gate.newKey('held', '--services', '22/tcp')
    appendFileSync(join(gate.keys, 'held.key'), '\n[passcode]\npin = "1234"\n')
    await daemon.line(logged('the log rules do not cover the passcode ports: run "knockturn firewall install"'), since)
    writeFileSync(join(tools, 'held'), '')
    await gate.newKey('another', '--services', '22/tcp')
    // Time for the daemon to see the one change before the other.
    await new Promise((resolve) => setTimeout(resolve, 1_000))
    await gate.knockturn('key', 'revoke', 'held', '--keys', gate.keys)
    await new Promise((resolve) => setTimeout(resolve, 1_000))
    expect(await knocked(client, daemon, key, '-p', String(SSH))).toMatchObject({ msg: 'refused', refusal: 'revoked' })
  })

  it('to make a lease longer leaves it as it was', async () => {
    await open('-t', '10m')
    const before = await server.leases(client)
    fail('-D KNOCKTURN-LEASES')
    await failing('-p', String(SSH), '-t', '1h')
    expect([await server.leases(client), await sees()]).toEqual([before, 'open'])
    mend()
    await close()
    await until(async () => (await rules()) === 0, 'no rule is left')
  })

  it('to close a door that is opened again meanwhile leaves nothing open when that is closed', async () => {
    await open('-t', '10m')
    fail('-D KNOCKTURN-LEASES')
    await failing('--close')
    await send('-p', String(SSH), '-t', '1h')
    mend()
    await close()
    await client.becomes(server.ipv4, SSH, 'silence')
    await until(async () => (await rules()) === 0, 'no rule is left')
  })

  it('to close a door is asked again until it is shut, and says only then that it is', async () => {
    await open()
    fail('-D KNOCKTURN-LEASES')
    const since = daemon.lines.length
    await failing('--close')
    expect(await sees()).toBe('open')
    expect(daemon.lines.slice(since).filter((line) => logged('closed')(line) || logged('accepted')(line))).toEqual([])
    mend()
    await client.becomes(server.ipv4, SSH, 'silence')
    await daemon.line(logged('closed', { service: '22/tcp' }), since)
  })
})
