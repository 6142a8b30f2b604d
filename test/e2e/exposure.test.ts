import { fileURLToPath } from 'node:url'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import { judgeFor, type Stage } from '../../src/daemon/exposure/judge'
import { toNumber } from '../../src/daemon/exposure/matches'
import { parseTable } from '../../src/daemon/iptables/table'
import { logged } from '../lab/gate'
import { seededRandom } from '../random'
import { useGate } from './use-gate'

const SSH = 22
const KNOCKTURN = fileURLToPath(new URL('../../bin/knockturn', import.meta.url))
const FAMILIES = ['iptables', 'ip6tables']

const { server, stranger, gate } = useGate(['stranger'], {
  backend: 'iptables',
  serve: [SSH],
  keyOptions: ['--services', '22/tcp', '--max', '1h'],
})

const all = (...args: string[]) => Promise.all(FAMILIES.map((family) => server.must([family, ...args])))
const check = () => server.run([...gate.command, '--check'])

describe('knockdaemon --check', () => {
  afterEach(() => all('-P', 'INPUT', 'DROP'))

  it('finds nothing behind a policy that drops', async () => {
    expect(await check()).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^note: a daemon is running .*\n\S+: no fault\n$/),
      stderr: '',
    })
  })

  it('names a service that the policy lets strangers reach, and what shuts it', async () => {
    await all('-P', 'INPUT', 'ACCEPT')
    const { code, stderr } = await check()
    expect((await stranger.connect(server.ipv4, SSH)).saw).toBe('open')
    expect([code, stderr.match(/\n/g)]).toEqual([1, ['\n', '\n']])
    const [, ...commands] =
      /22\/tcp is open to everyone over IPv4 and IPv6: .*\nhint: .*"(iptables .*)" and "(ip6tables .*)"/.exec(stderr) ?? []
    for (const command of commands) await server.must(command.split(' '))
    expect((await stranger.connect(server.ipv4, SSH)).saw).toBe('silence')
    expect(await check()).toMatchObject({ code: 0, stderr: '' })
    for (const command of commands) await server.must(command.replace('-A', '-D').split(' '))
  })

  it('names the rule that lets strangers in, and its removal shuts the service', async () => {
    await server.must(['iptables', '-I', 'INPUT', '-p', 'tcp', '--dport', '22', '-j', 'ACCEPT'])
    const { code, stderr } = await check()
    expect(code).toBe(1)
    const [, line = '', command = ''] =
      /open to everyone over IPv4: this rule lets everyone in: (-A INPUT .*)\nhint: run "(.*)"/.exec(stderr) ?? []
    expect(line).toBe('-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT')
    await server.must(command.split(' '))
    expect(await check()).toMatchObject({ code: 0, stderr: '' })
  })

  it('notes what nobody can know: a rule that nft has put among those of INPUT', async () => {
    await server.must(['nft', 'add', 'rule', 'ip', 'filter', 'INPUT', 'ct', 'state', 'vmap', '{ established : accept }'])
    try {
      expect(await check()).toMatchObject({
        code: 0,
        stdout: expect.stringContaining(
          'note: cannot tell whether 22/tcp is open to everyone over IPv4: iptables cannot read a rule in chain INPUT',
        ),
      })
    } finally {
      const listing = await server.must(['nft', '-a', 'list', 'chain', 'ip', 'filter', 'INPUT'])
      const [, handle = ''] = /vmap .* # handle (\d+)/.exec(listing) ?? []
      await server.must(['nft', 'delete', 'rule', 'ip', 'filter', 'INPUT', 'handle', handle])
    }
  })

  it('notes a table of another program that may shut what is open, and none that only bans addresses', async () => {
    await all('-P', 'INPUT', 'ACCEPT')
    const chain = (rules: string) => `chain in { type filter hook input priority 0; ${rules}\n}`
    const load = (rules: string) =>
      server.must(['nft', '-f', '-'], { input: `table inet other {\nset bad { type ipv4_addr; }\n${chain(rules)}\n}\n` })
    await load('ip saddr @bad drop;')
    expect((await check()).code).toBe(1)
    await load('policy drop; ct state established accept;')
    const { code, stdout } = await check()
    await server.must(['nft', 'delete', 'table', 'inet', 'other'])
    expect([code, stdout]).toEqual([
      0,
      expect.stringContaining(
        'note: cannot tell whether 22/tcp is open to everyone over IPv4 and IPv6: table inet other of nft may close it',
      ),
    ])
  })

  it('notes a rule that forwards the port', async () => {
    const rule = ['PREROUTING', '-p', 'tcp', '--dport', '22', '-j', 'REDIRECT', '--to-ports', '2222']
    await server.must(['iptables', '-t', 'nat', '-A', ...rule])
    const { code, stdout } = await check()
    await server.must(['iptables', '-t', 'nat', '-D', ...rule])
    expect([code, stdout]).toEqual([0, expect.stringContaining('this rule of table nat forwards it')])
  })

  it('notes that it may not look, where it may not', async () => {
    const user =
      gate.user.uid === process.getuid?.() ? [] : ['--reuid', `${gate.user.uid}`, '--regid', `${gate.user.gid}`, '--clear-groups']
    const unprivileged = ['setpriv', ...user, '--inh-caps=-all', '--ambient-caps=-all', '--bounding-set=-all']
    const { code, stdout } = await server.run([...unprivileged, ...gate.knockdaemon, '--check', '--config', gate.config])
    expect([code, stdout.split('\n')[0]]).toEqual([
      0,
      'note: not checked whether the services are open to everyone: reading the firewall requires CAP_NET_ADMIN',
    ])
  })

  it('names what is open where nothing is installed', async () => {
    await gate.knockturn('firewall', 'remove')
    await all('-P', 'INPUT', 'ACCEPT')
    const before = await check()
    await all('-P', 'INPUT', 'DROP')
    await gate.knockturn('firewall', 'install', '--config', gate.config)
    expect(before).toMatchObject({ code: 1, stderr: expect.stringContaining('22/tcp is open to everyone over IPv4 and IPv6') })
  })
})

