import { dirname, join } from 'node:path'
import { backendOf } from '../../daemon/backends/all'
import { Finding } from '../../daemon/checks/finding'
import type { Config } from '../../daemon/config'
import { listRuleset } from '../../daemon/nftables/nft'
import { BASE } from '../../daemon/nftables/ruleset'
import type { Check } from '../../system/check'
import { hasCommand } from '../../system/commands'
import { listed } from '../../system/fault'
import { notSaved, printedFiles } from '../guard'
import { askOwnProgram, programFolder } from '../own-script'

/* Whether the guard stands where every packet comes to it first, now and after the next boot. */

/** The priority of the mangle table of iptables at prerouting, in the kernel (NF_IP_PRI_MANGLE). */
const MANGLE_PRIORITY = -150
/** Chains that are named in one line. */
const NAMED = 3

/** Checks the guard. @param file the config's path */
export async function checkGuard(file: string, config: Config, hasSystemd: boolean): Promise<readonly Check[]> {
  const { backend, guard } = config.firewall
  const found = new Finding('guard')
  if (backend === 'command' || backend === 'dry-run') {
    found.felt(`backend "${backend}" guards nothing on this machine: what is shut, other rules shut`)
    return found.end('')
  }
  if (guard.ports.length === 0) {
    found.felt(
      `${file}: no guard is set: your own rules alone keep strangers from the services`,
      'set guard in [firewall], such as guard = ["22/tcp"], and then run "knockturn firewall install" ("knockturn guard try" counts what it would drop)',
    )
    return found.end('')
  }
  return [...(await checkLoaded(config, found)), ...(await checkFront(config)), ...(await checkSaved(file, hasSystemd))]
}

async function checkLoaded(config: Config, found: Finding): Promise<readonly Check[]> {
  const where = config.firewall.backend === 'nftables' ? 'table inet knockturn' : 'table mangle, chain PREROUTING'
  const isInPlace = await found.look(() => backendOf(config).isInPlace())
  if (isInPlace === false)
    found.wrong(
      `${where}: the guard is not in place, or not whole, or another rule stands before it`,
      'run "knockturn firewall install", and look with "knockturn firewall show"',
    )
  return found.end(`${where}: it is in place, and whole`)
}

/** Whether no other program forwards packets before the guard has seen them. */
async function checkFront({ firewall }: Config): Promise<readonly Check[]> {
  const found = new Finding('guard in front')
  if (!(await hasCommand('nft'))) {
    // The kernel's own tables of iptables have an order that nobody changes.
    found.unknown(
      'nft is not installed: whether a table of nf_tables forwards packets before the guard cannot be seen',
      'install it (Debian: apt-get install nftables)',
    )
    return found.end('')
  }
  const ruleset = await found.look(listRuleset)
  return ruleset === null ? found.end('') : judgeFront(ruleset, firewall.backend === 'nftables')
}

/**
 * Judges whether something forwards packets before the guard sees them.
 * @param ruleset as `nft -j -t list ruleset` prints it
 * @param isNft whether the guard is our own table, and not in that of iptables
 */
export function judgeFront(ruleset: string, isNft: boolean): readonly Check[] {
  const found = new Finding('guard in front')
  const [, own] = BASE.hook.split(' ')
  const priority = isNft ? Number(own) : MANGLE_PRIORITY
  const { nftables } = JSON.parse(ruleset) as { nftables: readonly Item[] }
  const busy = new Set(nftables.flatMap(({ rule }) => (rule ? `${rule.family} ${rule.table} ${rule.chain}` : [])))
  const before = nftables.flatMap(({ chain }) => {
    // Of two at one priority nobody knows which is first.
    if (chain?.type !== 'nat' || chain.hook !== 'prerouting' || (chain.prio ?? 0) > priority) return []
    const name = `${chain.family} ${chain.table} ${chain.name}`
    return busy.has(name) ? [`${name} (priority ${chain.prio})`] : []
  })
  if (before.length > 0)
    found.wrong(
      `packets are forwarded before the guard (priority ${priority}) sees them: nft chain ${listed(before, NAMED)}`,
      'give that chain the priority dstnat (-100), in the program or file that makes it',
    )
  return found.end(`it sees packets before DNAT: its priority is ${priority}, and no chain of type nat has a lower one`)
}

/** An object of nft's JSON, as far as it matters here. */
interface Item {
  readonly chain?: {
    readonly family: string
    readonly table: string
    readonly name: string
    readonly type?: string
    readonly hook?: string
    readonly prio?: number
  }
  readonly rule?: { readonly family: string; readonly table: string; readonly chain: string }
}

/** Whether the guard that is loaded at boot is that of now. */
async function checkSaved(file: string, hasSystemd: boolean): Promise<readonly Check[]> {
  const found = new Finding('saved guard')
  const load = hasSystemd ? 'systemctl reload knockturn-guard' : join(programFolder(), 'bin/knockturn-guard')
  const { stdout, stderr, exitCode, shortMessage } = await askOwnProgram('knockturn', [
    'guard',
    'save',
    '--print',
    '--config',
    file,
  ])
  const files = printedFiles(stdout, dirname(file))
  if (exitCode !== 0 || files.length === 0) {
    const said = stderr.split('\n').find((line) => line.includes('error: ')) ?? shortMessage ?? 'it printed nothing'
    found.unknown(`not checked: "knockturn guard save --print" failed: ${said}`, 'run it, and fix what it prints')
    return found.end('')
  }
  return judgeSaved(
    files.map(({ path }) => path),
    await notSaved(files),
    load,
  )
}

/**
 * Judges a saved guard.
 * @param paths of its files @param wrong those that are not as they should be @param load a command that loads it
 */
export function judgeSaved(
  paths: readonly string[],
  wrong: readonly { readonly path: string; readonly isThere: boolean }[],
  load: string,
): readonly Check[] {
  const found = new Finding('saved guard')
  const hint = `run "knockturn guard save && ${load}"`
  const missing = wrong.filter(({ isThere }) => !isThere).map(({ path }) => path)
  const other = wrong.filter(({ isThere }) => isThere).map(({ path }) => path)
  if (missing.length > 0)
    found.wrong(`${missing.join(' and ')}: not there: at boot the guarded ports are open until the daemon starts`, hint)
  if (other.length > 0) found.felt(`${other.join(' and ')}: of another config, keyring, network or version than now`, hint)
  return found.end(`${paths.join(' and ')}: as config and keys are now`)
}
