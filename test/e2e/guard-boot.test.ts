import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { knocked } from '../lab/knocks'
import { besiege } from '../lab/siege'
import { BIN } from '../root'
import { useGate } from './use-gate'

/* The guard that is loaded at boot, by a shell: what a machine has before its network is up, and while no daemon runs. */

const SSH = 22
/** How often the guard is loaded under a siege. */
const LOADS = 10

describe.each([
  { backend: 'nftables', files: ['guard.nft'], flush: ['nft', 'flush', 'ruleset'] },
  {
    backend: 'iptables',
    files: ['guard.ip6tables', 'guard.iptables'],
    flush: ['sh', '-c', 'for i in iptables ip6tables; do $i -t mangle -F && $i -t mangle -X; done'],
  },
] as const)('the guard of $backend', ({ backend, files, flush }) => {
  const { server, client, stranger, gate } = useGate(['client', 'stranger'], {
    backend,
    guard: ['22/tcp'],
    serve: [SSH],
    allowRoot: true,
  })
  const save = () => gate.knockturn('guard', 'save', '--config', gate.config)
  const load = () => server.must([join(BIN, 'knockturn-guard'), gate.folder])
  const saved = () => readdirSync(gate.folder).filter((name) => name.startsWith('guard.'))
  const sees = async () => Promise.all([client, stranger].map(async (host) => (await host.connect(server.ipv4, SSH)).saw))
  const open = () => knocked(client, gate.daemon, gate.key, '-p', String(SSH))
  const original = () => readFileSync(gate.config, 'utf8')
  let config = ''
  afterEach(() => {
    if (config) writeFileSync(gate.config, config)
  })

  it('is saved for its owner alone, and nothing else is', async () => {
    config = original()
    expect(await save()).toContain(join(gate.folder, files[0]))
    expect(saved()).toEqual(files)
    expect(files.map((name) => statSync(join(gate.folder, name)).mode & 0o777)).toEqual(files.map(() => 0o600))
  })

  it('is loaded while the daemon runs, time and again: a lease stays, and no stranger gets in', async () => {
    await open()
    const siege = besiege(stranger, server.ipv4, SSH)
    for (let n = 0; n < LOADS; n++) {
      await load()
      expect((await client.connect(server.ipv4, SSH)).saw).toBe('open')
    }
    const { silence, ...rest } = await siege.end()
    expect([rest, silence]).toEqual([{}, expect.any(Number)])
    // Nor has the daemon anything to put right.
    expect(gate.daemon.lines.filter((line) => line.includes('another program'))).toEqual([])
  })

  it('shuts the ports where there is nothing yet, and a daemon that comes later opens them as ever', async () => {
    await gate.daemon.end()
    await server.must([...flush])
    expect(await sees()).toEqual(['open', 'open'])
    await load()
    expect(await sees()).toEqual(['silence', 'silence'])
    gate.daemon = await gate.startDaemon()
    await open()
    expect(await sees()).toEqual(['open', 'silence'])
  })

  it('hears a knock from the beginning', async () => {
    await gate.daemon.end()
    await server.must([...flush])
    await load()
    const shown = await gate.knockturn('firewall', 'show')
    expect(shown).toMatch(backend === 'nftables' ? /log prefix "KNOCK: " group 5/ : /-j NFLOG .*--nflog-group 5/)
    gate.daemon = await gate.startDaemon()
  })

  it.each([
    ['of a config with a fault', 'prefix = "KNOCK: "', 'prefix = 7', 'prefix'],
    ['of a config without a guard', 'guard = ["22/tcp"]', 'guard = []', 'no guard is set'],
    ['of a keyring that is not there', '/keys"', '/elsewhere"', 'elsewhere'],
  ])('is not saved %s, and what was saved before stays', async (_, text, instead, complaint) => {
    const before = files.map((name) => readFileSync(join(gate.folder, name), 'utf8'))
    writeFileSync(gate.config, config.replace(text, instead))
    const { code, stderr } = await server.run([
      process.execPath,
      join(BIN, 'knockturn'),
      'guard',
      'save',
      '--config',
      gate.config,
    ])
    expect([code, stderr]).toEqual([1, expect.stringContaining(complaint)])
    expect(files.map((name) => readFileSync(join(gate.folder, name), 'utf8'))).toEqual(before)
    expect(saved()).toEqual(files)
  })

  it('is not saved where the kernel may not be asked, and what was saved before stays', async () => {
    const before = files.map((name) => readFileSync(join(gate.folder, name), 'utf8'))
    // Without the capability nothing can be tried.
    const argv = ['setpriv', '--bounding-set=-net_admin', process.execPath, join(BIN, 'knockturn')]
    const { code } = await server.run([...argv, 'guard', 'save', '--config', gate.config])
    expect(code).toBe(1)
    expect(files.map((name) => readFileSync(join(gate.folder, name), 'utf8'))).toEqual(before)
  })

  it.runIf(backend === 'nftables')('is not saved where the kernel refuses it, and what was saved before stays', async () => {
    const before = readFileSync(join(gate.folder, 'guard.nft'), 'utf8')
    await gate.daemon.end()
    // A table of another program.
    const other = 'table inet knockturn { set leases4 { type ipv4_addr; flags timeout; }; }'
    await server.must(['nft', '-f', '-'], { input: `flush ruleset\n${other}\n` })
    writeFileSync(gate.config, config.replace('guard = ["22/tcp"]', 'guard = ["22/tcp", "23/tcp"]'))
    const { code, stderr } = await server.run([join(BIN, 'knockturn'), 'guard', 'save', '--config', gate.config])
    expect([code, stderr]).toEqual([1, expect.stringContaining('is of another version or another program')])
    expect(readFileSync(join(gate.folder, 'guard.nft'), 'utf8')).toBe(before)
    await server.must([...flush])
    await load()
    gate.daemon = await gate.startDaemon()
  })

  it('leaves what is loaded as it is when its file is damaged', async () => {
    const paths = files.map((name) => join(gate.folder, name))
    const before = paths.map((path) => readFileSync(path, 'utf8'))
    for (const [i, path] of paths.entries()) writeFileSync(path, before[i].replace('drop', 'drip').replace('-j DROP', '-j DRIP'))
    await expect(load()).rejects.toThrow()
    expect((await stranger.connect(server.ipv4, SSH)).saw).toBe('silence')
    for (const [i, path] of paths.entries()) writeFileSync(path, before[i])
    await load()
  })

  it('takes the place of what was saved for another backend', async () => {
    for (const name of ['guard.nft', 'guard.iptables', 'guard.ip6tables']) writeFileSync(join(gate.folder, name), '# old\n')
    await save()
    expect(saved()).toEqual(files)
  })
})