it('firewall install warns of what stays open', async () => {
  await all('-P', 'INPUT', 'ACCEPT')
  const { code, stderr } = await server.run([KNOCKTURN, 'firewall', 'install', '--config', gate.config])
  await all('-P', 'INPUT', 'DROP')
  expect([code, stderr]).toEqual([
    0,
    expect.stringMatching(/^knockturn: warning: 22\/tcp is open to everyone over IPv4 and IPv6: .*\n$/),
  ])
})

describe('the daemon', () => {
  const OPEN = 'a service is open to everyone, without a knock'

  it('says at its start what strangers reach', async () => {
    await gate.daemon.end()
    await all('-P', 'INPUT', 'ACCEPT')
    gate.daemon = await gate.startDaemon()
    const line = await gate.daemon.line(logged(OPEN))
    await all('-P', 'INPUT', 'DROP')
    expect(JSON.parse(line)).toMatchObject({
      level: 50,
      reason: expect.stringContaining('22/tcp is open to everyone over IPv4 and IPv6'),
    })
  })

  it('looks again when keys grant other services', async () => {
    await server.must(['iptables', '-A', 'INPUT', '-p', 'tcp', '--dport', '8080', '-j', 'ACCEPT'])
    await gate.newKey('web', '--services', '8080/tcp')
    const line = await gate.daemon.line((text) => logged(OPEN)(text) && text.includes('8080/tcp'))
    await server.must(['iptables', '-D', 'INPUT', '-p', 'tcp', '--dport', '8080', '-j', 'ACCEPT'])
    expect(JSON.parse(line).reason).toMatch(/^8080\/tcp is open to everyone over IPv4: this rule lets everyone in: /)
  })

  it('judges what it has the rights for: it has those that are needed', async () => {
    await gate.daemon.end()
    gate.daemon = await gate.startDaemon()
    await gate.newKey('more', '--services', '8081/tcp')
    await gate.daemon.line(logged('reloaded'))
    expect(gate.daemon.lines.filter((line) => line.includes('cannot tell whether'))).toEqual([])
  })
})

