import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chownSync,
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { compose, knocked, verdict } from '../lab/knocks'
import type { Child } from '../lab/processes'
import { until } from '../lab/waiters'
import { useGate } from './use-gate'

const SSH = 22
/** A port that may be knocked on. */
const KNOCKED = 60_000
/** Milliseconds between two looks for lines to pass on. */
const RELAY = 5
const DOCS = readFileSync(new URL('../../docs/taps.md', import.meta.url), 'utf8')

const { server, client, gate } = useGate(['client'], { serve: [SSH] })

beforeAll(() => gate.daemon.end())

/** What docs/taps.md shows for a file in one of its sections, with the logs moved into the lab. */
function documented(section: string, file: string): string {
  const text = DOCS.split(/^## /m).find((part) => part.startsWith(`${section}\n`)) ?? ''
  const block = text.split(`\`${file}\`:\n\n`)[1]?.match(/^(( {4}.*)?\n)+/)?.[0]
  if (!block) throw new Error(`docs/taps.md shows no ${file} for ${section}`)
  return block.replace(/^ {4}/gm, '').replaceAll(/\/var\/log\/(ulog\/)?/g, `${gate.folder}/`)
}

/** A log as logrotate's "create" makes it, for the daemon to read. */
function create(file: string) {
  writeFileSync(file, '', { mode: 0o640 })
  chownSync(file, gate.user.uid, gate.user.gid)
}

type Writer = { reopen: () => void; end: () => Promise<unknown> }

/** Starts ulogd2, and waits until it writes what the firewall logs. */
async function startUlogd(config: string): Promise<Writer> {
  const file = join(gate.folder, 'ulogd.conf')
  writeFileSync(file, config)
  const ulogd = server.start(['ulogd', '-c', file])
  const [, log] = config.match(/^file="(.*)"$/m) ?? []
  const writes = async () => {
    await client.replay([{ protocol: 'tcp', port: KNOCKED }], server.ipv4)
    return statSync(log).size > 0
  }
  await until(writes, 'ulogd2 writes')
  return { reopen: () => ulogd.child.kill('SIGHUP'), end: () => ulogd.end() }
}

/** A kernel's log for rsyslogd alone. */
interface KernelLog {
  /** What loads the module that reads it. */
  readonly module: string
  /** The command of a program that is to find it. */
  of(argv: string[]): string[]
  write(text: string): void
  close(): void
}

const sinceBoot = () => performance.now() / 1000

/** As syslog(2) gives it to imklog: a stream of lines with the kernel's time in them. */
async function klog(): Promise<KernelLog> {
  const path = join(gate.folder, 'klog')
  execFileSync('mkfifo', [path])
  const fd = openSync(path, 'r+')
  return {
    module: `module(load="imklog" LogPath="${path}")`,
    of: (argv) => argv,
    write: (text) => writeSync(fd, `<7>[${sinceBoot().toFixed(6).padStart(12)}] ${text}\n`),
    close: () => closeSync(fd),
  }
}

/** As /dev/kmsg gives it to imkmsg: a record a read, its time in front of it. So reads a terminal, too. */
async function kmsg(): Promise<KernelLog> {
  const dev = join(gate.folder, 'dev')
  mkdirSync(dev)
  for (const name of ['kmsg', 'null', 'urandom']) writeFileSync(join(dev, name), '')
  const script = spawn('script', ['-qc', 'stty -echo; tty; exec sleep infinity', '/dev/null'], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, SHELL: '/bin/sh' },
  })
  const [terminal] = await once(script.stdout.setEncoding('utf8'), 'data')
  let records = 0
  const mounts = [
    ...['null', 'urandom'].map((name) => `mount --bind /dev/${name} ${dev}/${name}`),
    `mount --bind ${terminal.trim()} ${dev}/kmsg`,
    `mount --rbind ${dev} /dev`,
  ]
  return {
    module: 'module(load="imkmsg")',
    of: (argv) => ['sh', '-c', [...mounts, 'exec "$@"'].join(' && '), 'sh', ...argv],
    write: (text) => script.stdin.write(`7,${records++},${Math.round(sinceBoot() * 1e6)},-;${text}\n`),
    close: () => script.kill('SIGKILL'),
  }
}

/**
 * Starts rsyslogd on a kernel's log of its own: from a network namespace the kernel logs nothing. What is fed to it is what ulogd2
 * makes of the real packets, in the kernel's words.
 */
