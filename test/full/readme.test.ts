import { copyFileSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Host } from '../lab/host'
import { type Lab, makeLab } from '../lab/lab'
import { besiege } from '../lab/siege'
import { until } from '../lab/waiters'
import { ROOT } from '../root'
import { onTerminal, type Turn } from '../terminal'
import { Machine, PACKAGED } from './machine'
import { DEB, traces } from './package'

/*
 * What README says, word for word, from a bare server to a guarded door: on two machines that boot, with a real sshd, and everything
 * that an administrator types typed on a terminal, over the very connection that they may cut.
 */

const SSH = 22
/** What a container publishes. */
const WEB = 8080
const NAME = 'gate.example'
/** Most commands that README may have a new user type, on both machines together. */
const MOST = 6

/** What the emergency card has typed to open what the guard has closed, where it is nftables'; and to close it again. */
const card = readFileSync(join(ROOT, 'docs/emergency.md'), 'utf8')
const OPENING = [...card.matchAll(/^\|.*\| `(systemctl stop knockdaemon;[^`]*)` \|$/gm)].map(([, command = '']) => command)
const [, CLOSING = ''] = /^## 3.*?^```sh\n(.*?)^```$/ms.exec(card) ?? []

/** The commands of README's installation, in their order: the server's, then the client's. */
const [onServer = '', onClient = ''] = (() => {
  const readme = readFileSync(join(ROOT, 'README.md'), 'utf8')
  const [section = ''] = readme.split('## Install, and open your first door\n').slice(1)
  return [...(section.split('\n## ')[0] ?? '').matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, text = '']) => text)
})()
const commandsOf = (block: string) => block.split('\n').flatMap((line) => line.replace(/ +#.*$/, '').trim() || [])
const [install = '', setup = ''] = commandsOf(onServer)
const [, add = '', ssh = ''] = commandsOf(onClient)

interface Surroundings {
  readonly name: string
  readonly image: 'bare' | 'neighbours'
  readonly port: number
  /** What the administrator has done before. */
  readonly prepare?: (machine: Machine) => Promise<unknown>
}

const IMAGE =
  'mkdir -p /root/web/bin && cp /usr/bin/busybox /root/web/bin/ && tar -C /root/web -c . | docker import --change \'CMD ["/bin/busybox","httpd","-f","-p","80"]\' - web'
const CASES: readonly Surroundings[] = [
  { name: 'on a bare Debian', image: 'bare', port: SSH },
  {
    name: 'where ufw is enabled',
    image: 'neighbours',
    port: SSH,
    prepare: (machine) =>
      machine.must(['sh', '-euc', `ufw allow ${SSH}/tcp && ufw --force enable && systemctl enable --now ufw`], {
        timeoutMs: 120_000,
      }),
  },
  {
    name: 'where a container publishes a port',
    image: 'neighbours',
    port: WEB,
    prepare: async (machine) => {
      // An overlay can't lie on the overlay that the machine's disk is.
      mkdirSync(join(machine.root, 'etc/docker'), { recursive: true })
      machine.write('etc/docker/daemon.json', '{"storage-driver": "vfs"}')
      await machine.must(['sh', '-euc', `systemctl enable --now docker && ${IMAGE}`], { timeoutMs: 120_000 })
      await machine.must(['docker', 'run', '--detach', '--restart', 'always', '--publish', `${WEB}:80`, '--name', 'web', 'web'])
    },
  },
]

describe('README', () => {
  it(`has at most ${MOST} commands, on both machines together`, () => {
    const commands = [...commandsOf(onServer), ...commandsOf(onClient)]
    expect([commands.length > 3, commands.length <= MOST, commands]).toEqual([true, true, commands])
  })
})

describe.each(CASES)('README $name', ({ image, port, prepare }) => {
  let lab: Lab
  let server: Machine
  let client: Machine
  let stranger: Host
  let before: string[]
  /** What the two terminals have shown. */
  let shownByServer: string
  let shownByClient: string
  /** Milliseconds from the first command on the server to the first session by a knock. */
  let took: number

  const sees = async (host: Host, at = SSH) => (await host.connect(server.host.ipv4, at)).saw
  const inShell = (script: string) => ['sh', '-uc', script]
  const login = (command: string) =>
    client.run(['ssh', '-o', 'BatchMode=yes', '-o', 'ConnectTimeout=20', NAME, command], { timeoutMs: 60_000 })
  /** ssh past all that Knockturn has written, to the address: as it was before. */
  const plain = (command: string) => ['ssh', '-F', 'none', '-tt', `root@${server.host.ipv4}`, command]
  const knows = (machine: Machine, at: Machine) => machine.must(inShell(`echo '${at.host.ipv4} ${NAME}' >> /etc/hosts`))

  beforeAll(async () => {
    lab = await makeLab(['stranger'])
    stranger = lab.hosts.stranger as Host
    ;[server, client] = [new Machine(lab, image), new Machine(lab, 'bare', 60)]
    for (const unit of [...PACKAGED, 'ssh']) server.disable(unit)
    for (const machine of [server, client]) await machine.boot()
    await server.must(['systemctl', 'enable', '--now', 'ssh'])
    await prepare?.(server)
    await knows(client, server)
    // The administrator gets in by a key of ssh's, as ever.
    await client.must(inShell("mkdir -p -m 700 ~/.ssh && ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519"))
    mkdirSync(join(server.root, 'root/.ssh'), { mode: 0o700, recursive: true })
    copyFileSync(join(client.root, 'root/.ssh/id_ed25519.pub'), join(server.root, 'root/.ssh/authorized_keys'))
    await client.must(inShell(`ssh-keyscan -t ed25519 ${server.host.ipv4} ${NAME} > ~/.ssh/known_hosts`))
    for (const { root } of [server, client]) copyFileSync(DEB, join(root, 'root', DEB.split('/').pop() ?? ''))
    before = await traces(server)
  })
  afterAll(() => lab?.end())

  it('ends in a session by a knock, and says that it is permanent', async () => {
    const began = performance.now()
    let first: Promise<unknown> | undefined
    /** What is typed on the client when the server has shown the line. What fails there need not be waited for here. */
    const meanwhile = (shown: string) => {
      first = onClientTerminal(shown).then(
        () => (took = performance.now() - began),
        async (error) => {
          await server.run(['knockturn', 'setup', '--revert'])
          throw error
        },
      )
    }
    const turns: Turn[] = [
      ['clients reach this server', `${NAME}\r`],
      ['opens by a knock only', '\r'],
      ['stays open to everyone', '\r'],
      ['name for your key', 'alice\r'],
      ['Begin?', '\r'],
      ['Ctrl-C takes everything back', meanwhile],
    ]
    const { code, shown } = await onTerminal(
      client.inside(plain(`cd && ${install.replace('apt install', 'apt install -y')} && ${setup}`)),
      turns,
    )
    shownByServer = shown
    if (!first) throw new Error(`the server has shown no line\n${shown}`)
    await first.catch((error) => {
      throw new Error(`${error instanceof Error ? error.message : error}\n${shown.slice(shown.indexOf('reach this server'))}`)
    })
    expect([code, shownByServer]).toEqual([0, expect.stringContaining('permanent')])
    console.log(`from the first command to the first session by a knock: ${(took / 1000).toFixed(1)} s`)
  })

  async function onClientTerminal(shown: string) {
    const [line = ''] = /knockclient add kt1\.\S+/.exec(shown) ?? []
    const [, passphrase = ''] = /passphrase[^\n:]*: ([a-z-]+)/.exec(shown) ?? []
    expect([add.startsWith('knockclient add kt1.'), line, passphrase]).toEqual([
      true,
      expect.stringMatching(/.{100}/),
      expect.stringMatching(/^\w+(-\w+){5}$/),
    ])
    await client.must(inShell(`cd && apt-get install -y ./${DEB.split('/').pop()}`), { timeoutMs: 120_000 })
    const added = await onTerminal(client.inside(inShell(line)), [
      ['passphrase', `${passphrase.trim()}\r`],
      ['yes or no', 'yes\r'],
    ])
    shownByClient = added.shown
    expect([added.code, shownByClient]).toEqual([0, expect.stringContaining('knocks')])
    const { code, stdout, stderr } = await login('echo in; sleep 3')
    expect([ssh, code, stdout, stderr]).toEqual([`ssh ${NAME}`, 0, 'in\n', stderr])
  }

  it('has shut the port to strangers, and what else listened, too', async () => {
    expect([await sees(stranger), await sees(stranger, port)]).toEqual(['silence', 'silence'])
  })

  it('shows no secret on the client’s terminal, and the line and its passphrase once on the server’s', () => {
    expect(shownByServer.match(/^ *knockclient add kt1\./gm)).toHaveLength(1)
    expect(shownByClient).not.toContain('secret')
  })

  it('changes nothing when it is typed again', async () => {
    // The daemon writes its ledger and its state meanwhile.
    const files = () =>
      server.must(inShell("find /etc/knockturn /etc/systemd -printf '%M %u %T+ %p\\n'; stat -c '%A %U' /var/lib/knockturn"))
    const was = await files()
    const { code, shown } = await onTerminal(server.inside(inShell('knockturn setup --yes')))
    expect([code, shown.trim().split('\n').at(-1)]).toEqual([0, 'nothing to change'])
    expect(await files()).toBe(was)
  })

  it('holds over a reboot: strangers never get in, and ssh does', async () => {
    const siege = besiege(stranger, server.host.ipv4, SSH)
    await until(() => (siege.seen.silence ?? 0) > 0, 'the stranger tries')
    const { open = 0 } = await server.reboot().finally(siege.end).then(siege.end)
    expect(open).toBe(0)
    const { code, stdout } = await login('echo in again')
    expect([code, stdout, await sees(stranger), await sees(stranger, port)]).toEqual([0, 'in again\n', 'silence', 'silence'])
  })

  it('is opened from the console by each line of the emergency card, without Node, and closed again', async () => {
    expect(OPENING).toHaveLength(2)
    for (const command of OPENING) {
      await server.must(['sh', '-euc', `mv /usr/bin/node /usr/bin/no-node; { ${command}; }; mv /usr/bin/no-node /usr/bin/node`])
      expect([command, await sees(stranger)]).toEqual([command, 'open'])
      await server.must(inShell(CLOSING), { timeoutMs: 60_000 })
      expect([command, await sees(stranger)]).toEqual([command, 'silence'])
    }
  })

  it('leaves no trace when the package is purged', async () => {
    expect(await sees(stranger)).toBe('silence')
    await server.must(['apt-get', '-y', 'purge', 'knockturn'], { timeoutMs: 120_000 })
    expect(await sees(stranger)).toBe('open')
    const after = await traces(server)
    expect({
      gone: before.filter((one) => !after.includes(one)),
      left: after.filter((one) => !before.includes(one)),
    }).toEqual({ gone: [], left: [] })
  })
})
