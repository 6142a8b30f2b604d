import { appendFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { loadKeyFile } from '../../src/keys/keyring'
import { type Key, windowAt } from '../../src/protocol/key'
import { passcodePorts } from '../../src/protocol/passcode'
import { passcode } from '../../src/protocol/totp'
import { usualBackend } from '../lab/backend'
import { logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { knock, verdict } from '../lab/knocks'
import { until } from '../lab/waiters'
import { useGate } from './use-gate'

const SSH = 22
const WEB = 443
const PIN = '0417'
/** Milliseconds in which nothing may open: many times what a passcode takes. */
const A_WHILE = 500
const BIN = join(import.meta.dirname, '../../bin')
/** A key for each test, since a passcode is good once a window. */
const NAMES = ['hand', 'tcp', 'udp', 'six', 'served', 'single', 'wrong', 'replayed', 'restarted', 'gone'] as const

const { server, client, stranger, gate, lab } = useGate(['client', 'stranger'], { serve: [SSH, WEB] })
const keys = {} as Record<(typeof NAMES)[number], Key>

/** The code that the app shows now. */
const codeOf = (key: Key) => passcode(key, windowAt(Date.now() / 1000, key.period))
const knockturn = (args: string[], input = '') => server.must([join(BIN, 'knockturn'), ...args], { input })

/** As its user does it, with the app at hand; the other keys get their tables in a quicker way. */
async function enrol(name: 'hand' | 'single') {
  const what = name === 'single' ? [] : ['--services', `${SSH}/tcp`, '--no-once']
  const answers = `${codeOf(keys[name])}\n${PIN}\n${PIN}\n`
  await knockturn(['key', 'passcode', name, '--keys', gate.keys, '--config', gate.config, '--print-secret', ...what], answers)
}

beforeAll(async () => {
  for (const name of NAMES) {
    const copy = await gate.newKey(name, '--services', `${SSH}/tcp,${WEB}/tcp`)
    keys[name] = (await loadKeyFile(copy)).key
    if (name === 'hand' || name === 'single') await enrol(name)
    else appendFileSync(join(gate.keys, `${name}.key`), `\n[passcode]\npin = "${PIN}"\nservices = ["22/tcp"]\nonce = false\n`)
  }
  // The last of them is taken up when one more reload, which comes behind all others, is.
  if (usualBackend() === 'iptables')
    await gate.daemon.line(logged('the log rules do not cover the passcode ports: run "knockturn firewall install"'))
  const since = gate.daemon.lines.length
  gate.daemon.child.kill('SIGHUP')
  await gate.daemon.line(logged('reloaded', { keys: NAMES.length + 1 }), since)
  await knockturn(['firewall', 'install', '--config', gate.config])
})
beforeEach(async () => {
  await client.moveOn()
  await stranger.moveOn()
})

const sees = async (host: Host, port = SSH, address = server.ipv4) => (await host.connect(address, port)).saw
const doors = async () => [await sees(client), await sees(stranger)]
/** knockclient, as it is used where there is no key. */
const say = (host: Host, answers: string, ...options: string[]) =>
  host.must([join(BIN, 'knockclient'), '--passcode', ...options], { input: answers })
const touches = (ports: number[], protocol = 'tcp') => ports.map((port) => ({ protocol, port }))
/** The daemon's lines of knocks from now on. */
const knocksSince = (since: number) => gate.daemon.lines.slice(since).filter((line) => /"msg":"(accepted|refused)"/.test(line))
const silence = async (act: () => Promise<unknown>) => {
  const since = gate.daemon.lines.length
  await act()
  await client.connect(server.ipv4, SSH, A_WHILE)
  return [await doors(), knocksSince(since)]
}
const NOTHING = [['silence', 'silence'], []]

describe('a passcode', () => {
  it('by hand, with nc, opens the door to who said it and to nobody else', async () => {
    expect(await doors()).toEqual(['silence', 'silence'])
    const each = `for i in $(seq 0 $((\${#said} - 1))); do nc -z -w1 ${server.ipv4} $((48000 + 10*i + \${said:i:1})) & done; wait`
    const input = `${PIN}${codeOf(keys.hand)}\n`
    const line = await verdict(gate.daemon, () => client.must(['bash', '-c', `read -rs said; (${each})`], { input }))
    expect(line).toMatchObject({
      msg: 'accepted',
      key: 'hand',
      by: 'passcode',
      address: client.ipv4,
      service: '22/tcp',
      once: false,
    })
    expect(await doors()).toEqual(['open', 'silence'])
  })

  it.each([
    ['tcp', []],
    ['udp', ['--udp']],
  ] as const)('by knockclient --passcode over %s opens the door, and its second pass is no news', async (name, options) => {
    const since = gate.daemon.lines.length
    await verdict(gate.daemon, () => say(client, `${PIN}\n${codeOf(keys[name])}\n`, '-r', server.ipv4, ...options))
    expect(await sees(client)).toBe('open')
    expect(knocksSince(since)).toEqual([expect.stringContaining('"accepted"')])
    expect(await sees(stranger)).toBe('silence')
  })

  it('over IPv6 opens to the IPv6 address', async () => {
    const line = await verdict(gate.daemon, () =>
      say(client, `${PIN}\n${codeOf(keys.six)}\n`, '-6', '-r', server.ipv6, '--passes', '1'),
    )
    expect(line).toMatchObject({ msg: 'accepted', address: client.ipv6 })
    expect([await sees(client, SSH, server.ipv6), await sees(client)]).toEqual(['open', 'silence'])
  })

  it('opens what its table lists, and not all that its key may', async () => {
    await verdict(gate.daemon, () => say(client, `${PIN}\n${codeOf(keys.served)}\n`, '-r', server.ipv4))
    expect([await sees(client), await sees(client, WEB)]).toEqual(['open', 'silence'])
  })

  it('opens for one connection, where nothing else is said', async () => {
    const line = await verdict(gate.daemon, () => say(client, `${PIN}\n${codeOf(keys.single)}\n`, '-r', server.ipv4))
    expect(line).toMatchObject({ msg: 'accepted', once: true })
    expect([await sees(client), await sees(client)]).toEqual(['open', 'silence'])
  })

  it('with a wrong PIN is silence, and leaves the sealed knocks of its key alone', async () => {
    const code = codeOf(keys.wrong)
    expect(await silence(() => say(client, `0418\n${code}\n`, '-r', server.ipv4))).toEqual(NOTHING)
    const sealed = await verdict(gate.daemon, () => client.must(knock(gate, '-p', String(SSH), '--passes', '1')))
    expect(sealed).toMatchObject({ msg: 'accepted', key: 'traveller' })
  })

  it('that was heard opens nothing to who says it again', async () => {
    const ports = passcodePorts(PIN, codeOf(keys.replayed))
    await verdict(gate.daemon, () => client.replay(touches(ports), server.ipv4))
    const line = await verdict(gate.daemon, () => stranger.replay(touches(ports), server.ipv4))
    expect(line).toMatchObject({ msg: 'refused', refusal: 'replayed', by: 'passcode', source: stranger.ipv4 })
    expect(await doors()).toEqual(['open', 'silence'])
  })

  it('stays spent over kill -9 of the daemon', async () => {
    const ports = passcodePorts(PIN, codeOf(keys.restarted))
    await verdict(gate.daemon, () => client.replay(touches(ports), server.ipv4))
    await gate.daemon.end('SIGKILL')
    gate.daemon = await gate.startDaemon()
    const line = await verdict(gate.daemon, () => stranger.replay(touches(ports), server.ipv4))
    expect(line).toMatchObject({ msg: 'refused', refusal: 'replayed', source: stranger.ipv4 })
    expect(await doors()).toEqual(['open', 'silence'])
  })

  it('is gone with --remove', async () => {
    const since = gate.daemon.lines.length
    await knockturn(['key', 'passcode', 'gone', '--remove', '--keys', gate.keys])
    await gate.daemon.line(logged('reloaded'), since)
    expect(await silence(() => say(client, `${PIN}\n${codeOf(keys.gone)}\n`, '-r', server.ipv4))).toEqual(NOTHING)
  })
})

it('nothing is ever sent back', async () => {
  const tape = await lab.wire.capture('server')
  const ports = passcodePorts('9999', '00000000')
  for (const protocol of ['tcp', 'udp']) await client.replay(touches(ports, protocol), server.ipv4)
  const heard = async () => (await tape.taps()).filter(({ source }) => source === client.ipv4)
  await until(async () => (await heard()).length >= 2 * ports.length, 'the passcode on the tape')
  // By now a port that is not dropped would have been refused.
  expect((await client.connect(server.ipv4, ports[0], A_WHILE)).saw).toBe('silence')
  const answers = await lab.wire.must(['tcpdump', '-nn', '-r', tape.file, `src host ${server.ipv4} and dst host ${client.ipv4}`])
  expect(answers).toBe('')
})

it('a daemon whose ports are heard has nothing to warn of', async () => {
  await gate.daemon.end()
  gate.daemon = await gate.startDaemon()
  expect(gate.daemon.lines.filter((line) => line.includes('"level":40'))).toEqual([])
})