const rsyslogdOn =
  (makeLog: () => Promise<KernelLog>) =>
  async (config: string): Promise<Writer> => {
    const [packets, file] = ['packets.log', 'rsyslog.conf'].map((name) => join(gate.folder, name))
    create(packets)
    const ulogd = await startUlogd(documented('ulogd2', '/etc/ulogd.conf').replace('knock.log', 'packets.log'))
    const log = await makeLog()
    let passed = 0
    const relay = setInterval(() => {
      const lines = readFileSync(packets, 'latin1').split('\n').slice(0, -1)
      for (const line of lines.slice(passed)) {
        const fields = line
          .split(/KNOCK: +/)[1]
          .replace('TOS=', 'TOS=0x')
          .replace(/MARK=0 $/, '')
        log.write(`KNOCK: ${fields}`)
      }
      passed = lines.length
    }, RELAY)
    writeFileSync(file, `${log.module}\n${config}`)
    const rsyslogd = server.start(log.of(['rsyslogd', '-n', '-f', file, '-i', 'NONE']))
    return {
      reopen: () => rsyslogd.child.kill('SIGHUP'),
      async end() {
        clearInterval(relay)
        await ulogd.end()
        await rsyslogd.end()
        log.close()
      },
    }
  }

const RSYSLOG = '/etc/rsyslog.d/10-knock.conf'

describe.each([
  ['ulogd2', 'ulogd2', '/etc/ulogd.conf', startUlogd, /^\w+ [ \d]\d [\d:]{8} \S+ KNOCK: {2}IN=eth0 /],
  ['rsyslog by imklog', 'rsyslog', RSYSLOG, rsyslogdOn(klog), /^\d+-\d+-\d+T\S+ \S+ kernel: \[ *[\d.]+\] KNOCK: IN=eth0 /],
  ['rsyslog by imkmsg', 'rsyslog', RSYSLOG, rsyslogdOn(kmsg), /^\d+-\d+-\d+T\S+ \S+ kernel: KNOCK: IN=eth0 /],
])('a knock that %s writes to a file, as docs/taps.md has it,', (_, section, config, startWriter, form) => {
  let log: string
  let writer: Writer
  let daemon: Child

  beforeAll(async () => {
    log = join(gate.folder, 'knock.log')
    create(log)
    writer = await startWriter(documented(section, config))
    // Here the kernel's log stays empty: ulogd2 takes the packets for rsyslog, too.
    const taps = documented(section, '/etc/knockturn/knockturn.toml').replace('target = "log"', '')
    writeFileSync(gate.config, readFileSync(gate.config, 'utf8').replace(/\[taps\][^[]*/, taps))
    await gate.knockturn('firewall', 'install', '--config', gate.config)
    daemon = await gate.startDaemon()
  })
  afterAll(async () => {
    await daemon?.end()
    await writer?.end()
    rmSync(log, { force: true })
  })
  beforeEach(() => client.moveOn())

  describe.each(['ipv4', 'ipv6'] as const)('over %s', (family) => {
    const options = () => ['-r', server[family], family === 'ipv4' ? '-4' : '-6', '-p', String(SSH)]
    const sees = async () => (await client.connect(server[family], SSH)).saw

    it.each([
      ['TCP', []],
      ['UDP', ['--udp']],
    ])('by %s opens the door', async (_, more) => {
      expect(await sees()).toBe('silence')
      const said = await knocked(client, daemon, gate.key, ...options(), ...more)
      expect([said.msg, said.address, await sees()]).toEqual(['accepted', client[family], 'open'])
    })

    it('opens the door while the file is rotated, and none of its lines is lost', async () => {
      // Without parity each of them is needed.
      const { touches } = await compose(client, gate.key, ...options(), '--parity', '0')
      const third = Math.ceil(touches.length / 3)
      const said = await verdict(daemon, async () => {
        await client.replay(touches.slice(0, third), server[family])
        renameSync(log, `${log}.1`)
        create(log)
        // Who writes has the old one still.
        await client.replay(touches.slice(third, 2 * third), server[family])
        writer.reopen()
        await client.replay(touches.slice(2 * third), server[family])
      })
      expect([said.msg, said.address, await sees()]).toEqual(['accepted', client[family], 'open'])
    })
  })

  it('is written in the words that are expected', () => {
    const lines = readFileSync(log, 'latin1').split('\n').slice(0, -1)
    expect(lines.length).toBeGreaterThan(0)
    expect(lines.filter((line) => !form.test(line))).toEqual([])
  })

  it('is all that the daemon has read, and it has nothing to complain of', async () => {
    await daemon.end()
    const lines = daemon.lines.map((line) => JSON.parse(line))
    expect(lines.at(-1)).toMatchObject({ msg: 'ended', ignored: 0 })
    expect(lines.filter(({ level }) => level > 30)).toEqual([])
  })
})
