import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import { knock } from '../lab/knocks'
import type { RunOptions } from '../lab/processes'
import { proxy } from './cafe'
import { moveBehind } from './delay'
import { answerStun, FORGER, STUN, serveStun } from './stun'
import { useGate } from './use-gate'

/* A server whose name has an address of each family, where a network carries only one of them. */

const SSH = 22
const NAME = 'gate.example'
const STUN_NAME = 'stun.example'
const KNOCKCLIENT = fileURLToPath(new URL('../../bin/knockclient', import.meta.url))

const { server, client, phone, helper, other, router, guest, gate, lab } = useGate(
  ['client', 'phone', 'helper', 'other', 'router', 'guest'],
  {
    serve: [SSH],
    keyOptions: ['--services', `${SSH}/tcp`],
  },
)
let hosts: string

beforeAll(async () => {
  hosts = join(lab.folder(), 'hosts')
  const names = [server, helper].flatMap((host, i) =>
    [host.ipv6, host.ipv4].map((address) => `${address} ${[NAME, STUN_NAME][i]}`),
  )
  writeFileSync(hosts, ['127.0.0.1 localhost', ...names, ''].join('\n'))
  await serveStun(helper)
})
beforeEach(() => client.moveOn())

/** Runs a command that finds the server's name in a hosts file of its own. */
const named = (argv: string[], options: RunOptions = {}, host = client) =>
  host.run(['unshare', '--mount', 'sh', '-c', 'mount --bind "$0" /etc/hosts && exec "$@"', hosts, ...argv], {
    timeoutMs: 60_000,
    ...options,
  })
const wait = (...options: string[]) => named(knock(gate, '-r', NAME, '-p', String(SSH), ...options))
const note = () =>
  `knockclient: note: ${NAME} answers by IPv4 (${server.ipv4}), and not by IPv6 (${server.ipv6}): use -4 next time; other programs may need it, too (ssh -4)`
const said = (stderr: string) => stderr.split('\n').map((line) => line.replace(/^ *\d+ ms {2}/, ''))
/** The families by which ports were touched, while something is done. */
async function touched(work: () => Promise<unknown>) {
  const tape = await client.capture()
  await work()
  await tape.end()
  return [...new Set((await tape.taps()).map(({ destination }) => (destination.includes(':') ? 6 : 4)))]
}

/** Loses all of one family on the wire. */
const lost = async (iptables: string, way: '-A' | '-D', host = server) => {
  for (const protocol of ['tcp', 'udp']) await host.must([iptables, '-t', 'raw', way, 'PREROUTING', '-p', protocol, '-j', 'DROP'])
}

describe('where IPv6 leads nowhere', () => {
  beforeAll(() => lost('ip6tables', '-A'))
  afterAll(() => lost('ip6tables', '-D'))

  it('a port is opened by IPv4, and it is said', async () => {
    const { code, stderr } = await wait('--wait')
    expect([code, stderr]).toEqual([0, `${note()}\n`])
  })

  it('nothing is said with --quiet', async () => {
    expect(await wait('--wait', '--quiet')).toMatchObject({ code: 0, stderr: '' })
  })

  it('the words of the way tell of both knocks', async () => {
    const { stderr } = await wait('--wait', '-v')
    expect(said(stderr)).toEqual(
      expect.arrayContaining([
        `knocking at ${NAME} (${server.ipv6}): open port ${SSH} for this address, 5 minutes, with key traveller`,
        `no answer by IPv6: knocking at ${NAME} (${server.ipv4}), too`,
        `${NAME} port ${SSH} has opened`,
        note(),
      ]),
    )
  })

  it('a connection is made by IPv4', async () => {
    const connect = ['connect', NAME, String(SSH), '-k', gate.key, '-r', NAME]
    const { code, stdout, stderr } = await named([KNOCKCLIENT, ...connect], { input: 'hello\n' })
    expect([code, stdout, stderr]).toEqual([0, `welcome, this is port ${SSH}\nhello\n`, `${note()}\n`])
  })

  it('a command is run, and the door closed behind it by IPv4', async () => {
    const exec = ['exec', NAME, '-p', String(SSH), '-k', gate.key, '-r', NAME, '--close', '--', 'echo', 'run']
    const { code, stdout, stderr } = await named([KNOCKCLIENT, ...exec])
    expect([code, stdout, stderr]).toEqual([0, 'run\n', `${note()}\n`])
    await new Promise((passed) => setTimeout(passed, 200))
    expect((await client.connect(server.ipv4, SSH)).saw).toBe('silence')
  })

  describe('and nobody says our address by it either', () => {
    beforeAll(() => lost('ip6tables', '-A', helper))
    afterAll(() => lost('ip6tables', '-D', helper))
    const auto = ['-i', 'auto', '--stun', STUN_NAME, '--stun-trusted']

    it.each([
      ['a knock', () => [...knock(gate, '-r', NAME, '-p', String(SSH)), '--wait']],
      ['a knock that does not wait', () => knock(gate, '-r', NAME, '-p', String(SSH))],
      ['connect', () => [KNOCKCLIENT, 'connect', NAME, String(SSH), '-k', gate.key, '-r', NAME]],
    ])('%s is for the address that is said by IPv4, and goes by that', async (_, command) => {
      const since = gate.daemon.lines.length
      const { code, stderr } = await named([...command(), ...auto])
      await gate.daemon.line(logged('accepted', { address: client.ipv4 }), since)
      expect([code, stderr]).toEqual([
        0,
        expect.stringMatching(
          /^knockclient: note: stun\.example \(\S+\) has not answered within [\d.]+ s: asked and knocked by IPv4 instead\n$/,
        ),
      ])
    })
  })

  describe('and a proxy by IPv4 accepts every connection', () => {
    let away = async () => {}
    beforeAll(async () => {
      away = await proxy(router, await moveBehind(guest, router, 20, 2))
      await lost('ip6tables', '-A', router)
    })
    afterAll(() => away())

    it.each([
      ['a knock', () => knock(gate, '-r', NAME, '-p', String(SSH))],
      ['connect', () => [KNOCKCLIENT, 'connect', NAME, String(SSH), '-k', gate.key, '-r', NAME]],
    ])('%s has that told, and its remedy', async (_, command) => {
      const { code, stderr } = await named([...command(), '--wait', '8'], {}, guest)
      const [error, seen, ...rest] = stderr.trimEnd().split('\n')
      expect([
        code,
        error,
        seen,
        rest.filter((line) => line.includes('IPv6')),
        rest.find((line) => line.startsWith('hint')),
      ]).toEqual([
        3,
        `knockclient: error: ${NAME} (${server.ipv4}) port ${SSH} answers, and so do the closed ports of the knock: something on the path answers for the server`,
        expect.stringMatching(/^knockclient: note: something on the path answers every connection: /),
        ['knockclient: note: knocked by IPv4 and by IPv6, and neither opened'],
        expect.stringMatching(/^hint: try --udp, or --datagram 443; or log in/),
      ])
    })
  })

  it('-6 means it', async () => {
    let lines: string[] = []
    const families = await touched(async () => {
      lines = (await wait('--wait', '5', '-6')).stderr.split('\n')
    })
    expect(families).toEqual([6])
    expect([lines[1], lines.find((line) => line.startsWith('hint: '))]).toEqual([
      'knockclient: note: nothing came back by IPv6',
      'hint: try -4: IPv6 may not work in this network',
    ])
  })

  it('so does an address to open for', async () => {
    expect(await touched(() => wait('--wait', '5', '-i', client.ipv6))).toEqual([6])
  })
})

