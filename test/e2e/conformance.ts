import { randomBytes } from 'node:crypto'
import {
  chmodSync,
  chownSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { base32nopad } from '@scure/base'
import { BACKENDS } from '../../src/daemon/backends/all'
import type { Request } from '../../src/protocol/request'
import { clockFrom, setClock } from '../lab/clock'
import { type Gate, type GateOptions, GUARD, logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { type Verdict, verdict } from '../lab/knocks'
import type { Lab } from '../lab/lab'
import { type Standing, standing } from '../lab/standing'
import { PATIENCE, until } from '../lab/waiters'
import { composer } from '../replay/composer'

/* What the conformance suite works with: how each backend is set up and flushed, and how a server of any backend is asked and looked at. */

export const SSH = 22
export const WEB = 443
/** Ports that one key may open together: as many as a grant takes. Nobody listens there. */
export const MANY = { first: 1_000, count: 64 }
/** A network outside the lab's, for addresses by the dozen and for blocks. */
export const OUTSIDE = { ipv4: '203.0.113.0/24', ipv6: '2001:db8:c::/48' }

const PATH = process.env.PATH ?? ''

/** How a column of the matrix is set up. A new backend is one more of these. */
export interface Driver {
  readonly name: string
  readonly backend: keyof typeof BACKENDS
  readonly allowRoot: boolean
  /** A folder whose programs are found before others; nothing where those of PATH are meant. */
  tools(lab: Lab): Promise<string>
  /** The programs that the daemon changes the firewall by. */
  readonly programs: readonly string[]
  /** How a change names a port. */
  words(port: number): string
  /** Takes away all rules, as another program does that knows nothing of ours. */
  flush(server: Host): Promise<unknown>
}

const nothing = async () => ''

/** Loads both families' tables anew without what is ours, as a firewall's own start script does. */
const reload = (server: Host) =>
  Promise.all(
    ['iptables', 'ip6tables'].map(async (family) => {
      const saved = await server.must([`${family}-save`, '-t', 'filter'])
      const others = saved.split('\n').filter((line) => !line.includes('KNOCKTURN'))
      await server.must([`${family}-restore`], { input: others.join('\n') })
    }),
  )

/** A folder whose iptables is the old one: the lab and the daemon find their iptables by PATH. */
async function legacyTools(lab: Lab): Promise<string> {
  const folder = lab.folder()
  const program = realpathSync((await lab.server.must(['sh', '-c', 'command -v iptables-legacy'])).trim())
  for (const name of ['iptables', 'ip6tables'])
    for (const tool of [name, `${name}-save`, `${name}-restore`]) symlinkSync(program, join(folder, tool))
  return folder
}

const byIptables = {
  backend: 'iptables',
  programs: ['iptables-restore', 'ip6tables-restore'],
  words: (port: number) => `--dport ${port}`,
  flush: reload,
} as const

export const DRIVERS: readonly Driver[] = [
  { ...byIptables, name: 'iptables-nft', allowRoot: false, tools: nothing },
  // The old one wants more than our unit gives: a lock file in /run, and raw sockets.
  { ...byIptables, name: 'iptables-legacy', allowRoot: true, tools: legacyTools },
  {
    ...byIptables,
    name: 'iptables-nft, guard',
    backend: 'iptables with a guard',
    allowRoot: false,
    tools: nothing,
    flush: (server) => server.must(['nft', 'flush', 'ruleset']),
  },
  {
    name: 'nftables',
    backend: 'nftables',
    allowRoot: false,
    tools: nothing,
    programs: ['nft'],
    words: (port) => `tcp . ${port}`,
    flush: (server) => server.must(['nft', 'flush', 'ruleset']),
  },
  {
    ...byIptables,
    name: 'dry-run',
    backend: 'dry-run',
    allowRoot: false,
    tools: nothing,
    // It must run none of them.
    programs: ['iptables', 'ip6tables', 'iptables-restore', 'ip6tables-restore', 'nft'],
  },
]

/** The drivers of backends that have leases in force. */
export const REAL = DRIVERS.filter(({ backend }) => BACKENDS[backend].isReal)

/** The columns of the matrix. A backend that has no driver is one in which every cell is empty. */
export const COLUMNS = Object.keys(BACKENDS).flatMap((backend) => {
  const names = DRIVERS.filter((driver) => driver.backend === backend).map(({ name }) => name)
  return names.length > 0 ? names : [backend]
})

/** What a server of this backend has. */
export async function gateOf(driver: Driver, lab: Lab): Promise<GateOptions & { serve: number[] }> {
  process.env.PATH = [await driver.tools(lab), PATH].filter(Boolean).join(':')
  return {
    serve: [SSH, WEB],
    keyOptions: ['--services', `${SSH}/tcp,${WEB}/tcp`, '--max', '4h', '--lock'],
    ...(driver.backend === 'iptables with a guard' ? { backend: 'iptables', guard: GUARD } : { backend: driver.backend }),
    allowRoot: driver.allowRoot,
  }
}

/** Gives back the PATH that {@link gateOf} has changed. */
export const leave = () => {
  process.env.PATH = PATH
}

/** Who knocks or connects, from which address, by which family, with which key; and by how many seconds the clock is off. */
export interface Who {
  host?: Host
  family?: 'ipv4' | 'ipv6'
  from?: string | undefined
  key?: string | undefined
  ahead?: number
}

/** What a command does to the firewall from now on, instead of what it should. */
export type Trouble =
  | { refuses: string }
  /** It makes the change, and ends as if killed. */
  | 'is killed'
  | 'hangs'

/** Milliseconds for a connection of which a volley has too many: where one is let in, that takes less than one. */
const VOLLEY_TIME = 250

export type Stage = ReturnType<typeof stageOf>

/** A server with a backend, a client and a stranger. */
export function stageOf(driver: Driver, hosts: { lab: Lab; gate: Gate } & Record<'server' | 'client' | 'stranger', Host>) {
  const { gate, server, client, stranger } = hosts
  const composers = new Map<string, ReturnType<typeof composer>>()
  let made = 0

  /** Knocks, and gives what the log says of it. @param what the message, if it is neither `accepted` nor `refused` */
  async function ask(
    more: Partial<Request>,
    { host = client, family = 'ipv4', from, key = 'traveller', ahead = 0 }: Who = {},
    what = '',
  ): Promise<Verdict> {
    const composing = composers.get(key) ?? composer({ keys: gate.keys }, key)
    composers.set(key, composing)
    const { period, window, ports } = await composing
    // In the window in which it is sent, however late its composer was ready.
    const at = window() + Math.floor(ahead / period)
    const touches = ports({ seconds: 600, ...more }, at).map((port) => ({ protocol: 'tcp' as const, port }))
    const source = from ?? host[family]
    const send = () => host.replay(touches, server[family], from)
    if (!what) return verdict(gate.daemon, send, PATIENCE, [source])
    const since = gate.daemon.lines.length
    await send()
    return JSON.parse(await gate.daemon.line(logged(what, { source }), since))
  }

  /** What a TCP port is to somebody. */
  async function sees(port = SSH, { host = client, family = 'ipv4', from }: Who = {}): Promise<string> {
    return (await host.connect(server[family], port, 300, from)).saw
  }

  /** Starts the daemon again. @param words in front of its program */
  async function restart(signal: NodeJS.Signals = 'SIGTERM', words: readonly string[] = []): Promise<void> {
    await gate.daemon.end(signal)
    gate.daemon = server.start(gate.commandBehind(...words))
    await gate.daemon.line(logged('ready'))
  }

  /** Where the daemon finds programs that get into trouble when they are told to. */
  function troublesome(): { words: string[]; cause(trouble: Trouble | null): void } {
    const folder = join(gate.folder, `tools${made++}`)
    mkdirSync(folder, { mode: 0o755 })
    const told = (what: string) => join(folder, what)
    return {
      words: ['env', `PATH=${folder}:${process.env.PATH}`],
      cause(trouble) {
        for (const what of ['refuses', 'is killed', 'hangs']) rmSync(told(what), { force: true })
        if (typeof trouble === 'string') writeFileSync(told(trouble), '')
        else if (trouble) writeFileSync(told('refuses'), trouble.refuses)
        for (const program of driver.programs) {
          const real = `$(PATH=${process.env.PATH}; command -v ${program})`
          const script = `#!/bin/sh
case " $* " in *" list "*|*" -c "*|*" --test "*|*" --version "*|*" monitor "*) exec "${real}" "$@";; esac
[ -e '${told('hangs')}' ] && exec sleep 60
text=$(cat)
words=$(cat '${told('refuses')}' 2>/dev/null) && case "$text" in *"$words"*) echo "it is refused" >&2; exit 1;; esac
printf '%s\\n' "$text" | "${real}" "$@"
code=$?
[ -e '${told('is killed')}' ] && kill -9 $$
exit $code
`
          writeFileSync(told(program), script)
          chmodSync(told(program), 0o755)
        }
      },
    }
  }

  /** A clock for the daemon that is set while it runs. */
  function clock(): { words: string[]; set(seconds: number): void } {
    const file = join(gate.folder, `clock${made++}`)
    const set = (seconds: number) => {
      setClock(file, seconds)
      chmodSync(file, 0o644)
    }
    set(0)
    return { words: clockFrom(file), set }
  }

  /**
   * Adds keys like the first one, and waits until the daemon hears them.
   * @param lines what their files say instead, as patterns and lines
   */
  async function addKeys(count: number, ...lines: [RegExp, string][]): Promise<string[]> {
    const since = gate.daemon.lines.length
    const text = readFileSync(join(gate.keys, 'traveller.key'), 'utf8')
    const ids = Array.from({ length: count }, () => `key${made++}`)
    for (const id of ids) {
      const changes: [RegExp, string][] = [
        [/^id = .*$/m, `id = "${id}"`],
        [/^secret = .*$/m, `secret = "${base32nopad.encode(randomBytes(32))}"`],
        ...lines,
      ]
      const file = join(gate.keys, `.${id}.new`)
      writeFileSync(
        file,
        changes.reduce((one, [pattern, line]) => one.replace(pattern, line), text),
        { mode: 0o600 },
      )
      chownSync(file, gate.user.uid, gate.user.gid)
      renameSync(file, join(gate.keys, `${id}.key`))
    }
    const keys = readdirSync(gate.keys).filter((name) => name.endsWith('.key')).length
    await gate.daemon.line(logged('reloaded', { keys }), since)
    return ids
  }

  return {
    ...{ ...hosts, driver, ask, sees, restart, troublesome, clock, addKeys },
    /** The leases and locks of the client. */
    stands: (): Promise<Standing[]> => server.leases(client),
    allStand: (): Promise<Standing[]> => standing(server),
    /** Waits until the firewall has nothing of the client's. */
    nothingStands: () => until(async () => (await server.leases(client)).length === 0, 'nothing of the client stands'),
    /** Knocks for a lease of one connection, and tries so many at the same moment. @returns how many were let in */
    async volley(connections: number, who: Who = {}): Promise<number> {
      await ask({ port: SSH, once: true }, who)
      const saw = await client.volley(server[who.family ?? 'ipv4'], SSH, connections, VOLLEY_TIME)
      if (saw.some((what) => what !== 'open' && what !== 'silence')) throw new Error(`expected open or silence, got ${saw}`)
      return saw.filter((what) => what === 'open').length
    },
    /** What the dry run says on standard output that it does, since a line. */
    async does(act: string, since: number): Promise<Record<string, unknown>> {
      return JSON.parse(await gate.daemon.line((line) => line.startsWith(`{"do":"${act}"`), since))
    },
    /** All that it has said. */
    done: (since: number): string[] =>
      gate.daemon.lines.slice(since).flatMap((line) => (line.startsWith('{"do":') ? JSON.parse(line).do : [])),
    /** Takes all that is ours away, and puts it back without leases. */
    async renew(): Promise<void> {
      await gate.daemon.end()
      await gate.knockturn('firewall', 'remove')
      await gate.knockturn('firewall', 'install', '--config', gate.config)
      gate.daemon = await gate.startDaemon()
    },
    /** Lets the server answer addresses of {@link OUTSIDE}. */
    async reachOutside(): Promise<void> {
      await server.must(['ip', 'route', 'replace', OUTSIDE.ipv4, 'dev', 'eth0'])
      await server.must(['ip', '-6', 'route', 'replace', OUTSIDE.ipv6, 'dev', 'eth0'])
    },
    bothSee: async (port = SSH): Promise<string[]> => [await sees(port), await sees(port, { host: stranger })],
  }
}
