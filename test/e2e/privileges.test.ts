import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { logged, PRIVILEGES, provision } from '../lab/gate'
import { knocked } from '../lab/knocks'
import { useGate } from './use-gate'

const SSH = 22
const isRoot = process.getuid?.() === 0

const { server, client, gate, lab } = useGate(['client'], { serve: [SSH] })

beforeEach(() => client.moveOn())

/** What the status of each process on the server says of these; the daemon's iptables come and go. */
const fields = async (...names: string[]) =>
  (await server.processes()).flatMap((pid) => {
    try {
      const status = readFileSync(`/proc/${pid}/status`, 'utf8')
      return [names.map((name) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1])]
    } catch {
      return []
    }
  })
const setpriv = (set: string, ...more: string[]) => [
  'setpriv',
  ...['--inh-caps', '--ambient-caps', '--bounding-set'].map((name) => `${name}=${set}`),
  ...more,
]

/** Starts a daemon by this command in the place of ours, knocks, and ends it. @returns its lines */
async function knockAt(command: readonly string[], { config, key } = gate) {
  const daemon = server.start([...command, '--config', config, ...(config === gate.config ? [] : ['--new-ledger'])])
  await daemon.line(logged('ready'))
  expect((await knocked(client, daemon, key, '-p', String(SSH))).msg).toBe('accepted')
  expect((await client.connect(server.ipv4, SSH)).saw).toBe('open')
  await daemon.end()
  return daemon.lines
}

describe('a daemon as its unit starts it', () => {
  it('opens doors with CAP_NET_ADMIN alone, and so does all that it starts', async () => {
    const { daemon } = gate
    expect((await knocked(client, daemon, gate.key, '-p', String(SSH))).msg).toBe('accepted')
    expect((await client.connect(server.ipv4, SSH)).saw).toBe('open')
    const held = await fields('CapPrm', 'CapEff', 'CapBnd', 'NoNewPrivs')
    expect(held.length).toBeGreaterThan(1)
    expect(new Set(held.map(String))).toEqual(new Set(['0000000000001000,0000000000001000,0000000000001000,1']))
  })

  it('has had its rules put in place with no more than that', async () => {
    await gate.knockturn('firewall', 'remove')
    const knockturn = gate.knockdaemon.map((part) => part.replace(/knockdaemon$/, 'knockturn'))
    await server.must([...PRIVILEGES, ...knockturn, 'firewall', 'install', '--config', gate.config])
    expect((await knocked(client, gate.daemon, gate.key, '-p', String(SSH))).msg).toBe('accepted')
    expect((await client.connect(server.ipv4, SSH)).saw).toBe('open')
  })

  it('has a user who is not root', async () => {
    const running = await fields('Uid')
    expect(running.length).toBeGreaterThan(1)
    for (const [uid] of running) expect(uid).not.toMatch(/\b0\b/)
  })

  it('says nothing of its privileges', () => {
    expect(gate.daemon.lines.filter((line) => line.includes('cap'))).toEqual([])
  })
})

describe('the keyring of a daemon with a user of its own', () => {
  const ownerOf = (id: string) => statSync(join(gate.keys, `${id}.key`)).uid

  it('has keys of that user, whoever makes them', async () => {
    await gate.newKey('made')
    expect(ownerOf('made')).toBe(gate.user.uid)
  })

  it('has keys of that user when they are revoked', async () => {
    await gate.newKey('gone')
    await gate.knockturn('key', 'revoke', 'gone', '--keys', gate.keys)
    expect(ownerOf('gone')).toBe(gate.user.uid)
  })

  it('has keys of that user where Node changes its user for nobody, and rules are put in place', async () => {
    const refuse = 'process.setgroups = () => { throw Object.assign(new Error(), { code: "ERR_INVALID_STATE" }) }'
    const [node = '', program = ''] = gate.knockdaemon
    const argv = [
      node,
      `--import=data:text/javascript,${encodeURIComponent(refuse)}`,
      program.replace(/knockdaemon$/, 'knockturn'),
    ]
    const { code, stderr } = await server.run([
      ...argv,
      'key',
      'new',
      'by-nobody',
      '--server',
      'gate.example',
      '--keys',
      gate.keys,
    ])
    expect([code, stderr, ownerOf('by-nobody')]).toEqual([0, '', gate.user.uid])
    await server.must([...argv, 'firewall', 'install', '--config', gate.config])
  })

  it('gives copies to who exports them', async () => {
    expect(statSync(await gate.newKey('copied')).uid).toBe(process.getuid?.())
  })
})

