import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import { Host } from '../lab/host'
import { knock } from '../lab/knocks'
import { until } from '../lab/waiters'
import { serveNothing } from './names'
import { forgeStun, STUN, serveStun } from './stun'
import { type Dated, serveDate, serveNtp } from './time'
import { useGate } from './use-gate'

const SSH = 22
const WEB = 443
const DNS = 5353
const KNOCKCLIENT = fileURLToPath(new URL('../../bin/knockclient', import.meta.url))
/** Seconds by which the clock of the NTP server differs from ours in a test. */
const WRONG = 100

const services = ['--services', `${SSH}/tcp,${WEB}/tcp,${DNS}/udp`]

const { server, client, router, helper, gate, lab } = useGate(['client', 'router', 'helper'], {
  serve: [SSH, WEB, DNS],
  keyOptions: services,
})
let inside: Host
let exact: string
/** Whom to ask for the time, with a clock that is right and one that is wrong. */
let ntp: Record<'right' | 'wrong', string>
let dated: Dated

/** A host behind the router's address, which is all that the others see of it. */
async function putBehind(outer: Host): Promise<Host> {
  const host = new Host(lab, 'inside', 0)
  host.ipv4 = '10.77.0.2'
  await host.makeNamespace()
  await outer.must(['ip', 'link', 'add', 'lan', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', host.namespace])
  await outer.must(['ip', 'address', 'add', '10.77.0.1/24', 'dev', 'lan'])
  await outer.must(['ip', 'link', 'set', 'lan', 'up'])
  await host.must(['ip', 'link', 'set', 'lo', 'up'])
  await host.must(['ip', 'link', 'set', 'eth0', 'up'])
  await host.addAddress('10.77.0.2/24')
  await host.must(['ip', 'route', 'add', 'default', 'via', '10.77.0.1'])
  await outer.must(['sysctl', '-qw', 'net.ipv4.ip_forward=1'])
  await outer.must(['iptables', '-t', 'nat', '-A', 'POSTROUTING', '-s', '10.77.0.0/24', '-o', 'eth0', '-j', 'MASQUERADE'])
  await host.startAgent()
  return host
}

beforeAll(async () => {
  inside = await putBehind(router)
  exact = await gate.newKey('exact', ...services, '--require-address')
  await gate.daemon.line(logged('reloaded', { keys: 2 }))
  await serveStun(helper)
  ntp = { right: await serveNtp(helper, 0), wrong: await serveNtp(helper, WRONG) }
  dated = await serveDate(helper, 0)
})
beforeEach(async () => {
  await client.moveOn()
  await router.moveOn()
})

/** A home with a keyring of one key, and a config. */
function home(key: string, config: string) {
  const folder = lab.folder()
  const keys = join(folder, '.config', 'knockturn', 'keys')
  mkdirSync(keys, { recursive: true, mode: 0o700 })
  writeFileSync(join(keys, `${key === exact ? 'exact' : 'traveller'}.key`), readFileSync(key), { mode: 0o600 })
  writeFileSync(join(folder, '.config', 'knockturn', 'config.toml'), config)
  return { env: { HOME: folder, XDG_CONFIG_HOME: undefined, XDG_STATE_HOME: undefined }, folder }
}
const run = (host: Host, env: NodeJS.ProcessEnv, ...args: string[]) =>
  host.run([KNOCKCLIENT, ...args], { env, timeoutMs: 60_000 })
const sees = async (host: Host, port: number) => (await host.connect(server.ipv4, port)).saw
const found = (stderr: string) => stderr.split('\n').filter((line) => /^(hint|knockclient: note): /.test(line))

describe('a profile', () => {
  const config = `[profile.gate]\nservices = ["${SSH}/tcp", "${WEB}/tcp"]\ntime = "10m"\nwait = 30\n`

  it('opens its services in one go, and --last opens them again from another address', async () => {
    const { env } = home(gate.key, config)
    expect(await run(client, env, 'gate')).toMatchObject({ code: 0, stdout: '', stderr: '' })
    expect([await sees(client, SSH), await sees(client, WEB)]).toEqual(['open', 'open'])
    await client.moveOn()
    expect([await sees(client, SSH), await sees(client, WEB)]).toEqual(['silence', 'silence'])
    expect(await run(client, env, '--last')).toMatchObject({ code: 0, stdout: '', stderr: '' })
    expect([await sees(client, SSH), await sees(client, WEB)]).toEqual(['open', 'open'])
  })

  it('opens its TCP and its UDP service, by UDP too', async () => {
    const { env } = home(gate.key, config.replace(`${WEB}/tcp`, `${DNS}/udp`).replace('wait', 'udp = true\nwait'))
    expect(await run(client, env, 'gate')).toMatchObject({ code: 0, stdout: '', stderr: '' })
    expect([await sees(client, SSH), (await client.echo(server.ipv4, DNS)).saw]).toEqual(['open', 'open'])
  })

  it('gives way to the command line', async () => {
    const { env } = home(gate.key, config)
    expect(await run(client, env, 'gate', '-p', String(WEB))).toMatchObject({ code: 0 })
    expect([await sees(client, SSH), await sees(client, WEB)]).toEqual(['silence', 'open'])
  })

  it('closes what it has opened with --close', async () => {
    const { env } = home(gate.key, config)
    expect(await run(client, env, 'gate')).toMatchObject({ code: 0 })
    expect(await run(client, env, 'gate', '--close')).toMatchObject({ code: 0, stderr: '' })
    await client.becomes(server.ipv4, SSH, 'silence')
    await client.becomes(server.ipv4, WEB, 'silence')
  })
})

describe('several ports', () => {
  it('open with loss on the way', async () => {
    await server.lose(0.05)
    try {
      const { code } = await client.run(knock(gate, '-p', `${SSH},${WEB}`, '--wait'), { timeoutMs: 60_000 })
      expect(code).toBe(0)
    } finally {
      await server.lose(0)
    }
    expect([await sees(client, SSH), await sees(client, WEB)]).toEqual(['open', 'open'])
  })

  it('open by their first pass', async () => {
    expect((await client.run(knock(gate, '-p', `${SSH},${WEB}`, '--passes', '1'))).code).toBe(0)
    await client.becomes(server.ipv4, SSH, 'open')
    await client.becomes(server.ipv4, WEB, 'open')
  })
})

describe('-i auto', () => {
  it('is refused to a key that requires an address without it, and opens with it, behind NAT', async () => {
    const since = gate.daemon.lines.length
    await inside.must(knock({ key: exact }, '-p', String(SSH), '--passes', '1'))
    await gate.daemon.line(logged('refused', { key: 'exact', refusal: 'not-granted', source: router.ipv4 }), since)
    expect(await sees(inside, SSH)).toBe('silence')
    const { env } = home(
      exact,
      `[profile.gate]\nservices = [${SSH}]\naddress = "auto"\nstun = "${helper.ipv4}"\nstun_trusted = true\nwait = true\n`,
    )
    expect(await run(inside, env, 'gate')).toMatchObject({ code: 0, stdout: '', stderr: '' })
    await gate.daemon.line(logged('accepted', { key: 'exact', address: router.ipv4 }), since)
    expect(await sees(inside, SSH)).toBe('open')
  })

  it('asks by the family by which it knocks', async () => {
    const said = gate.daemon.lines.length
    const asking = ['-i', 'auto', '--stun', `[${helper.ipv6}]:${STUN}`, '--stun-trusted']
    const options = ['-r', server.ipv6, '-p', String(SSH), ...asking, '--wait']
    expect(await client.run(knock({ key: exact }, ...options))).toMatchObject({ code: 0, stderr: '' })
    await gate.daemon.line(logged('accepted', { key: 'exact', address: client.ipv6 }), said)
  })

  describe('where somebody on the way forges the answer of a STUN server', () => {
    const asking = () => ['-i', 'auto', '--stun', helper.ipv4]
    const refusal = {
      code: 2,
      stdout: '',
      stderr: expect.stringMatching(/^knockclient: error: --stun requires --stun-trusted: [^\n]*\nhint: [^\n]*\n$/),
    }
    /** Does something while the router names the client as whoever is behind it; gives what passes the router meanwhile. */
    async function whileForged(work: () => Promise<void>) {
      const forger = await forgeStun(router, '10.77.0.1', client.ipv4)
      const tape = await router.capture('lan')
      try {
        await work()
        const mark = 20_000
        await inside.replay([{ protocol: 'udp', port: mark }], server.ipv4)
        await until(async () => (await tape.taps()).some(({ port }) => port === mark), 'the mark on the tape')
        return { taps: (await tape.taps()).filter(({ port }) => port !== mark), forged: forger.forged() }
      } finally {
        await tape.end()
        await forger.end()
      }
    }

    it.each<[string, (port: string) => string[]]>([
      ['a plain knock', (port) => ['-p', port, '--wait', '1', ...asking()]],
      ['connect', (port) => ['connect', server.ipv4, port, '--wait', '1', ...asking()]],
      ['exec', (port) => ['exec', server.ipv4, '-p', port, '--wait', '1', ...asking(), '--', 'true']],
      ['a profile', () => ['gate']],
    ])('%s does not even ask', async (_, words) => {
      const config = `[profile.gate]\nservices = ${SSH}\naddress = "auto"\nstun = "${helper.ipv4}"\n`
      const { env } = home(exact, config)
      const { taps, forged } = await whileForged(async () => {
        expect(await run(inside, env, ...words(String(SSH)))).toMatchObject(refusal)
      })
      expect({ taps, forged }).toEqual({ taps: [], forged: 0 })
    })

    it('with --stun-trusted that does name the forger: nothing else tells', async () => {
      const since = gate.daemon.lines.length
      const { forged } = await whileForged(async () => {
        await inside.must(knock({ key: exact }, '-p', String(SSH), '--passes', '1', ...asking(), '--stun-trusted'))
        await gate.daemon.line(
          logged('refused', { refusal: 'address-mismatch', source: router.ipv4, address: client.ipv4 }),
          since,
        )
      })
      expect(forged).toBe(1)
    })
  })

  it('says that nobody answers', async () => {
    const { code, stderr } = await client.run(
      knock({ key: exact }, '-p', String(SSH), '-i', 'auto', '--stun', `${client.ipv4}:9`, '--stun-trusted'),
    )
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringMatching(/^knockclient: error: \S+ \(\S+\) has not answered within 5 s: .*\n$/),
    })
  })
})