describe('random rules', () => {
  /** Two strangers, who stand for the two halves of all addresses. */
  const OTHER = '98.51.100.2'
  const SEEDS = Array.from({ length: 8 }, (_, i) => i)
  const EACH = 15

  beforeAll(async () => {
    await gate.daemon.end()
    await gate.knockturn('firewall', 'remove')
    await server.addAddress('98.51.100.1/24')
    await stranger.addAddress(`${OTHER}/24`)
  })

  /** Conditions, and whether nobody can know by the rules alone what they hold for. */
  const certain = [
    '',
    '',
    '',
    '-p tcp',
    '-p udp',
    '! -p udp',
    '! -p tcp',
    '-s 0.0.0.0/1',
    '-s 128.0.0.0/1',
    '! -s 128.0.0.0/1',
    '-s 203.0.113.0/24',
    '! -s 203.0.113.0/24',
    '-i eth0',
    '-i eth+',
    '-i lo',
    '! -i lo',
    '! -i eth+',
    '-i wg0',
    '-d 198.51.100.1/32',
    '-d 192.0.2.1/32',
    '! -d 192.0.2.1/32',
    '-f',
    '! -f',
    '-p tcp --dport 22',
    '-p tcp --dport 1:1023',
    '-p tcp ! --dport 22',
    '-p tcp ! --dport 80',
    '-p tcp -m multiport --dports 22,80',
    '-p tcp -m multiport ! --dports 80,443',
    '-p tcp -m multiport --dports 20:25',
    '-p tcp --syn',
    '-p tcp ! --syn',
    '-p tcp --tcp-flags SYN,RST SYN',
    '-p tcp --tcp-flags SYN,ACK SYN,ACK',
    '-m conntrack --ctstate NEW',
    '-m conntrack ! --ctstate NEW',
    '-m conntrack --ctstate INVALID,RELATED',
    '-m state --state NEW,ESTABLISHED',
    '-m conntrack ! --ctstate UNTRACKED',
    '-m addrtype --dst-type LOCAL',
    '-m addrtype --dst-type BROADCAST,MULTICAST',
    '-m addrtype ! --dst-type LOCAL',
    '-m addrtype --src-type UNICAST',
    '-m pkttype --pkt-type unicast',
    '-m pkttype ! --pkt-type unicast',
    '-m iprange --src-range 203.0.113.1-203.0.113.9',
    '-m iprange ! --src-range 203.0.113.1-203.0.113.9',
    '-m comment --comment "-j DROP"',
    '-m mark --mark 0',
    '-m mark ! --mark 0x1',
    '-m mark --mark 0x10/0x10',
  ]
  const doubtful = [
    '-m recent --rcheck --name nobody',
    '-m recent ! --rcheck --name nobody',
    '-m length --length 40:80',
    '-m length --length 1000:1500',
    '-m mac --mac-source 00:11:22:33:44:55',
    '-m mac ! --mac-source 00:11:22:33:44:55',
    '-p tcp -m connlimit --connlimit-above 1',
    '-p tcp -m connlimit --connlimit-upto 50',
  ]

  const make = (random: () => number) => {
    const pick = <T>(items: readonly T[]) => items[Math.floor(random() * items.length)] as T
    const chains = ['INPUT', 'A', 'B', 'C']
    const isCertain = random() < 0.6
    const rule = (chain: string, i: number) => {
      const match = isCertain || random() < 0.8 ? pick(certain) : pick(doubtful)
      const later = chains.slice(i + 1)
      const leads = later.flatMap((to) => [`-j ${to}`, `-j ${to}`, `-g ${to}`])
      const other = isCertain ? ['-j LOG', ''] : ['-j MARK --set-mark 1', '-j NFQUEUE', '-j LOG', '']
      return `-A ${chain} ${match} ${pick(['-j ACCEPT', '-j DROP', '-j REJECT', '-j RETURN', ...leads, ...leads, pick(other)])}`
    }
    const rules = chains.flatMap((chain, i) => Array.from({ length: 1 + Math.floor(random() * 4) }, () => rule(chain, i)))
    const front = random() < 0.3 ? [`-A PREROUTING ${pick(certain)} -j ${pick(['DROP', 'ACCEPT', 'RETURN'])}`] : []
    const policy = pick(['ACCEPT', 'DROP'])
    const filter = ['*filter', `:INPUT ${policy} [0:0]`, ':A - [0:0]', ':B - [0:0]', ':C - [0:0]', ...rules, 'COMMIT']
    return { isCertain, script: [...filter, '*mangle', ':PREROUTING ACCEPT [0:0]', ...front, 'COMMIT', ''].join('\n') }
  }

  const stageOf = (table: string, base: string, text: string): Stage => {
    const { chains, rules } = parseTable('iptables', text)
    const own = [base, ...chains].map((name) => [name, rules.get(name) ?? []] as const)
    return { table, base, policy: new RegExp(`^-P ${base} (\\S+)`, 'm').exec(text)?.[1] ?? null, chains: new Map(own) }
  }

  /** Whether a stranger connects, from either address to either, tried so often. */
  const connects = async (tries: number) => {
    const ways = [OTHER, stranger.ipv4].flatMap((from) => ['98.51.100.1', server.ipv4].map((to) => ({ from, to })))
    for (let i = 1; i <= tries; i++)
      for (const { from, to } of ways) if ((await stranger.connect(to, SSH, 150 * i, from)).saw === 'open') return true
    return false
  }

  it.each(SEEDS)(
    'are judged as the kernel judges them (%i)',
    async (seed) => {
      const random = seededRandom(seed)
      const wrong: string[] = []
      const seen = new Set<string>()
      for (let i = 0; i < EACH; i++) {
        const { script, isCertain } = make(random)
        await server.must(['iptables-restore'], { input: script })
        const [filter, mangle] = [await server.must(['iptables', '-S']), await server.must(['iptables', '-t', 'mangle', '-S'])]
        const service = { port: SSH, protocol: 'tcp' } as const
        const addresses = [server.ipv4, '98.51.100.1'].map((one) => toNumber(one) as bigint)
        const stages = [stageOf('mangle', 'PREROUTING', mangle), stageOf('filter', 'INPUT', filter)]
        const { state } = judgeFor(stages, { family: 'iptables', interfaces: ['eth0'], addresses, services: [service] })(service)
        seen.add(state)
        const isOpen = state !== 'unknown' && (await connects(state === 'open' ? 5 : 1))
        if (state === 'unknown' ? isCertain : isOpen !== (state === 'open'))
          wrong.push(`${state}, and ${isOpen ? 'open' : 'shut'}:\n${script}`)
      }
      expect([wrong.join('\n'), seen.has('open'), seen.has('shut')]).toEqual(['', true, true])
    },
    240_000,
  )
})
