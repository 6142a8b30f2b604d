import { chmodSync, existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import type { Check } from '../../src/system/check'
import { fault, PATIENCE, Patient, verdicts } from './patient'
import { useGate } from './use-gate'

/* knockturn doctor on real servers: it finds each fault that is planted, names its remedy, and the remedy mends it. */

const SSH = 22

/** What no test can have healthy: who keeps this machine's clock, and its systemd; and what is not of this server. */
const SURROUNDINGS = ['clock kept', 'node', 'units', 'other firewalls', 'modules', 'hearing']

describe.each(['nftables', 'iptables'] as const)('knockturn doctor, with a guard of %s', (backend) => {
  const { server, gate } = useGate(['client'], {
    backend,
    guard: [`${SSH}/tcp`, `${SSH}/udp`],
    serve: [SSH],
    keyOptions: ['--services', `${SSH}/tcp`],
  })
  let patient: Patient
  /** What is the same with any backend. */
  const once = it.runIf(backend === 'nftables')

  beforeAll(async () => {
    patient = new Patient(server, gate)
    await gate.knockturn('guard', 'save', '--config', gate.config)
  })

  it('finds all well on a server that is well', async () => {
    const checks = await patient.checks(undefined, true)
    expect(checks.filter(({ name, verdict }) => verdict !== 'ok' && !SURROUNDINGS.includes(name))).toEqual([])
    expect(new Set(checks.map(({ name }) => name)).size).toBeGreaterThan(20)
    expect(checks.every(({ evidence }) => evidence !== '')).toBe(true)
  })

  it('prints one line a check, with the remedy below, and how many there are', async () => {
    const { stdout } = await patient.run(['--no-try'])
    const lines = stdout.trimEnd().split('\n')
    expect(lines.filter((line) => !/^((ok|note|fault|unknown) +\S.*| +hint: .*|)$/.test(line))).toEqual([
      expect.stringMatching(/^\d+ faults?, \d+ notes?, \d+ unknown, \d+ ok$/),
    ])
    // Colour is for terminals.
    expect(stdout).not.toContain('\u001b')
  })

  it('finds a rule in front of the guard, or a guard that is not there, and its remedy mends it', async () => {
    await gate.daemon.end()
    try {
      expect(await patient.of('daemon')).toMatchObject([fault(/^no daemon runs: nobody holds \S+ledger/, /^start it/)])
      const plant =
        backend === 'nftables'
          ? ['nft', 'flush', 'chain', 'inet', 'knockturn', 'guard']
          : ['iptables', '-t', 'mangle', '-I', 'PREROUTING', '-p', 'tcp', '--dport', '22', '-j', 'ACCEPT']
      await server.must(plant)
      const [check] = await patient.of('guard')
      expect(check).toMatchObject(fault(/the guard is not in place, or not whole, or another rule/, /knockturn firewall install/))
      expect(await patient.of('services')).toContainEqual(
        expect.objectContaining(fault(/the guard is not in place/, /firewall install/)),
      )
      await patient.follow(check)
      expect(verdicts(await patient.of('guard'))).toEqual(['ok'])
    } finally {
      if (backend === 'iptables')
        await server.run(['iptables', '-t', 'mangle', '-D', 'PREROUTING', '-p', 'tcp', '--dport', '22', '-j', 'ACCEPT'])
      gate.daemon = await gate.startDaemon()
    }
  })

  it('finds DNAT in front of the guard', async () => {
    const table = 'table ip early { chain pre { type nat hook prerouting priority -160; tcp dport 9 redirect to 22; }; }\n'
    await server.must(['nft', '-f', '-'], { input: table })
    try {
      expect(await patient.of('guard in front')).toMatchObject([fault(/nft chain ip early pre \(priority -160\)/, /dstnat/)])
    } finally {
      await server.must(['nft', 'delete', 'table', 'ip', 'early'])
    }
  })

  it('finds that the saved guard is of another time, or missing, and its remedy mends it', async () => {
    const name = backend === 'nftables' ? 'guard.nft' : 'guard.iptables'
    const path = join(gate.folder, name)
    const text = readFileSync(path)
    writeFileSync(path, `${text}\n# old\n`)
    expect(await patient.of('saved guard')).toMatchObject([{ verdict: 'note', evidence: expect.stringContaining(path) }])
    rmSync(path)
    const [check] = await patient.of('saved guard')
    expect(check).toMatchObject(fault(/at boot the guarded ports are open/, /^run "knockturn guard save && /))
    await gate.knockturn('guard', 'save', '--config', gate.config)
    expect(verdicts(await patient.of('saved guard'))).toEqual(['ok'])
  })

  once('finds a daemon that has nearly no file descriptor left', async () => {
    const [, pid] = /process (\d+) runs/.exec((await patient.of('daemon'))[0]?.evidence ?? '') ?? []
    const used = readdirSync(`/proc/${pid}/fd`).length
    // Only its own user may do this without CAP_SYS_RESOURCE.
    const { uid, gid } = gate.user
    const limit = (files: number) =>
      server.must([
        'setpriv',
        '--reuid',
        `${uid}`,
        '--regid',
        `${gid}`,
        '--clear-groups',
        'prlimit',
        '--pid',
        `${pid}`,
        `--nofile=${files}:`,
      ])
    await limit(used + 2)
    try {
      expect(await patient.of('limits')).toMatchObject([fault(/the daemon has \d+ of \d+ open files/, /LimitNOFILE=/)])
    } finally {
      await limit(1_024)
    }
    expect(verdicts(await patient.of('limits'))).toEqual(['ok'])
  })

  once('finds a key that others may read, one of another server, and a keyring without a key', async () => {
    const key = join(gate.keys, 'traveller.key')
    const text = readFileSync(key, 'utf8')
    chmodSync(key, 0o644)
    const [check] = await patient.of('keys')
    expect(check).toMatchObject(fault(/traveller\.key: expected mode 0600, got 0644/, /chmod 600/))
    await patient.follow(check as Check)
    expect(verdicts(await patient.of('keys'))).toEqual(['ok'])
    writeFileSync(key, text.replace('gate.example', 'other.example'))
    expect((await patient.of('keys'))[0]).toMatchObject({ verdict: 'fault', evidence: expect.stringContaining('other.example') })
    writeFileSync(key, text)
    renameSync(key, `${key}.away`)
    expect(await patient.of('keys')).toContainEqual(expect.objectContaining(fault(/contains no key/, /knockturn key new/)))
    renameSync(`${key}.away`, key)
  })

  once('finds a key that expires soon', async () => {
    const soon = new Date(Date.now() + 3 * 86_400_000).toISOString().slice(0, 10)
    await gate.newKey('soon', '--services', '22/tcp', '--expires', soon)
    expect(await patient.of('key ends')).toMatchObject([
      { verdict: 'note', evidence: expect.stringMatching(/soon \([23] days\)/) },
    ])
    rmSync(join(gate.keys, 'soon.key'))
  })

  once('finds what listens unguarded, and nothing in what loopback alone reaches', async () => {
    const open = server.start(['nc', '-lk', '0.0.0.0', '8088'])
    const local = server.start(['nc', '-lk', '127.0.0.1', '8089'])
    try {
      await expect.poll(() => server.must(['ss', '-Hltn']), { timeout: 10_000 }).toMatch(/8088[\s\S]*8089|8089[\s\S]*8088/)
      const [check] = await patient.of('listeners')
      expect(check).toMatchObject({
        verdict: 'note',
        evidence: expect.stringContaining('8088/tcp (nc)'),
        remedy: expect.stringContaining('add "8088/tcp" to guard'),
      })
      expect(check?.evidence).not.toContain('8089')
    } finally {
      await open.end('SIGKILL')
      await local.end('SIGKILL')
    }
    expect(verdicts(await patient.of('listeners'))).toEqual(['ok'])
  })

  it('finds a service that a key opens and nothing guards', async () => {
    await gate.newKey('web', '--services', '8080/tcp')
    expect(await patient.of('services')).toMatchObject([fault(/8080\/tcp is not guarded/, /add "8080\/tcp" to guard/)])
    rmSync(join(gate.keys, 'web.key'))
  })

  it('finds a firewall that keeps leases from opening anything', async () => {
    const table = 'table inet other { chain in { type filter hook input priority 0; policy drop; }; }\n'
    await server.must(['nft', '-f', '-'], { input: table })
    try {
      const [check] = await patient.of('services')
      expect(check).toMatchObject(
        fault(/no lease opens 22\/tcp over IPv4 and IPv6: table inet other/, /nft insert rule inet other in/),
      )
      await patient.follow(check as Check)
      expect(verdicts(await patient.of('services'))).toEqual(['ok'])
    } finally {
      await server.must(['nft', 'delete', 'table', 'inet', 'other'])
    }
  })

  once('finds two kinds of iptables', async () => {
    const before = await patient.of('other firewalls')
    await server.must(['iptables-legacy', '-A', 'INPUT', '-p', 'tcp', '--dport', '7', '-j', 'ACCEPT'])
    try {
      expect(await patient.of('other firewalls')).toContainEqual(
        expect.objectContaining({
          verdict: 'note',
          evidence: expect.stringMatching(/rules of iptables-legacy stand beside .*iptables filter/),
        }),
      )
    } finally {
      await server.must(['iptables-legacy', '-D', 'INPUT', '-p', 'tcp', '--dport', '7', '-j', 'ACCEPT'])
    }
    expect(verdicts(await patient.of('other firewalls'))).toEqual(verdicts(before))
  })

  once('finds a clock that is off, and one that nothing keeps', async () => {
    const chronyc = (offset: number, leap: string) =>
      patient.shadow({ chronyc: `echo A29FC801,192.0.2.1,4,1700000000.1,${offset},0,0,1,0,0.1,0.02,0.001,64.2,${leap}` })
    expect(await patient.of('clock kept', chronyc(0.0001, 'Normal'))).toMatchObject([{ verdict: 'ok' }])
    expect(await patient.of('clock kept', chronyc(90, 'Normal'))).toMatchObject([
      fault(/the clock is 90\.0 s behind \(chronyc\)/, /chronyc makestep/),
    ])
    const timedatectl = patient.shadow({
      chronyc: 'exit 1',
      ntpq: 'exit 1',
      adjtimex: 'exit 1',
      timedatectl: 'echo NTPSynchronized=no',
    })
    expect(await patient.of('clock kept', timedatectl)).toMatchObject([
      { verdict: 'note', evidence: expect.stringContaining('nothing keeps the clock') },
    ])
  })

  once('finds a program that is missing, and claims nothing of what it would have shown', async () => {
    const text = readFileSync(gate.config, 'utf8')
    const hidden = (argv: string[]) => [
      'unshare',
      '--mount',
      'sh',
      '-c',
      'mount --bind /dev/null "$(command -v tcpdump)" && exec "$@"',
      'sh',
      ...argv,
    ]
    const { stdout } = await server.run(hidden([...patient.knockturn, 'doctor', '--json', '--no-try', '--config', gate.config]), {
      timeoutMs: PATIENCE,
    })
    const checks = (JSON.parse(stdout) as { checks: Check[] }).checks.filter(({ name }) => name === 'programs')
    expect(checks).toMatchObject([fault(/^tcpdump is not installed$/, /apt-get install tcpdump/)])
    expect(readFileSync(gate.config, 'utf8')).toBe(text)
  })

  once('claims nothing where the config has a fault', async () => {
    const text = readFileSync(gate.config, 'utf8')
    writeFileSync(gate.config, text.replace(/^skew = .*$/m, 'skew = 99'))
    const checks = await patient.checks().finally(() => writeFileSync(gate.config, text))
    expect(checks.filter(({ name }) => name === 'config')).toMatchObject([
      { verdict: 'fault', evidence: expect.stringMatching(/knockturn\.toml:\d+: /) },
    ])
    for (const name of ['services', 'guard', 'daemon', 'log rules'])
      expect(checks.filter((check) => check.name === name)).toMatchObject([{ verdict: 'unknown' }])
  })

  once('is for root', async () => {
    const { code, stdout, stderr } = await server.run([
      'setpriv',
      '--reuid',
      '65534',
      '--clear-groups',
      ...patient.knockturn,
      'doctor',
    ])
    expect([code, stdout, stderr]).toEqual([1, '', expect.stringMatching(/only root sees .*\nhint: run this as root/)])
  })

  it('leaves everything as it was', async () => {
    const rules = () => server.must(['sh', '-c', 'nft -s list ruleset; iptables-save; ip6tables-save; ip -br link'])
    const state = async () => [
      (await rules()).replace(/^#.*$|\[\d+:\d+\]/gm, ''),
      readdirSync(gate.folder),
      existsSync('/run/netns'),
    ]
    const before = await state()
    await patient.checks(undefined, true)
    expect(await state()).toEqual(before)
  })
})