describe('where nothing opens', () => {
  /** A knock from behind the router that nothing comes of, and what is said of it. */
  async function fruitless(host: Host, source: string | Dated | null = null, ...options: string[]) {
    const { url, env } = typeof source === 'string' ? { url: source, env: {} } : (source ?? { url: null, env: {} })
    const argv = knock(gate, '-p', String(SSH), '--wait', '1', ...options, ...(url ? ['--time-source', url] : []))
    const { code, stderr } = await host.run(argv, { timeoutMs: 30_000, env })
    expect(code).toBe(3)
    expect(stderr).toMatch(/^knockclient: error: \S+ port 22 has not answered within 1 s\n/)
    return found(stderr).join('\n')
  }
  /** Does something while the router treats the ports of knocks in some way. */
  async function whileForwarding(target: string[], work: () => Promise<void>) {
    const rule = ['FORWARD', '-p', 'tcp', '--dport', '49152:65535', ...target]
    await router.must(['iptables', '-I', ...rule])
    try {
      await work()
    } finally {
      await router.must(['iptables', '-D', ...rule])
    }
  }

  it.each([
    ['a reset', ['-j', 'REJECT', '--reject-with', 'tcp-reset']],
    ['an ICMP message', ['-j', 'REJECT', '--reject-with', 'icmp-admin-prohibited']],
  ])('it says that the network rejects such ports, by %s', async (_, target) => {
    await whileForwarding(target, async () => {
      expect(await fruitless(inside)).toMatch(
        /the ports of the knock are rejected at once.*\n.*\n.*port 22 is silent.*\nhint: log in to this network first/,
      )
    })
  })

  it('it says that the network may drop such ports', async () => {
    await whileForwarding(['-j', 'DROP'], async () => {
      expect(await fruitless(inside, ntp.right)).toMatch(
        /the ports of the knock are silent: .*\n.*this clock and that of ntp:\S+ differ by 0\.\d s, .*\n(.*\n)*.*port 22 is silent/,
      )
    })
  })

  it('it says that the clock is wrong, and the offset that it names opens', async () => {
    const said = await fruitless(client, dated, '--time-offset', String(-WRONG))
    const offset =
      /this clock, as --time-offset corrects it, is \d+ s behind that of https:[\s\S]* --time-offset (-?[01])$/m.exec(said)?.[1]
    expect((await client.run(knock(gate, '-p', String(SSH), '--wait', '--time-offset', offset ?? 'none'))).code).toBe(0)
  })

  it('it names no offset by ntp, which anybody can forge', async () => {
    const said = await fruitless(client, ntp.wrong, '--time-offset', String(-WRONG))
    expect(said).toMatch(/this clock, as --time-offset corrects it, and that of ntp:\S+ differ by 200 s\n/)
    expect(said).not.toMatch(/--time-offset -?\d/)
  })

  it('it says that a clock set wrong is wrong', async () => {
    const argv = ['faketime', '-f', `-${WRONG}s`, ...knock(gate, '-p', String(SSH), '--wait', '1', '--time-source', ntp.right)]
    const { code, stderr } = await client.run(argv)
    expect(code).toBe(3)
    expect(stderr).toMatch(/this clock and that of ntp:\S+ differ by (99|100|101) s\n/)
  })

  it('it says that the time source does not answer', async () => {
    expect(await fruitless(client, `ntp://${client.ipv4}:9`, '--time-offset', String(-WRONG))).toMatch(
      /it is not known whether this clock is right: .*has not answered within 5 s/,
    )
  })

  it('it says that there is no way to the server', async () => {
    const nowhere = '203.0.113.9'
    await router.must(['ip', 'route', 'add', 'unreachable', nowhere])
    const { code, stderr } = await inside.run(knock(gate, '-r', nowhere, '-p', String(SSH), '--wait', '2'))
    expect(code).toBe(3)
    expect(stderr).toContain(`\nknockclient: note: ${nowhere} cannot be reached (EHOSTUNREACH)\n`)
  })

  it('it says that nothing can be sent where this machine has no way', async () => {
    const { code, stderr } = await client.run(knock(gate, '-r', '203.0.113.9', '-p', String(SSH), '--wait', '2'))
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringMatching(
        /^knockclient: error: 203\.0\.113\.9: nothing could be sent: .*ENETUNREACH.*\nhint: check this machine's network\n$/,
      ),
    })
  })
})

