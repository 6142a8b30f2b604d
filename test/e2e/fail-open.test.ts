import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { knocked } from '../lab/knocks'
import { until } from '../lab/waiters'
import { BIN } from '../root'
import { useGate } from './use-gate'

/* What opens for known addresses when no daemon is alive: for them alone, and for no other reason. */

const [SSH, WEB, GUARDED_LATER] = [22, 80, 8_080]
/** Looks after which it opens: as many as the config has minutes. */
const LOOKS = 5
/** The addresses of the host "known". */
const KNOWN = ['198.51.100.2', '2001:db8:7::2']

describe.each([
  { backend: 'nftables', files: ['fail-open.nft'] },
  { backend: 'iptables', files: ['fail-open.ip6tables', 'fail-open.iptables'] },
] as const)('fail_open_to with $backend', ({ backend, files }) => {
  const { server, known, stranger, gate } = useGate(['known', 'stranger'], {
    backend,
    guard: [`${SSH}/tcp`, `${GUARDED_LATER}/tcp`],
    serve: [SSH, WEB],
    firewall: `fail_open_to = ${JSON.stringify(KNOWN)}\nfail_open_after = "${LOOKS}m"`,
  })
  /** What the daemon's unit and its timer have in /run. */
  let run: string
  let state: string
  const heartbeat = () => join(run, 'alive')

  beforeAll(async () => {
    run = join(gate.folder, 'run')
    mkdirSync(run)
    await server.must(['chown', `${gate.user.uid}:${gate.user.gid}`, run])
    state = join(gate.folder, 'looks')
    await gate.daemon.end()
    await gate.knockturn('guard', 'save', '--config', gate.config)
  })
  afterEach(async () => {
    await gate.daemon.end()
    rmSync(state, { recursive: true, force: true })
    for (const name of readdirSync(run)) rmSync(join(run, name), { recursive: true })
    // Nobody's: as after a boot.
    await gate.knockturn('firewall', 'remove')
    await gate.knockturn('firewall', 'install', '--config', gate.config)
  })

  /** Starts a daemon as its unit does. @param words in front of it */
  const start = async (...words: string[]) => {
    const daemon = server.start(gate.commandBehind('env', `RUNTIME_DIRECTORY=${run}`, ...words))
    gate.daemon = daemon
    await daemon.line(logged('ready'))
    return daemon
  }
  /** Looks as the timer does, without Node. */
  const look = async (times = 1, folder = gate.folder) => {
    const said: string[] = []
    for (let n = 0; n < times; n++) {
      const argv = ['env', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin', join(BIN, 'knockturn-fail-open'), folder, heartbeat(), state]
      const { stderr } = await server.run(argv)
      if (stderr) said.push(stderr.trim())
    }
    return said
  }
  /** Looks at a heartbeat, behind which none comes. */
  const lastBeat = () => {
    writeFileSync(heartbeat(), 'dead 1\n')
    return look()
  }
  const sees = async (host: Host, port = SSH) =>
    Promise.all([server.ipv4, server.ipv6].map(async (address) => (await host.connect(address, port)).saw))
  const doors = async () => [await sees(known), await sees(stranger)]
  const SHUT = ['silence', 'silence']
  const OPEN = ['open', 'open']
  const NOBODY = [SHUT, SHUT]
  const FOR_KNOWN = [OPEN, SHUT]

  it('is saved with the guard, for its owner alone', () => {
    expect(readdirSync(gate.folder).filter((name) => name.startsWith('fail-open'))).toEqual(files)
    expect(files.map((name) => readFileSync(join(gate.folder, name), 'utf8').split('\n')[0])).toEqual(
      files.map(() => `## minutes: ${LOOKS}`),
    )
  })

  it('opens for nobody as long as a daemon lives, however often it is looked', async () => {
    await start()
    for (let n = 0; n < 2 * LOOKS; n++) {
      expect(await look()).toEqual([])
      // As another beat would: they come every 5 s.
      await server.must(['sh', '-c', `echo "beef ${n}" > ${heartbeat()}`])
    }
    expect(await doors()).toEqual(NOBODY)
  })

  it.each([
    ['has been killed', async () => void (await gate.daemon.end('SIGKILL'))],
    ['was stopped', async () => void (await gate.daemon.end())],
  ])('opens the guarded ports for the known alone when the daemon %s, and says so loudly', async (_, end) => {
    await start()
    await end()
    await lastBeat()
    expect(await look(LOOKS - 1)).toEqual([])
    expect(await doors()).toEqual(NOBODY)
    const said = await look()
    expect(said).toEqual([expect.stringContaining('THE GUARDED PORTS ARE OPEN')])
    expect(await doors()).toEqual(FOR_KNOWN)
    // Said once, as long as it stays.
    expect([await look(3), await doors()]).toEqual([[], FOR_KNOWN])
  })

  it('opens after a boot at which no daemon could start', async () => {
    await look(LOOKS)
    expect(await doors()).toEqual(FOR_KNOWN)
  })

  it('leaves other ports as they are, and what comes to the pool', async () => {
    await look(LOOKS)
    expect([await sees(known, GUARDED_LATER), await sees(stranger, GUARDED_LATER)]).toEqual([['refused', 'refused'], SHUT])
    expect([await sees(known, WEB), await sees(stranger, WEB)]).toEqual([OPEN, OPEN])
    expect([await sees(known, 50_000), await sees(stranger, 50_000)]).toEqual(NOBODY)
  })

  it('is over as soon as a daemon hears, which says so, and opens by a knock only', async () => {
    await look(LOOKS)
    const daemon = await start()
    await daemon.line((line) => line.includes('they are closed again'))
    expect(await doors()).toEqual(NOBODY)
    expect(await look()).toEqual([])
    await knocked(known, daemon, gate.key, '-p', `${SSH}`, '-r', server.ipv4)
    expect((await known.connect(server.ipv4, SSH)).saw).toBe('open')
    expect(daemon.lines.filter((line) => line.includes('another program'))).toEqual([])
  })

  it('is closed at once by a daemon that hears if it is opened all the same', async () => {
    const daemon = await start()
    const since = daemon.lines.length
    for (const file of files) {
      const load = file.endsWith('.nft') ? ['nft', '-f'] : [`${file.slice(file.indexOf('.') + 1)}-restore`, '--noflush']
      await server.must([...load, join(gate.folder, file)])
    }
    await daemon.line((line) => line.includes('they are closed again'), since)
    await until(async () => (await doors()).flat().every((saw) => saw === 'silence'), 'it is closed')
  })

  it('is closed by the next look where a daemon that hears could not close it', async () => {
    await look(LOOKS)
    writeFileSync(heartbeat(), 'cafe 1\n')
    const said = await look()
    expect([said.length, said[0], await doors()]).toEqual([
      1,
      expect.stringContaining('only a knock opens the guarded ports'),
      NOBODY,
    ])
  })

  it('stays open while a daemon that never hears is started again and again', async () => {
    await look(LOOKS)
    // What ExecStartPre does, each time.
    for (let n = 0; n < 2; n++) await gate.knockturn('firewall', 'install', '--unattended', '--config', gate.config)
    await server.must([join(BIN, 'knockturn-guard'), gate.folder])
    expect(await doors()).toEqual(FOR_KNOWN)
  })

  it('opens again when what was opened has been flushed', async () => {
    await look(LOOKS)
    await gate.knockturn('firewall', 'remove')
    await server.must([join(BIN, 'knockturn-guard'), gate.folder])
    expect(await doors()).toEqual(NOBODY)
    await look()
    expect(await doors()).toEqual(FOR_KNOWN)
  })

  it('goes by no clock: one that jumps to and fro opens nothing', async () => {
    await start()
    await look()
    const before = heartbeat()
    for (const year of ['1970-01-01', '2037-01-01', '2026-01-01']) {
      await server.must(['touch', '-d', year, before, join(state, 'seen'), join(state, 'looks')])
      await look()
    }
    expect(await doors()).toEqual(NOBODY)
  })

  describe('beside a daemon whose user is an attacker', () => {
    const plant: [string, () => Promise<unknown> | unknown][] = [
      ['a link to a secret', () => symlinkSync('/etc/shadow', heartbeat())],
      ['a pipe that nobody writes', () => server.must(['mkfifo', heartbeat()])],
      ['a folder', () => mkdirSync(heartbeat())],
      ['a gigabyte', () => server.must(['truncate', '-s', '1G', heartbeat()])],
      ['words of a shell', () => writeFileSync(heartbeat(), `$(touch ${gate.folder}/pwned)\`touch ${gate.folder}/pwned\`; "\n`)],
    ]
    it.each(plant)(
      'takes %s for no heartbeat, or for one that does not change, and does nothing else with it',
      async (_, put) => {
        await put()
        const said = await look(LOOKS + 1)
        expect(said).toEqual([expect.stringContaining('THE GUARDED PORTS ARE OPEN')])
        expect(readdirSync(gate.folder)).not.toContain('pwned')
        const kept = readdirSync(state).map((name) => readFileSync(join(state, name), 'utf8'))
        expect(kept.every((text) => text.length <= 65 && !text.includes('root'))).toBe(true)
        expect(await doors()).toEqual(FOR_KNOWN)
      },
    )
  })

  it('opens nothing where the guard in place is of another config, and says so', async () => {
    const off = join(gate.folder, 'off.toml')
    writeFileSync(off, readFileSync(gate.config, 'utf8').replace(/^fail_open.*$/gm, ''))
    await gate.knockturn('firewall', 'remove')
    await gate.knockturn('firewall', 'install', '--config', off)
    const said = await look(LOOKS)
    expect([said.at(-1), await doors()]).toEqual([expect.stringContaining('nothing is opened'), NOBODY])
  })

  it('opens nothing when the config does not have it any more, and the guard is saved', async () => {
    const text = readFileSync(gate.config, 'utf8')
    writeFileSync(gate.config, text.replace(/^fail_open.*$/gm, ''))
    await gate.knockturn('guard', 'save', '--config', gate.config)
    expect(readdirSync(gate.folder).filter((name) => name.startsWith('fail-open'))).toEqual([])
    expect([await look(2 * LOOKS), await doors()]).toEqual([[], NOBODY])
    writeFileSync(gate.config, text)
    await gate.knockturn('guard', 'save', '--config', gate.config)
  })
})
