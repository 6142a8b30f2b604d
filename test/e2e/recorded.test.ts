import { appendFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { loadKeyFile } from '../../src/keys/keyring'
import { type Key, windowAt } from '../../src/protocol/key'
import { passcodePorts } from '../../src/protocol/passcode'
import { passcode } from '../../src/protocol/totp'
import { clockFrom, setClock } from '../lab/clock'
import { logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { compose, knock, type Verdict, verdict } from '../lab/knocks'
import { readTaps } from '../lab/taps'
import { until } from '../lab/waiters'
import { useGate } from './use-gate'

/* What `knockturn replay` says of real captures, against what the daemon has logged of the same packets. */

const SSH = 22
const WEB = 2443
const PIN = '0417'
const RENDEZVOUS = 8
/** Bytes of a packet that are recorded: with more, tcpdump has room for a few packets only, and loses what the daemon hears. */
const SNAP_LENGTH = 320
/** The capture's buffer in KiB, as the daemon has it. */
const BUFFER = 8_192
/** The group of the captures by NFLOG: the daemon has another. */
const GROUP = 6
const DEVICES = ['any', 'eth0', `nflog:${GROUP}`] as const
const SERVICES = ['--services', `${SSH}/tcp,${WEB}/tcp`, '--max', '1h']

const { server, client, stranger, gate, lab } = useGate(['client', 'stranger'], {
  serve: [SSH],
  keyOptions: SERVICES,
  more: '[datagram]\nports = [53]\n',
})
const keys: Record<string, string> = {}
/** A key with a passcode for each device: a code is good once a window. */
const codes: Record<string, Key> = {}
let clock: string

beforeAll(async () => {
  for (const name of ['revoked', 'clock']) keys[name] = await gate.newKey(name, ...SERVICES)
  for (const [i, device] of DEVICES.entries()) {
    codes[device] = (await loadKeyFile(await gate.newKey(`codes${i}`, ...SERVICES))).key
    appendFileSync(join(gate.keys, `codes${i}.key`), `\n[passcode]\npin = "${PIN}"\nservices = ["${SSH}/tcp"]\nonce = false\n`)
  }
  const since = gate.daemon.lines.length
  await gate.knockturn('key', 'revoke', 'revoked', '--keys', gate.keys)
  gate.daemon.child.kill('SIGHUP')
  await gate.daemon.line(logged('reloaded', { keys: 6 }), since)
  await gate.knockturn('firewall', 'install', '--config', gate.config)
  clock = join(gate.folder, 'clock')
  // What the daemon's own rules hear, once more.
  const ports = [
    ['-p', 'tcp', '--syn', '--dport', '48000:65535'],
    ...['48000:65535', '53'].map((port) => ['-p', 'udp', '--dport', port]),
  ]
  for (const iptables of ['iptables', 'ip6tables'])
    for (const rule of ports)
      await server.must([
        ...[iptables, '-t', 'raw', '-A', 'PREROUTING', ...rule],
        ...['-j', 'NFLOG', '--nflog-group', `${GROUP}`, '--nflog-prefix', 'KNOCK: ', '--nflog-threshold', '1'],
      ])
})
beforeEach(async () => {
  await client.moveOn()
  await stranger.moveOn()
})

interface Heard {
  kind: string
  at: string
  line?: Record<string, unknown>
  [field: string]: unknown
}
interface Document {
  taps: number
  sources: { source: string; destination: string; taps: number; heard: Heard[] }[]
}

async function replayed(file: string, ...options: string[]): Promise<{ code: number | null; document: Document }> {
  const knockturn = [process.execPath, join(import.meta.dirname, '../../bin/knockturn')]
  const { code, stdout, stderr } = await server.run([...knockturn, 'replay', file, '--config', gate.config, '--json', ...options])
  if (!stdout) throw new Error(stderr)
  return { code, document: JSON.parse(stdout) }
}

const of = (document: Document, host: Host, address: string = host.ipv4): Heard[] =>
  document.sources.find(({ source }) => source === address)?.heard ?? []
const hasKnockOf = (host: Host) => (document: Document) =>
  [host.ipv4, host.ipv6].some((address) => of(document, host, address).some(({ kind }) => kind === 'knock'))
const hasTaps = (count: number) => (document: Document) => document.taps >= count

/** Records what arrives while something is sent, and replays it. @param isWhole whether all that was sent has been recorded */
async function recorded(device: string, send: () => Promise<unknown>, isWhole = hasKnockOf(client)) {
  const file = join(lab.folder(), 'wire.pcap')
  const words = ['-Z', 'root', '--immediate-mode', '-i', device, '-s', `${SNAP_LENGTH}`, '-B', `${BUFFER}`, '-U', '-w', file]
  const tcpdump = server.start(['tcpdump', ...words, ...(device.startsWith('nflog') ? [] : ['tcp or udp'])])
  await tcpdump.line((line) => line.includes('listening on'))
  try {
    await send()
    await until(async () => isWhole((await replayed(file)).document), `${device}: all is recorded`)
  } finally {
    await tcpdump.end()
  }
  const taps = async () => readTaps(await server.must(['tcpdump', '-nn', '-tt', '-r', file]))
  return { file, taps, ...(await replayed(file)) }
}

/** Of a line of the log what does not depend on the moment at which the daemon has read the packet. */
function essence({ time: _, level: __, until: end, clock, ...line }: Record<string, unknown>) {
  return { ...line, ends: typeof end, ...(clock ? { clock: String(clock).replace(/\d+/, 'n') } : {}) }
}
const seconds = (line: Record<string, unknown>) => Number(/(\d+) s/.exec(String(line.clock))?.[1])

/** Expects that a replay has just one knock of a source, and says of it what the daemon has said. */
function expectSame(heard: readonly Heard[], line: Verdict) {
  expect(heard.map(({ kind }) => kind)).toEqual(['knock'])
  const [{ line: ours = {}, outcome, key }] = heard
  expect([outcome, key]).toEqual([line.refusal ?? line.msg, line.key])
  expect(essence(ours)).toEqual(essence(line))
  if (line.clock) expect(Math.abs(seconds(ours) - seconds(line))).toBeLessThanOrEqual(1)
  if (line.msg === 'accepted' && line.until)
    expect(Math.abs(Date.parse(String(ours.until)) - Date.parse(line.until))).toBeLessThanOrEqual(2_000)
}

describe.each(DEVICES)('a capture of %s', (device) => {
  it.each([
    ['IPv4', 'TCP', []],
    ['IPv4', 'UDP', ['--udp']],
    ['IPv6', 'TCP', []],
  ] as const)('has a knock by %s and %s as the daemon has logged it', async (family, _, options) => {
    const address = family === 'IPv4' ? 'ipv4' : 'ipv6'
    const send = () => client.must(knock(gate, '-r', server[address], '-p', `${SSH}`, '--passes', '1', ...options))
    let line = {} as Verdict
    const { document, code } = await recorded(device, async () => {
      line = await verdict(gate.daemon, send)
    })
    expect(line.msg).toBe('accepted')
    expectSame(of(document, client, client[address]), line)
    expect(code).toBe(0)
  })

  it('has a knock in one datagram as the daemon has logged it', async () => {
    let line = {} as Verdict
    const { document } = await recorded(device, async () => {
      line = await verdict(gate.daemon, () => client.must(knock(gate, '--datagram', '53', '-p', `${SSH}`, '--passes', '1')))
    })
    expectSame(of(document, client), line)
  })

  it.each([
    ['a revoked key', () => knock({ key: keys.revoked }, '-p', `${SSH}`, '--force'), 'revoked'],
    ['a port that is not granted', () => knock(gate, '-p', '23', '--force'), 'not-granted'],
    ['another address', () => knock(gate, '-p', `${SSH}`, '-i', stranger.ipv4), 'address-mismatch'],
  ])('has a knock of %s refused as the daemon has refused it', async (_, command, refusal) => {
    let line = {} as Verdict
    const { document, code } = await recorded(device, async () => {
      line = await verdict(gate.daemon, () => client.must([...command(), '--passes', '1']))
    })
    expect(line.refusal).toBe(refusal)
    expectSame(of(document, client), line)
    expect(code).toBe(1)
  })

  it('has a knock that was heard and played again refused as the daemon has refused it', async () => {
    const { touches } = await compose(client, gate.key, '-p', `${SSH}`)
    let line = {} as Verdict
    const { document } = await recorded(
      device,
      async () => {
        await verdict(gate.daemon, () => client.replay(touches, server.ipv4))
        line = await verdict(gate.daemon, () => stranger.replay(touches, server.ipv4))
      },
      hasKnockOf(stranger),
    )
    expect(line).toMatchObject({ refusal: 'replayed', first: client.ipv4 })
    expectSame(of(document, stranger), line)
  })

  it('has a passcode as the daemon has logged it, and a digit that was lost', async () => {
    const touches = passcodePorts(PIN, passcode(codes[device], windowAt(Date.now() / 1000, codes[device].period))).map(
      (port) => ({
        protocol: 'tcp',
        port,
      }),
    )
    const without = touches.slice(0, -1)
    const { document } = await recorded(device, () => stranger.replay(without, server.ipv4), hasTaps(without.length))
    expect(of(document, stranger)).toMatchObject([{ kind: 'passcode', heard: 11, of: 12, fits: null }])
    let line = {} as Verdict
    const whole = await recorded(device, async () => {
      line = await verdict(gate.daemon, () => client.replay(touches, server.ipv4))
    })
    expect(line).toMatchObject({ msg: 'accepted', by: 'passcode' })
    expectSame(of(whole.document, client), line)
  })

  it.each([-150, 150])('has a knock by a clock that is %i s off refused as the daemon has refused it', async (off) => {
    setClock(clock, off)
    let line = {} as Verdict
    const { document } = await recorded(device, async () => {
      const send = () => client.must([...clockFrom(clock), ...knock({ key: keys.clock }, '-p', `${SSH}`, '--passes', '1')])
      line = await verdict(gate.daemon, send, 40_000)
    })
    expect(line.refusal).toBe(off < 0 ? 'stale' : 'future')
    expectSame(of(document, client), line)
  })
})

describe('where the daemon is silent, a replay', () => {
  it('names the clock of a knock that is hours off, and what it asked', async () => {
    setClock(clock, -7_200)
    const send = () => client.must([...clockFrom(clock), ...knock(gate, '-p', `${WEB}`, '--passes', '1')])
    const since = gate.daemon.lines.length
    const { document } = await recorded('any', send, hasTaps(52))
    expect(gate.daemon.lines.slice(since).filter((line) => logged('refused')(line) || logged('accepted')(line))).toEqual([])
    const [found] = of(document, client)
    expect(found).toMatchObject({ kind: 'incomplete', why: 'window', key: gate.key.replace(/.*\/|\.key$/g, '') })
    expect(found.request).toMatchObject({ action: 'open', port: WEB })
    expect(Math.abs(Number(found.seconds) + 7_200)).toBeLessThanOrEqual(17)
  })

  it('counts the symbols that a lossy network has left of each knock, and opens those that the daemon has opened', async () => {
    const drop = ['OUTPUT', '-p', 'tcp', '--syn', '--dport', '49152:65535', '-m', 'statistic', '--mode', 'random']
    const sent: { address: string; ports: number[]; loss: number }[] = []
    const since = gate.daemon.lines.length
    const { taps: tapsOf, document } = await recorded(
      'eth0',
      async () => {
        for (const loss of [0.1, 0.3, 0.4, 0.5, 0.5, 0.6, 0.7, 0.7]) {
          await client.moveOn()
          const { touches } = await compose(client, gate.key, '-p', `${SSH}`, '-t', '1m')
          const rule = [...drop, '--probability', `${loss}`, '-j', 'DROP']
          await client.must(['iptables', '-A', ...rule])
          await client.replay(touches, server.ipv4)
          await client.must(['iptables', '-D', ...rule])
          sent.push({ address: client.ipv4, ports: touches.map(({ port }) => port), loss })
        }
        // Behind all of them, and heard by the daemon.
        await verdict(gate.daemon, () => stranger.must(knock(gate, '-p', `${WEB}`, '--passes', '1')), 20_000, [stranger.ipv4])
      },
      hasKnockOf(stranger),
    )
    const accepted = gate.daemon.lines
      .slice(since)
      .filter((line) => logged('accepted')(line))
      .map((line) => JSON.parse(line).source)
    const taps = await tapsOf()
    const truth = sent.map(({ address, ports }) => {
      const arrived = new Set(taps.filter(({ source }) => source === address).map(({ port }) => port))
      const count = (some: number[]) => some.filter((port) => arrived.has(port)).length
      return { address, rendezvous: count(ports.slice(0, RENDEZVOUS)), symbols: count(ports.slice(RENDEZVOUS)) }
    })
    const answers: (Partial<Heard> & { address: string })[] = truth.map(({ address }) => {
      const [found] = of(document, client, address)
      return { ...found, address }
    })
    // The network has done its work: some got through, and some did not.
    expect([accepted.includes(sent[0].address), accepted.includes(sent[7].address)]).toEqual([true, false])
    expect(answers.filter(({ outcome }) => outcome === 'accepted').map(({ address }) => address)).toEqual(
      truth.map(({ address }) => address).filter((address) => accepted.includes(address)),
    )
    const lost = answers.filter(({ kind }) => kind === 'incomplete')
    expect(lost.length).toBeGreaterThan(0)
    for (const { address, rendezvous, symbols, missing, window, isAccepted } of lost) {
      const its = truth.find((one) => one.address === address)
      expect({ rendezvous, symbols }).toEqual({ rendezvous: its?.rendezvous, symbols: its?.symbols })
      expect([missing, isAccepted, typeof window]).toEqual([Math.max(0, 28 - Number(symbols)), true, 'number'])
    }
    // Below three rendezvous ports, nobody can tell whose a knock was.
    const unknown = answers.filter(({ kind }) => kind === 'unknown' || kind === undefined)
    for (const { address } of unknown) expect(truth.find((one) => one.address === address)?.rendezvous).toBeLessThan(4)
  })
})

describe('a replay', () => {
  it('opens nothing and spends nothing: what was recorded opens afterwards, as before', async () => {
    await gate.daemon.end()
    const before = readFileSync(gate.ledger)
    const { document } = await recorded('any', () => client.must(knock(gate, '-p', `${SSH}`, '--passes', '1')))
    expect(of(document, client)).toMatchObject([{ kind: 'knock', outcome: 'accepted' }])
    expect([await server.leases(client), readFileSync(gate.ledger).equals(before)]).toEqual([[], true])
    expect((await client.connect(server.ipv4, SSH)).saw).toBe('silence')
    gate.daemon = await gate.startDaemon()
    const again = await verdict(gate.daemon, () => client.must(knock(gate, '-p', `${SSH}`, '--passes', '1')))
    expect(again.msg).toBe('accepted')
  })

  it('reads a capture that comes by standard input, as tcpdump writes it', async () => {
    const { file } = await recorded('eth0', () => client.must(knock(gate, '-p', `${SSH}`, '--passes', '1')))
    const command = `${process.execPath} ${join(import.meta.dirname, '../../bin/knockturn')} replay - --config ${gate.config} < ${file}`
    const { code, stdout } = await server.run(['sh', '-c', command])
    expect([code, stdout]).toEqual([
      0,
      expect.stringMatching(/^-: a capture \(Ethernet\), .*\n.* traveller: accepted: opens 22\/tcp for /s),
    ])
  })
})
