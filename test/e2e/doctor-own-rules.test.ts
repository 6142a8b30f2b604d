import { chmodSync, mkdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { formatHeader, formatRecord, HEADER } from '../../src/daemon/ledger/record'
import type { Check } from '../../src/system/check'
import { must } from '../lab/processes'
import { fault, Patient, verdicts } from './patient'
import { useGate } from './use-gate'
import { xtablesWithout } from './xtables'

/* What knockturn doctor finds on a server without a guard, whose doors the administrator's own rules shut. */

const SSH = 22

describe('knockturn doctor, with rules of the administrator’s own', () => {
  const { server, gate } = useGate(['client'], {
    backend: 'iptables',
    guard: null,
    serve: [SSH],
    keyOptions: ['--services', '22/tcp'],
  })
  let patient: Patient
  beforeAll(() => {
    patient = new Patient(server, gate)
  })
  afterEach(() => server.must(['iptables', '-P', 'INPUT', 'DROP']))

  it('says that there is no guard, and what to do', async () => {
    expect(await patient.of('guard')).toMatchObject([{ verdict: 'note', remedy: expect.stringContaining('knockturn guard try') }])
    expect(verdicts(await patient.of('services'))).toEqual(['ok'])
  })

  it('finds a service that is open to everyone, and its remedy shuts it', async () => {
    await server.must(['iptables', '-I', 'INPUT', '-p', 'tcp', '--dport', '22', '-j', 'ACCEPT'])
    const [check] = await patient.of('services')
    expect(check).toMatchObject(
      fault(/22\/tcp is open to everyone over IPv4: this rule lets everyone in: -A INPUT/, /iptables -D INPUT/),
    )
    await patient.follow(check as Check)
    expect(verdicts(await patient.of('services'))).toEqual(['ok'])
  })

  it('finds log rules that are not there, and its remedy makes them', async () => {
    await gate.daemon.end()
    await gate.knockturn('firewall', 'remove')
    const [check] = await patient.of('log rules')
    expect(check).toMatchObject({ verdict: 'note', evidence: 'the log rules are not installed' })
    await patient.follow(check as Check)
    expect(verdicts(await patient.of('log rules'))).toEqual(['ok'])
  })

  it('finds a daemon that is deaf to what the firewall logs, and its remedy mends it', async () => {
    await gate.daemon.end()
    const text = readFileSync(gate.config, 'utf8')
    writeFileSync(gate.config, text.replace('group = 5', 'group = 6'))
    await gate.knockturn('firewall', 'install', '--config', gate.config)
    writeFileSync(gate.config, text)
    gate.daemon = await gate.startDaemon()
    const heard = async () => (await patient.checks(undefined, true)).filter(({ name }) => name.startsWith('packets heard'))
    const [over4, over6] = await heard()
    for (const check of [over4, over6])
      expect(check).toMatchObject(fault(/has not come to the daemon/, /knockturn firewall install/))
    await patient.follow(over4 as Check)
    expect(verdicts(await heard())).toEqual(['ok', 'ok'])
    await gate.daemon.end()
  })

  it('finds a ledger that lies in memory, on a disk that is nearly full', async () => {
    const text = readFileSync(gate.config, 'utf8')
    const folder = join(gate.folder, 'memory')
    mkdirSync(folder)
    await must(['mount', '-t', 'tmpfs', '-o', 'size=4m', 'memory', folder])
    writeFileSync(gate.config, text.replace(/^path = .*$/m, `path = "${join(folder, 'ledger')}"`))
    try {
      expect(await patient.of('disk')).toMatchObject([
        fault(/lies in memory \(tmpfs\)/, /set \[ledger\] path/),
        fault(/MiB are left, 16 MiB are needed/, /make room/),
      ])
    } finally {
      writeFileSync(gate.config, text)
      await must(['umount', folder])
    }
  })

  it('finds a file of taps that is not there yet, or is none', async () => {
    const text = readFileSync(gate.config, 'utf8')
    const file = join(gate.folder, 'taps.log')
    writeFileSync(gate.config, text.replace(/\[taps\][^[]*/, `[taps]\nsource = "file"\nfile = "${file}"\n`))
    try {
      expect(await patient.of('tap file')).toMatchObject([
        { verdict: 'note', evidence: expect.stringContaining(`${file}: does not exist yet`) },
      ])
      mkdirSync(file)
      expect(await patient.of('tap file')).toMatchObject([{ verdict: 'fault', evidence: `${file}: is not a regular file` }])
      rmdirSync(file)
      writeFileSync(file, '', { mode: 0o644 })
      expect(verdicts(await patient.of('tap file'))).toEqual(['ok'])
    } finally {
      writeFileSync(gate.config, text)
    }
  })

  it('finds a ledger that others may read, and one that is ahead of the clock', async () => {
    chmodSync(gate.ledger, 0o644)
    const [check] = await patient.of('ledger')
    expect(check).toMatchObject(fault(/ledger: expected mode 0600, got 0644/, /chmod 600/))
    await patient.follow(check as Check)
    expect(verdicts(await patient.of('ledger'))).toEqual(['ok'])
    // As of a daemon that was started while the clock was ahead.
    const text = readFileSync(gate.ledger)
    const line = `${formatRecord({ kind: 'base', seconds: Math.floor(Date.now() / 1_000) + 86_400, ahead: 2 })}\n`
    writeFileSync(gate.ledger, Buffer.concat([formatHeader(HEADER + line.length), Buffer.from(line)]))
    const ahead = await patient.of('ledger').finally(() => writeFileSync(gate.ledger, text))
    expect(ahead).toMatchObject([{ verdict: 'note', evidence: expect.stringMatching(/is ahead of the clock: .*ledger rebase/) }])
  })

  it('finds a program that others may change, and its remedy mends it', async () => {
    const program = join(dirname(gate.folder), 'bin/knockdaemon')
    const { mode } = statSync(program)
    chmodSync(program, mode | 0o002)
    const [check] = await patient.of('installation')
    expect(check).toMatchObject(fault(/bin\/knockdaemon: another user than root could change it/, /chmod o-w/))
    await patient.follow(check as Check)
    expect(verdicts(await patient.of('installation'))).toEqual(['ok'])
  })

  it('finds a kernel that has not all that the rules need', async () => {
    const programs = xtablesWithout('hashlimit', join(dirname(gate.folder), 'no-hashlimit'))
    expect(verdicts(await patient.of('kernel'))).toEqual(['ok'])
    expect(await patient.of('kernel', patient.shadow(programs))).toMatchObject([
      fault(/cannot create rules with "hashlimit", which ours need/, /load the kernel's xt_hashlimit with "modprobe/),
    ])
  })

  it('finds another program that has the NFLOG group, or the ledger', async () => {
    const other = server.start(['tcpdump', '-Z', 'root', '-i', 'nflog:5', '-w', '/dev/null'])
    await other.line((line) => line.includes('listening on'))
    expect(await patient.of('tap source')).toMatchObject([fault(/tcpdump cannot read NFLOG group 5/, /\[taps\] group/)])
    await other.end()
    const holder = server.start(['flock', '--exclusive', '--no-fork', gate.ledger, 'sh', '-c', 'echo there; exec sleep 600'])
    await holder.line((line) => line === 'there')
    expect(await patient.of('daemon')).toMatchObject([
      fault(/in use by process \d+ \(sleep\), which is not a daemon/, /stop that process/),
    ])
    await holder.end()
  })
})