describe('a daemon that is started with more', () => {
  const refused = async (command: readonly string[]) => {
    const { code, stdout, stderr } = await server.run([...command, '--config', gate.config])
    expect([code, stdout, stderr.trimEnd().split('\n').length]).toEqual([1, '', 2])
    return stderr
  }
  const become = () => (isRoot ? ['--reuid', `${gate.user.uid}`, '--regid', `${gate.user.gid}`, '--clear-groups'] : [])
  beforeAll(() => gate.daemon.end())

  it('is refused, and told what to do', async () => {
    expect(await refused(gate.knockdaemon)).toMatch(
      /^knockdaemon: error: must not run with unneeded privileges \(.* and \d+ more\): requires its own user with only cap_net_admin\nhint: start it by docs\/systemd\/knockdaemon.service, or with "setpriv .*", or add --allow-root\n$/,
    )
  })

  it('is refused for a single one, by its name', async () => {
    const command = [...setpriv('-all,+net_admin,+net_raw', ...become()), ...gate.knockdaemon]
    expect(await refused(command)).toContain('unneeded privileges (cap_net_raw): ')
  })

  it('is refused without the one that it needs', async () => {
    expect(await refused([...setpriv('-all', ...become()), ...gate.knockdaemon])).toMatch(
      /: missing privileges: requires cap_net_admin, in a form that iptables and tcpdump inherit\nhint: /,
    )
  })

  it('works by the line that the refusal says', async () => {
    const [, line = ''] = /"(setpriv .*?)"/.exec(await refused(gate.knockdaemon)) ?? []
    const [program, ...options] = line.split(' ')
    // Here the user has another name; in a user's own namespace there is no other, and nobody to become.
    const own = options.flatMap((option, i) => {
      if (isRoot) return option === 'knockturn' ? String(gate.user.uid) : option
      return /^--(reuid|regid|clear-groups)/.test(option) || options[i - 1]?.startsWith('--re') ? [] : option
    })
    expect(own.slice(-3)).toEqual([gate.knockdaemon[1], '--config', gate.config])
    await knockAt([program, ...own.slice(0, -3), ...gate.knockdaemon])
  })

  it('opens doors on the word --allow-root, and warns once', async () => {
    const plain = await provision(lab, { allowRoot: true, id: 'plain' })
    await plain.daemon.end()
    const lines = await knockAt([...plain.knockdaemon, '--allow-root'], plain)
    const warnings = lines.filter((line) => line.includes('running with unneeded privileges ('))
    expect(warnings.map((line) => JSON.parse(line).level)).toEqual([40])
  })

  // In a user's own namespace nobody is root.
  if (isRoot) {
    it('is refused as root that is left with what root’s tcpdump insists on: the files are root’s all the same', async () => {
      const plain = await provision(lab, { allowRoot: true, id: 'bounded' })
      await plain.daemon.end()
      const bounded = [...setpriv('-all,+net_admin,+setgid,+setuid', '--no-new-privs'), ...plain.knockdaemon]
      const { code, stderr } = await server.run([...bounded, '--config', plain.config])
      expect([code, stderr]).toEqual([1, expect.stringContaining('unneeded privileges (uid 0): ')])
    })
  }
})