describe('where the name server says "truncated", and then nothing', () => {
  let names: Awaited<ReturnType<typeof serveNothing>>
  beforeAll(async () => {
    names = await serveNothing(helper)
  })
  const NAME = 'name.example'
  const AUTO = ['-p', String(SSH), '--wait', '1', '-i', 'auto']
  const FRUITLESS = ['-p', String(SSH), '--wait', '1', '--time-offset', String(-WRONG), '--time-source']

  it.each([
    ['a knock', 3, ['-r', NAME, '-p', String(SSH), '--wait', '1']],
    ['connect', 3, ['connect', NAME, String(SSH), '-r', NAME, '--wait', '1']],
    ['exec', 3, ['exec', NAME, '-p', String(SSH), '-r', NAME, '--wait', '1', '--', 'true']],
    ['an address service', 3, [...AUTO, '--address-url', `https://${NAME}/`]],
    ['a STUN server', 3, [...AUTO, '--stun', NAME, '--stun-trusted']],
    ['a time source by https', 3, [...FRUITLESS, `https://${NAME}/`]],
    ['a time source by ntp', 3, [...FRUITLESS, `ntp://${NAME}`]],
  ])('%s is given up, and the client ends', async (_, code, words) => {
    const since = names.server.lines.length
    const { env } = home(gate.key, '')
    const ended = await inside.run(names.asking([KNOCKCLIENT, ...words]), { env, timeoutMs: 15_000 })
    expect(ended).toMatchObject({ code, signal: null })
    expect(names.server.lines.slice(since)).toContain('truncated')
    expect(ended.stderr.includes('\nhint: the time of --wait was too short for it: ')).toBe(!words.includes('--time-source'))
    expect(ended.stderr).toMatch(/(no name server has answered|no answer) within (5|0\.9|1) s/)
  })
})
