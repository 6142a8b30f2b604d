// A real sshd on a lab's server, and what its clients need: one user, who is whoever runs the lab.

import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import type { Lab } from '../lab/lab'
import { BIN } from '../root'

const USER = 'traveller'

/**
 * Starts sshd, for the key of its one user. `ssh gate` knocks by the one line of the clients' ssh_config; where the firewall
 * lets it in, `ssh
 * open` comes in without.
 * @param key the client's copy of a key called "gate", for its keyring; null: nobody knocks
 * @param ports of sshd: behind the gate, and open
 * @param names of hosts, with their addresses
 * @param server where it runs
 */
export async function serveSsh(
  lab: Lab,
  key: string | null,
  ports: number[] = [22, 2222],
  names: Record<string, string[]> = {},
  server = lab.server,
) {
  const folder = lab.folder()
  const file = (name: string) => join(folder, name)
  mkdirSync(file('knockturn/keys'), { recursive: true, mode: 0o700 })
  if (key !== null) copyFileSync(key, file('knockturn/keys/gate.key'))

  /**
   * A command that finds the user and the names of hosts: `ip netns exec` has mounts of its own, and so what is below /etc may
   * be ours.
   */
  const inside = (...argv: string[]) => {
    const mounts = ['passwd', 'hosts'].map((name) => `mount --bind "$0/${name}" "/etc/${name}"`)
    return ['sh', '-c', [...mounts, 'exec "$@"'].join(' && '), folder, ...argv]
  }
  const [uid, gid] = [process.getuid?.(), process.getgid?.()]
  writeFileSync(file('passwd'), `${USER}:*:${uid}:${gid}::${folder}:/bin/sh\nsshd:*:64999:65534::/run/sshd:/usr/sbin/nologin\n`)
  const hosts = Object.entries(names).flatMap(([name, addresses]) => addresses.map((address) => `${address} ${name}`))
  writeFileSync(file('hosts'), `${['127.0.0.1 localhost', ...hosts].join('\n')}\n`)
  mkdirSync('/run/sshd', { recursive: true })
  for (const name of ['host', USER]) await server.must(inside('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', file(name)))
  const lines = (...text: string[]) => `${text.join('\n')}\n`
  writeFileSync(
    file('sshd_config'),
    lines(
      ...ports.map((port) => `Port ${port}`),
      `HostKey ${file('host')}`,
      `AuthorizedKeysFile ${file(USER)}.pub`,
      'PidFile none',
      'UsePAM no',
      'UseDNS no',
      'StrictModes no',
      'PermitRootLogin yes',
      'PasswordAuthentication no',
    ),
  )
  writeFileSync(
    file('ssh_config'),
    lines(
      'Host gate',
      '  ProxyCommand knockclient connect %h %p',
      `Host open`,
      `  HostName ${server.ipv4}`,
      `  Port ${ports[1]}`,
      'Host *',
      `  User ${USER}`,
      `  IdentityFile ${file(USER)}`,
      `  UserKnownHostsFile ${file('known_hosts')}`,
      '  StrictHostKeyChecking accept-new',
      '  LogLevel ERROR',
    ),
  )
  const sshd = server.start(inside('/usr/sbin/sshd', '-D', '-e', '-f', file('sshd_config')))
  await sshd.line((line) => line.startsWith('Server listening'))
  return {
    file,
    inside,
    sshd,
    /** The environment in which knockclient is found, and its keyring. */
    env: { XDG_CONFIG_HOME: folder, PATH: [BIN, process.env.PATH].join(delimiter) },
    /** The start of a command, and what goes before the host. */
    ssh: (...options: string[]) => ['ssh', '-F', file('ssh_config'), ...options],
  }
}
