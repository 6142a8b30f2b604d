import { chmodSync, chownSync, copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { logged, USER } from '../lab/gate'
import type { Host } from '../lab/host'
import { knock, knocked } from '../lab/knocks'
import type { Lab } from '../lab/lab'
import { until } from '../lab/waiters'
import { ROOT } from '../root'
import { serveSsh } from './sshd'
import { useGate } from './use-gate'

/* Leases by a user's own program: the examples of docs/command.md as they stand there, with real packets. */

const WEB = 8080
const PAGE = readFileSync(join(ROOT, 'docs/command.md'), 'utf8')
/** The example in the page that has these words. */
function example(language: string, words: string) {
  const found = [...PAGE.matchAll(/^ *```(\w+)\n([\s\S]*?)^ *```$/gm)].find(
    ([, is, text]) => is === language && text.includes(words),
  )
  if (!found) throw new Error(`docs/command.md has no example with ${words}`)
  return found[2]
}

/** The page's log rules, for all that the daemon's machine hears. */
async function logKnocks({ server }: Lab) {
  for (const rule of example('sh', 'nflog-prefix').trim().split('\n'))
    for (const iptables of ['iptables', 'ip6tables'])
      await server.must(['sh', '-c', rule.trim().replace('iptables', iptables).replace('-I INPUT', '-I INPUT -i eth0')])
}

/** A table of the config with the words of the page's. */
const commandTable = (text: string, changes: Record<string, string>) =>
  Object.entries(changes).reduce((all, [from, to]) => all.replaceAll(from, to), text.slice(text.indexOf('[firewall.command]')))

/** What makes a command the daemon's user's. */
const AS_DAEMON = process.getuid?.() === 0 ? ['setpriv', '--reuid', `${USER.uid}`, '--clear-groups'] : []

/** A folder that the daemon's user may look into, wherever the temporary ones lie. */
function placeOf(lab: Lab): string {
  const place = mkdtempSync('/run/daemon-')
  lab.endings.push(() => rmSync(place, { recursive: true }))
  return place
}

const keyOptions = ['--services', `${WEB}/tcp`, '--max', '1h', '--allow-until-closed']

describe('on an OpenWrt router, over ssh', () => {
  /** What the router's script does first. */
  let hindrance = ''
  let sshConfig = ''
  const { server, router, client, stranger, gate } = useGate(['router', 'client', 'stranger'], async (lab) => {
    const { router } = lab.hosts
    await logKnocks(lab)
    await router.service(WEB)
    await router.must(['nft', '-f', '-'], { input: `table inet fw4 {\n${example('nft', 'knock_input')}\n}\n` })
    const site = await serveSsh(lab, null, [22], {}, router)
    const door = site.file('knockturn-door')
    hindrance = site.file('hindrance')
    const script = example('sh', '# knockturn-door').replace(/^set .*$/m, `$&\n[ -e ${hindrance} ] && . ${hindrance}`)
    writeFileSync(door, script)
    chmodSync(door, 0o755)
    const pub = readFileSync(site.file('traveller.pub'), 'utf8')
    writeFileSync(site.file('traveller.pub'), `restrict,command="${door}" ${pub}`)
    // What the daemon's user has.
    const home = placeOf(lab)
    copyFileSync(site.file('traveller'), join(home, 'router'))
    const lines = ['Host router', `HostName ${router.ipv4}`, 'User traveller', `IdentityFile ${home}/router`]
    const more = [
      'BatchMode yes',
      'ConnectTimeout 5',
      `UserKnownHostsFile ${home}/known_hosts`,
      'StrictHostKeyChecking accept-new',
    ]
    sshConfig = join(home, 'config')
    writeFileSync(sshConfig, [...lines, ...more].join('\n'))
    for (const path of [home, join(home, 'router'), join(home, 'config')]) chownSync(path, USER.uid, USER.gid)
    chmodSync(home, 0o755)
    const table = commandTable(example('toml', 'backend = "command"'), {
      '"ssh", "router"': `"ssh", "-F", "${home}/config", "router"`,
    })
    return { backend: 'command', firewall: table, keyOptions }
  })
  const sees = async (host: Host, family: 'ipv4' | 'ipv6' = 'ipv4') => (await host.connect(router[family], WEB, 300)).saw
  const open = (...options: string[]) => knocked(client, gate.daemon, gate.key, '-p', String(WEB), ...options)
  const doors = async () => (await router.must(['nft', 'list', 'table', 'inet', 'fw4'])).match(/\. tcp \. \d+/g) ?? []
  const kept = () => JSON.parse(readFileSync(`${gate.ledger}.open`, 'utf8')).ways
  const hinder = (script: string) => writeFileSync(hindrance, script)
  const isShut = async () => (await doors()).length === 0

  it.each(['ipv4', 'ipv6'] as const)(
    'a knock opens for the asked address only, and a close shuts it, over %s',
    async (family) => {
      const way = ['-r', server[family], family === 'ipv4' ? '-4' : '-6']
      expect([await sees(client, family), await sees(stranger, family)]).toEqual(['silence', 'silence'])
      expect(await open(...way)).toMatchObject({ msg: 'accepted', address: client[family] })
      expect([await sees(client, family), await sees(stranger, family)]).toEqual(['open', 'silence'])
      expect(await open(...way, '--close')).toMatchObject({ msg: 'accepted', action: 'close' })
      expect([await sees(client, family), await doors()]).toEqual(['silence', []])
    },
  )

  it('a lease ends by itself with the daemon killed, since the router knows its end', async () => {
    await open('-t', '5s')
    expect(await sees(client)).toBe('open')
    await gate.daemon.end('SIGKILL')
    await until(isShut, 'the end of the lease')
    expect(await sees(client)).toBe('silence')
    gate.daemon = await gate.startDaemon()
    await until(() => kept().length === 0, 'the end of the lease in the file')
  })

  it('a daemon that is stopped leaves leases to the router, and the next one knows them', async () => {
    await open()
    await gate.daemon.end()
    expect(await sees(client)).toBe('open')
    gate.daemon = await gate.startDaemon()
    await gate.daemon.line(logged('restored', { kept: 1 }))
    await open('--close')
    expect(await sees(client)).toBe('silence')
  })

  it('a router that has forgotten all is told again when the daemon starts', async () => {
    await open()
    await gate.daemon.end()
    await router.must(['nft', 'flush', 'set', 'inet', 'fw4', 'knock4'])
    expect(await sees(client)).toBe('silence')
    gate.daemon = await gate.startDaemon()
    await client.becomes(router.ipv4, WEB, 'open')
    await open('--close')
  })

  it('the key of the daemon can do nothing else on the router', async () => {
    const before = await router.must(['nft', 'list', 'ruleset'])
    const ssh = (...words: string[]) => server.run([...AS_DAEMON, 'ssh', '-F', sshConfig, ...words])
    for (const words of [
      'id',
      'open 198.51.100.9};flush{ tcp 22 5',
      'open 198.51.100.9 tcp 22}\\;flush 5',
      'open * tcp 22 5',
      'open "a" tcp 22 5',
    ])
      expect(await ssh('router', words)).toMatchObject({ code: 1 })
    expect(await router.must(['nft', 'list', 'ruleset'])).toBe(before)
    expect(await ssh('router', 'list')).toMatchObject({ code: 0, stdout: '' })
  })

  it('once is refused, with the reason', async () => {
    expect(await open('--once')).toMatchObject({
      msg: 'refused',
      refusal: 'not-granted',
      reason: 'the backend cannot count connections: knock without --once',
    })
    expect(await doors()).toEqual([])
  })

  it('a daemon that is killed in the middle of an opening closes it in its next life', async () => {
    // It never ends, and has opened by then.
    hinder('[ "$1" = open ] && nft add element inet fw4 knock4 "{ $2 . $3 . $4 }" && sleep 1000')
    const verdict = open('-t', '8s').catch(() => null)
    await client.becomes(router.ipv4, WEB, 'open')
    await gate.daemon.end('SIGKILL')
    await verdict
    // ssh has died with the daemon, and what it had begun to do is done.
    await until(async () => !(await server.must(['ps', '-eo', 'args'])).includes(`open ${client.ipv4}`), 'the end of ssh')
    expect(kept()).toMatchObject([{ isOpen: false }])
    rmSync(hindrance)
    gate.daemon = await gate.startDaemon()
    await until(isShut, 'the end')
    await until(() => kept().length === 0, 'the end in the file')
  })

  it('a close that fails is said, and made when the router is there again, also after a restart', async () => {
    await open('-t', '0')
    hinder('echo "out of order" >&2; exit 5')
    const since = gate.daemon.lines.length
    await client.must(knock(gate, '--passes', '1', '-p', String(WEB), '--close'))
    const line = await gate.daemon.line(logged('cannot change the firewall rules'), since)
    expect(JSON.parse(line).reason).toBe('ssh ended with exit code 5: out of order')
    expect(await sees(client)).toBe('open')
    await gate.daemon.end('SIGKILL')
    gate.daemon = await gate.startDaemon()
    await gate.daemon.line(logged('cannot change the firewall rules'))
    rmSync(hindrance)
    await until(isShut, 'the end')
    expect(await sees(client)).toBe('silence')
  })
})

describe('that keeps a file', () => {
  let folder = ''
  const { client, stranger, gate } = useGate(['client', 'stranger'], async (lab) => {
    await logKnocks(lab)
    folder = placeOf(lab)
    chownSync(folder, USER.uid, USER.gid)
    const program = join(folder, 'knockturn-file')
    writeFileSync(program, example('sh', '# knockturn-file').replace('/var/lib/knockturn', folder))
    chmodSync(program, 0o755)
    chmodSync(folder, 0o755)
    return {
      backend: 'command',
      firewall: commandTable(example('toml', 'knockturn-file'), { '/usr/local/bin': folder }),
      keyOptions,
    }
  })
  const doors = () => readFileSync(join(folder, 'doors'), 'utf8').split('\n').filter(Boolean)
  const open = (host: Host, ...options: string[]) => knocked(host, gate.daemon, gate.key, '-p', String(WEB), ...options)

  it('has a line for each lease as long as it lasts', async () => {
    await open(client)
    await open(stranger, '-t', '2s')
    expect(doors()).toContain(`${client.ipv4} tcp ${WEB}`)
    await until(() => doors().length === 1, 'the end of the short lease')
    expect(doors()).toEqual([`${client.ipv4} tcp ${WEB}`])
    await open(client, '--close')
    expect(doors()).toEqual([])
  })

  it('closes all but what is open until it is closed, when the daemon is stopped: nobody else would', async () => {
    await open(client)
    await open(stranger, '-t', '0')
    await gate.daemon.end()
    expect(doors()).toEqual([`${stranger.ipv4} tcp ${WEB}`])
    gate.daemon = await gate.startDaemon()
    await open(stranger, '--close')
    expect(doors()).toEqual([])
  })

  it('closes what the daemon has opened when another backend takes its place', async () => {
    await open(client)
    await gate.daemon.end('SIGKILL')
    expect(doors()).toEqual([`${client.ipv4} tcp ${WEB}`])
    const config = readFileSync(gate.config, 'utf8').replace('backend = "command"', 'backend = "iptables"')
    writeFileSync(gate.config, config.replace(/\[firewall\.command\][\s\S]*?(?=\[ledger\])/, ''))
    await gate.knockturn('firewall', 'install', '--config', gate.config)
    gate.daemon = await gate.startDaemon()
    const isUnknown = { backend: 'command', reason: '[firewall.command] is no longer in the config' }
    await gate.daemon.line(logged('cannot remove what another backend left open', isUnknown))
    expect([doors().length, existsSync(`${gate.ledger}.open`)]).toEqual([1, true])
    await gate.daemon.end()
    writeFileSync(gate.config, config)
    gate.daemon = await gate.startDaemon()
    await gate.daemon.line(logged('removed what another backend left in the firewall', { backend: 'command' }))
    expect([doors(), existsSync(`${gate.ledger}.open`)]).toEqual([[], false])
  })
})
