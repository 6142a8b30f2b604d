import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import { knocked } from '../lab/knocks'
import type { Child } from '../lab/processes'
import { until } from '../lab/waiters'
import { useGate } from './use-gate'

const [SSH, WEB] = [22, 443]
const COMMANDS = ['iptables', 'ip6tables', 'iptables-restore', 'ip6tables-restore', 'tcpdump', 'setpriv', 'flock', 'prlimit']

const { server, client, gate } = useGate(['client'], {
  keyOptions: ['--services', `${SSH}/tcp,${WEB}/tcp`, '--max', '1h', '--lock'],
})
let daemon: Child
let seen: string

beforeAll(async () => {
  await gate.daemon.end()
  // Each command that the daemon starts first notes what a local user can see: the arguments of every process on the server.
  const bin = join(gate.folder, 'bin')
  seen = join(gate.folder, 'seen')
  mkdirSync(bin, { mode: 0o755 })
  writeFileSync(seen, '')
  chmodSync(seen, 0o666)
  for (const name of COMMANDS) {
    const real = (await server.must(['sh', '-c', `command -v ${name}`])).trim()
    writeFileSync(
      join(bin, name),
      // One process for all of it: the daemon gives its commands seconds, and a busy machine has hundreds of processes.
      `#!/usr/bin/perl
my $here = readlink '/proc/self/ns/net';
open my $seen, '>>', '${seen}' or die;
for my $process (glob '/proc/[0-9]*') {
  next if (readlink("$process/ns/net") // '') ne $here;
  open my $file, '<', "$process/cmdline" or next;
  my $line = join ' ', map { split /\\0/ } <$file>;
  print $seen "$line\\n";
}
close $seen;
exec { '${real}' } '${real}', @ARGV;
`,
      { mode: 0o755 },
    )
  }
  daemon = server.start(gate.command, { env: { PATH: `${bin}:${process.env.PATH}` } })
  await daemon.line(logged('ready'))
})

describe('the arguments of the server’s processes', () => {
  it('name no address, port, key or lease, while doors are opened, prolonged, closed and locked', async () => {
    const ids = new Set<string>()
    const by = async (...options: string[]) => {
      const said = await knocked(client, daemon, gate.key, ...options)
      expect(said.msg).toBe('accepted')
      for (const id of [said.fingerprint, ...said.leases]) ids.add(id)
    }
    await by('-p', '0', '-t', '1m')
    await by('-p', '0', '-t', '2m')
    await by('-p', String(SSH), '-6', '-r', server.ipv6)
    await by('--close')
    await by('--lock', '-t', '1m')
    const lines = () => readFileSync(seen, 'utf8').split('\n')
    await until(() => lines().filter((line) => /iptables(-restore)? /.test(line)).length >= 4, 'changes were seen')
    const secrets = [client.ipv4, client.ipv6, 'traveller', 'dport', ...ids]
    const tells = (line: string) =>
      secrets.some((secret) => line.includes(secret)) || line.split(' ').some((word) => [`${SSH}`, `${WEB}`].includes(word))
    expect(ids.size).toBeGreaterThan(2)
    expect(lines().filter(tells)).toEqual([])
  })
})
