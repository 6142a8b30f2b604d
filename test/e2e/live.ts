import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import type { Check } from '../../src/system/check'
import type { Gate } from '../lab/gate'
import type { Host } from '../lab/host'
import { ROOT } from '../root'

/* The doctor's checks that send packets, in a host of the lab, and what they must leave nothing of. */

type Which = 'strangers' | 'heard' | 'self-knock'

/** The command of some checks. */
export const liveChecks = (gate: Pick<Gate, 'config'>, which: Which): string[] => [
  process.execPath,
  join(ROOT, 'test/run.mjs'),
  join(ROOT, 'test/e2e/live-checks.ts'),
  which,
  gate.config,
]

/** Runs some checks on a host. @param path a folder of programs that are to be found first */
export async function check(host: Host, gate: Pick<Gate, 'config'>, which: Which, path?: string): Promise<Check[]> {
  const env = path === undefined ? {} : { PATH: `${path}:${process.env.PATH}` }
  return JSON.parse(await host.must(liveChecks(gate, which), { env, timeoutMs: 120_000 }))
}

/** Where a program may leave a file that it makes without a word. */
const FOLDERS = ['/', '/root', '/run', '/run/netns', '/mnt', '/srv', '/media', '/opt', '/etc', '/var/lib']

/** All that could be left on a host: interfaces, addresses, routes, neighbours, rules, mounts, namespaces, processes and files. */
export async function traces(host: Host): Promise<string[]> {
  const asked = [
    ['ip', '-o', 'link'],
    ['ip', '-o', 'address'],
    ['ip', '-4', 'route', 'show', 'table', 'all'],
    ['ip', '-6', 'route', 'show', 'table', 'all'],
    ['nft', 'list', 'tables'],
    ['iptables-save'],
    ['ip6tables-save'],
  ]
  const said = await Promise.all(asked.map((argv) => host.must(argv)))
  const lines = said.flatMap((text) => text.split('\n').map(withoutCounts))
  const files = FOLDERS.flatMap((folder) => readdirSync(folder).map((name) => join(folder, name)))
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  const processes = pids.flatMap((pid) => {
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')
      return [words, ...['net', 'pid', 'mnt'].map((kind) => readlinkSync(`/proc/${pid}/ns/${kind}`))]
    } catch {
      return []
    }
  })
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n')
  return [...new Set([...lines, ...files, ...processes, ...mounts])].filter(isOfNote).sort()
}

/** Counters count, times go by, and comments of iptables-save say when. */
const withoutCounts = (line: string) =>
  line
    .replace(/\[\d+:\d+\]/g, '')
    .replace(/(expires|valid_lft|preferred_lft) \S+/g, '')
    .replace(/^#.*/, '')

/** What we and the lab start for a moment ourselves. */
const isOfNote = (line: string) =>
  !/^(ip|nft|iptables-save|ip6tables-save|iptables|\/usr\/bin\/esbuild|.*esbuild) ?/.test(line) && line !== ''