describe('where both lead to the server', () => {
  it('one is touched alone', async () => {
    expect(await touched(() => wait('--wait'))).toEqual([6])
  })

  it('the other is touched, too, where the knock is not granted, and it is said at the end', async () => {
    const port = 443
    let stderr = ''
    const families = await touched(async () => {
      ;({ stderr } = await named(knock(gate, '-r', NAME, '-p', String(port), '--wait', '6', '--force')))
    })
    expect(families).toEqual([6, 4])
    expect(stderr.split('\n')).toContain('knockclient: note: knocked by IPv4 and by IPv6, and neither opened')
  })
})

describe('a network that has IPv6 only', () => {
  // As the translator would have it: what is sent there gets to the server.
  const translated = () => `64:ff9b::${server.ipv4}`
  const knocks = (...options: string[]) => phone.run(knock(gate, '-p', String(SSH), ...options), { timeoutMs: 60_000 })
  beforeAll(async () => {
    await phone.must(['ip', '-4', 'address', 'flush', 'dev', 'eth0'])
    await phone.must(['ip', '-6', 'route', 'add', '64:ff9b::/96', 'dev', 'eth0'])
    await server.addAddress(`${translated()}/128`)
    await answerStun(other, '203.0.113.5')
  })

  it.each([[[]], [['--wait']], [['--udp']]])('has a literal IPv4 host explained, with %j', async (options) => {
    const { code, stderr } = await knocks(...options)
    const [error, hint] = stderr.split('\n')
    expect({ code, error, hint }).toEqual({
      code: 1,
      error: expect.stringContaining(`knockclient: error: ${server.ipv4}: nothing could be sent: `),
      hint: `hint: this machine has IPv6 only: use the server's name if it has an IPv6 address, or -r ${translated()} if the network has NAT64`,
    })
  })

  it('has it knocked at through NAT64, as the hint says', async () => {
    expect(await knocks('--wait', '-r', translated())).toMatchObject({ code: 0, stderr: '' })
  })

  it('has -i auto explained where who is asked sees an IPv6 address', async () => {
    const asking = ['-i', 'auto', '--stun', `[${helper.ipv6}]:${STUN}`, '--stun-trusted']
    const { code, stderr } = await knocks('-r', translated(), ...asking)
    expect([code, stderr.split('\n')[1]]).toEqual([
      1,
      `hint: ${translated()} is an IPv4 host behind NAT64 and sees an IPv4 address: ask a service that has IPv4 only, give the address with -i, or leave -i out`,
    ])
  })

  it('has -i auto name the IPv4 address of who is seen so', async () => {
    const asking = ['-i', 'auto', '--stun', `[${other.ipv6}]:${FORGER}`, '--stun-trusted']
    const { stderr } = await knocks('-r', translated(), '--passes', '1', '-v', ...asking)
    expect(stderr).toContain(`open port ${SSH} for 203.0.113.5, `)
  })
})
