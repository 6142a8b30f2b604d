import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { logged, PRIVILEGES } from '../lab/gate'
import type { Host } from '../lab/host'
import { knock, knocked } from '../lab/knocks'
import type { Child } from '../lab/processes'
import { until } from '../lab/waiters'
import { writePcap6 } from '../replay/packets'
import { useGate } from './use-gate'

const SSH = 22
const IN_POOL = 50_000
/** More than two looks of the daemon. */
const LOOKS = 40_000
/** Nobody's privileges: those of the daemon without its one capability. */
const PLAIN = PRIVILEGES.map((word) => word.replace(',+net_admin', ''))
const isDeaf = (line: string) => line.includes('none of them arrives')
const hearsAgain = logged('packets that the firewall logs are read again')

const { server, client, gate } = useGate(['client'], { backend: 'iptables', serve: [SSH] })
let text: string
let daemon: Child | undefined

beforeAll(async () => {
  await gate.daemon.end()
  text = readFileSync(gate.config, 'utf8')
})
afterEach(async () => {
  await daemon?.end()
  writeFileSync(gate.config, text)
})

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

describe('a daemon that a stranger sends what it can’t read', () => {
  /** Seconds between two of them, and within which it has to be said. */
  const [PAUSE, PATIENCE] = [1, 150_000]

  it('is not deaf, and says after a minute of nothing else that it can read none of it', async () => {
    await install()
    const hearing = await start()
    const mac = async (host: Host) => (await host.must(['cat', '/sys/class/net/eth0/address'])).trim()
    const way = { from: await mac(client), to: await mac(server), destination: server.ipv6 }
    // More headers than are followed, and longer ones than are captured.
    const odd = [Array(9).fill(8), [1_024]].map((extensions) => ({ source: client.ipv6, port: IN_POOL, extensions }))
    const file = writePcap6(join(gate.folder, 'odd.pcap'), odd, way)
    const logged = async () => {
      const rules = await server.must(['ip6tables', '-v', '-S', 'KNOCKTURN-TAPS'])
      return [...rules.matchAll(/-c (\d+) \d+ -j NFLOG/g)].reduce((sum, [, packets]) => sum + Number(packets), 0)
    }
    const before = await logged()
    let sent = 0
    const isSaid = async () => {
      await client.must(['tcpreplay', '-q', '--topspeed', '-i', 'eth0', file])
      sent += odd.length
      await sleep(1_000 * PAUSE)
      expect(hearing.lines.filter(isDeaf)).toEqual([])
      return hearing.lines.some((line) => line.includes('none of them could be read'))
    }
    await until(isSaid, 'it is said that nothing can be read', PATIENCE)
    expect(await logged()).toBe(before + sent)
    expect(await knocked(client, hearing, gate.key, '-p', String(SSH))).toMatchObject({ msg: 'accepted' })
    await hearing.line(hearsAgain, 0, LOOKS)
    await hearing.end()
    expect(JSON.parse(hearing.lines.at(-1) ?? '')).toMatchObject({ msg: 'ended', ignored: sent, unreadable: sent })
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
  const OTHER = 9
  /** Takes the name, its process id, that the kernel would give to the netfilter socket of each of the next thousands of processes. */
  const squatter = `
    for my $pid ($$ + 1 .. $$ + 15_000) {
      socket(my $socket, 16, 3, 12) or last;
      bind($socket, pack('SSLL', 16, 0, $pid, 0));
      push @kept, $socket;
    }
    $| = 1;
    print "there\\n";
    sleep;`

  beforeAll(async () => {
    const log = ['-j', 'NFLOG', '--nflog-group', '5', '--nflog-threshold', '1']
    await server.must(['iptables', '-I', 'INPUT', '-p', 'udp', '--dport', `${OTHER}`, ...log])
  })

  it.each([
    ['says how many packets the kernel has dropped', false],
    ['says so, too, where a local user has named sockets of their own after all processes to come', true],
  ])('%s', async (_, isSquatted) => {
    if (isSquatted) await server.start([...PLAIN, 'perl', '-e', squatter]).line((line) => line === 'there')
    const enough = 20_000
    await install()
    const busy = await start()
    const isTcpdump = (pid: number) => readFileSync(`/proc/${pid}/comm`, 'utf8') === 'tcpdump\n'
    const tcpdump = (await server.processes()).find(isTcpdump) as number
    process.kill(tcpdump, 'SIGSTOP')
    await client.replay(Array(enough).fill({ protocol: 'udp', port: OTHER }), server.ipv4)
    const said = await busy.line((text) => text.includes('the kernel dropped'), 0, LOOKS)
    process.kill(tcpdump, 'SIGCONT')
    const dropped = Number(/dropped (\d+) packets/.exec(said)?.[1])
    // How many depends on when it is looked: that may be in the middle of them.
    expect(dropped).toBeGreaterThan(0)
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
      const lines = stderr.split('\n')
      const told = `knockdaemon: error: ${command} is not installed`
      expect([code, lines.filter((line) => line.includes('not installed')), lines[lines.indexOf(told) + 1]]).toEqual([
        1,
        [told],
        expect.stringMatching(`^hint: install it .*, or set source = ${others}`),
      ])
    }
  })
})
