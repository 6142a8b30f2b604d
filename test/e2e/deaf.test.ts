import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { type Child, type Gate, type Host, knock, knocked, type Lab, logged, makeLab, provision, until } from './lab.mjs'

const SSH = 22
/** More than two looks of the daemon. */
const LOOKS = 40_000
const isDeaf = (line: string) => line.includes('none of them is heard')
const hearsAgain = logged('what the firewall logs is heard again')

let lab: Lab
let server: Host
let client: Host
let gate: Gate
let text: string
let daemon: Child | undefined

beforeAll(async () => {
  lab = await makeLab(['client'])
  ;({ server, client } = lab.hosts as { server: Host; client: Host })
  await server.service(SSH)
  gate = await provision(lab)
  await gate.daemon.end()
  text = readFileSync(gate.config, 'utf8')
})
afterEach(async () => {
  await daemon?.end()
  writeFileSync(gate.config, text)
})
afterAll(() => lab?.end())

/** Writes the config with these lines in [taps]. */
const configure = (...taps: string[]) =>
  writeFileSync(gate.config, text.replace(/\[taps\][^[]*/, `${['[taps]', ...taps].join('\n')}\n`))
const install = () => gate.knockturn('firewall', 'install', '--config', gate.config)
const start = async () => {
  daemon = await gate.startDaemon()
  return daemon
}
const tap = () => client.must(knock(gate, '--passes', '1', '-p', String(SSH)))
/** Taps until it is said that none is heard: what was logged before the daemon's first look does not count. */
const tapUntilDeaf = (deaf: Child) =>
  until(
    async () => {
      await tap()
      return deaf.lines.some(isDeaf)
    },
    'it is said that none is heard',
    LOOKS,
  )

describe('a daemon that does not hear what the firewall logs', () => {
  it('in another group says so once, and when it hears again', async () => {
    configure('source = "nflog"', 'group = 6')
    await install()
    configure('source = "nflog"', 'group = 5')
    const deaf = await start()
    await tapUntilDeaf(deaf)
    await tap()
    await install()
    expect(await knocked(client, deaf, gate.key, '-p', String(SSH))).toMatchObject({ msg: 'accepted' })
    await deaf.line(hearsAgain, 0, LOOKS)
    expect(deaf.lines.filter((line) => isDeaf(line) || hearsAgain(line))).toHaveLength(2)
  })

  it('in a file that nobody writes says so once, and when it hears again', async () => {
    const file = join(gate.folder, 'knocks.log')
    writeFileSync(file, '')
    configure('source = "file"', `file = ${JSON.stringify(file)}`)
    await install()
    const deaf = await start()
    await tapUntilDeaf(deaf)
    appendFileSync(
      file,
      `KNOCK: IN=eth0 OUT= SRC=${client.ipv4} DST=${server.ipv4} LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=7 DF PROTO=TCP SPT=40000 DPT=50000 WINDOW=64240 RES=0x00 SYN URGP=0 \n`,
    )
    await deaf.line(hearsAgain, 0, LOOKS)
    expect(deaf.lines.filter((line) => isDeaf(line) || hearsAgain(line))).toHaveLength(2)
  })
})

describe('the log rules', () => {
  it('are of the kernel’s log where the journal is heard', async () => {
    configure('source = "journal"')
    await install()
    for (const iptables of ['iptables', 'ip6tables']) {
      const rules = (await server.must([iptables, '-S', 'KNOCKTURN-TAPS'])).split('\n').filter((line) => line.includes('LOG'))
      expect(rules.map((line) => line.slice(line.indexOf(' -j ')))).toEqual(
        Array(2).fill(' -j LOG --log-prefix "KNOCK: " --log-level 7'),
      )
    }
  })
})

describe('a daemon whose tcpdump is held up', () => {
  it('says how many packets the kernel has dropped', async () => {
    const OTHER = 9
    const [enough, atLeast] = [20_000, 1_000]
    const log = ['-j', 'NFLOG', '--nflog-group', '5', '--nflog-threshold', '1']
    await server.must(['iptables', '-I', 'INPUT', '-p', 'udp', '--dport', `${OTHER}`, ...log])
    await install()
    const busy = await start()
    const isTcpdump = (pid: number) => readFileSync(`/proc/${pid}/comm`, 'utf8') === 'tcpdump\n'
    const tcpdump = (await server.processes()).find(isTcpdump) as number
    process.kill(tcpdump, 'SIGSTOP')
    await client.replay(Array(enough).fill({ protocol: 'udp', port: OTHER }), server.ipv4)
    const said = await busy.line((text) => text.includes('the kernel has dropped'), 0, LOOKS)
    process.kill(tcpdump, 'SIGCONT')
    const dropped = Number(/dropped (\d+) packets/.exec(said)?.[1])
    expect(dropped).toBeGreaterThan(atLeast)
    expect(dropped).toBeLessThan(enough)
  })
})

describe('a daemon without the command that it hears with', () => {
  it.each([
    ['nflog', 'tcpdump', '"file" or "journal"'],
    ['journal', 'journalctl', '"nflog" or "file"'],
  ])('(%s) does not start, and says what to install or to set', async (source, command, others) => {
    configure(`source = "${source}"`)
    await install()
    const hidden = `mount --bind /dev/null "$(command -v ${command})" && exec "$@"`
    for (const check of [[], ['--check']]) {
      const argv = ['unshare', '--mount', 'sh', '-c', hidden, 'sh', ...gate.command, ...check]
      const { code, stderr } = await server.run(argv)
      expect([code, stderr.split('\n').filter((line) => line.includes('missing'))]).toEqual([
        1,
        [expect.stringMatching(`^knockdaemon: error: ${command} is missing: install it .*, or set source = ${others}`)],
      ])
    }
  })
})
