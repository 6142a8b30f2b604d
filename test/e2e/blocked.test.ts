import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import { knocked } from '../lab/knocks'
import { BIN } from '../root'
import { useGate } from './use-gate'

/* What --check says of another firewall beside our table, and what that firewall does to a lease. */

const RULESETS = join(import.meta.dirname, '../daemon/exposure/rulesets')
const read = (name: string) => readFileSync(join(RULESETS, name), 'utf8')
const PORTS = [22, 443]

const { server, client, stranger, gate } = useGate(['client', 'stranger'], {
  backend: 'nftables',
  guard: PORTS.map((port) => `${port}/tcp`),
  serve: PORTS,
  keyOptions: ['--services', '22/tcp,443/tcp', '--max', '1h'],
})

const check = () => server.run([...gate.command, '--check'])
const nft = (text: string) => server.must(['nft', '-f', '-'], { input: text })
const iptables = (name: string, family = 'iptables') => server.must([`${family}-restore`], { input: read(`${name}.${family}`) })

/** What there is beside our own table. */
async function clear() {
  const tables = (await server.must(['nft', 'list', 'tables'])).split('\n').filter((line) => line.startsWith('table '))
  await nft(
    tables
      .filter((line) => line !== 'table inet knockturn')
      .map((line) => `delete ${line}\n`)
      .join(''),
  )
}
afterEach(clear)

/** The ports that no lease opens by what --check says, and by what a client with leases for both sees. */
async function compared() {
  const { stdout, stderr, code } = await check()
  await knocked(client, gate.daemon, gate.key, '-r', server.ipv4, '-4', '-p', '0')
  const saw = await Promise.all(
    PORTS.map(async (port) => ((await client.connect(server.ipv4, port)).saw === 'open' ? [] : [port])),
  )
  expect((await stranger.connect(server.ipv4, PORTS[0])).saw).toBe('silence')
  const said = PORTS.filter((port) => new RegExp(`^knockdaemon: error: no lease opens ${port}/tcp over IPv4`, 'm').test(stderr))
  const doubted = PORTS.filter((port) => stdout.includes(`cannot tell whether a lease opens ${port}/tcp over IPv4`))
  expect(code).toBe(said.length > 0 ? 1 : 0)
  return { said, doubted, shut: saw.flat(), stderr }
}

describe('knockdaemon --check', () => {
  it.each([
    ['debian', [22, 443]],
    ['debian-services', []],
    ['firewalld', [443]],
    ['fail2ban', []],
    ['policy', [443]],
  ])('says of the nft ruleset %s which leases open nothing, and they do so', async (name, shut) => {
    await nft(read(`${name}.nft`))
    expect(await compared()).toMatchObject({ said: shut, doubted: [], shut })
  })

  it('says that it can’t tell where a set of ports decides, whose elements may be any', async () => {
    await nft(read('doubtful.nft'))
    expect(await compared()).toMatchObject({ said: [], doubted: PORTS, shut: [] })
  })

  it('says, or can’t tell with an older nft, what a chain at the ingress of an interface drops', async () => {
    await nft(read('ingress.nft'))
    const { said, doubted, shut } = await compared()
    expect([[...said, ...doubted], shut]).toEqual([[443], [443]])
  })

  it.each([
    ['ufw', [22]],
    ['tutorial', [443]],
  ])('says of the iptables rules of %s which leases open nothing, and they do so', async (name, shut) => {
    await iptables(name)
    expect(await compared()).toMatchObject({ said: shut, doubted: [], shut })
  })

  it('says that it can’t tell where Docker has published the port', async () => {
    await iptables('docker')
    expect(await compared()).toMatchObject({ said: [], doubted: [443], shut: [443] })
  })

  it.each(['debian', 'policy', 'tutorial'])('names what opens a lease’s way through %s', async (name) => {
    await (name === 'tutorial' ? iptables(name) : nft(read(`${name}.nft`)))
    const { said, stderr } = await compared()
    const hints = [...stderr.matchAll(/^hint: run (.*): the guard keeps strangers out$/gm)]
    expect(hints.length).toBe(said.length)
    for (const [, commands] of hints)
      for (const [, command] of commands.matchAll(/"([^"]+)"/g)) await server.must(command.split(' '))
    expect(await compared()).toMatchObject({ said: [], doubted: [], shut: [] })
  })

  it('names ufw’s own way', async () => {
    await Promise.all([iptables('ufw'), iptables('ufw', 'ip6tables')])
    expect((await check()).stderr).toMatch(
      /no lease opens 22\/tcp over IPv4 and IPv6: .*\nhint: run "ufw allow 22\/tcp": the guard keeps strangers out\n/,
    )
  })

  it('says that a service is not guarded, and nothing of what lets it through', async () => {
    await gate.newKey('web', '--services', '8080/tcp')
    await nft(read('debian.nft'))
    const { stderr } = await check()
    await server.must(['rm', join(gate.keys, 'web.key')])
    expect(stderr).toMatch(/8080\/tcp is not guarded: .*\nhint: add "8080\/tcp" to guard in \[firewall\]\n/)
    expect(stderr).not.toContain('opens 8080/tcp')
  })

  it('notes that it may not look, where it may not', async () => {
    const user =
      gate.user.uid === process.getuid?.() ? [] : ['--reuid', `${gate.user.uid}`, '--regid', `${gate.user.gid}`, '--clear-groups']
    const unprivileged = ['setpriv', ...user, '--inh-caps=-all', '--ambient-caps=-all', '--bounding-set=-all']
    const { stdout } = await server.run([...unprivileged, ...gate.knockdaemon, '--check', '--config', gate.config])
    expect(stdout).toContain('note: not checked whether leases open the services: reading the firewall requires CAP_NET_ADMIN\n')
  })
})

it('firewall install warns of what stays shut under a lease', async () => {
  await nft(read('debian-services.nft').replace('22, 80, 443', '22'))
  const { code, stderr } = await server.run([join(BIN, 'knockturn'), 'firewall', 'install', '--config', gate.config])
  expect([code, stderr]).toEqual([
    0,
    expect.stringMatching(
      /^knockturn: warning: no lease opens 443\/tcp over IPv4 and IPv6: table inet filter of nft drops it in chain input: run "nft .*\n$/,
    ),
  ])
})

it('the daemon says at its start what stays shut under a lease', async () => {
  await gate.daemon.end()
  await nft(read('debian-services.nft').replace('22, 80, 443', '22'))
  gate.daemon = await gate.startDaemon()
  const line = await gate.daemon.line(logged('no lease opens a service: another firewall drops its packets'))
  expect(JSON.parse(line)).toMatchObject({
    level: 50,
    reason: expect.stringContaining('no lease opens 443/tcp over IPv4 and IPv6'),
  })
  expect(gate.daemon.lines.filter((one) => one.includes('22/tcp over'))).toEqual([])
})
