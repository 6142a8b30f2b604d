import { readFile } from 'node:fs/promises'
import { Finding } from '../../daemon/checks/finding'
import type { Config } from '../../daemon/config'
import { legacyTables } from '../../daemon/exposure/look'
import { FAMILIES } from '../../daemon/iptables/table'
import { listRuleset } from '../../daemon/nftables/nft'
import type { Check } from '../../system/check'
import { hasCommand, run } from '../../system/commands'
import { errorCode, Fault, listed, reason } from '../../system/fault'
import { exists } from '../../system/files'

/* Who else writes to the firewall of this machine, by what, and what that means. */

/** Names that are said in one line: a program may have a table for everything. */
const NAMED = 8
/** Tables of iptables, as nf_tables has them. */
const TABLES_OF_IPTABLES = /^ip6? (filter|nat|mangle|raw|security)$/
/** Files from which other programs load the firewall at boot. */
const NFT_CONFIG = '/etc/nftables.conf'
const RESTORED = ['/etc/iptables/rules.v4', '/etc/iptables/rules.v6', NFT_CONFIG] as const

/** What is known of the other firewall programs. */
export interface FirewallFacts {
  /** Families and names of nf_tables' tables but ours; null: they can't be read. */
  readonly tables: readonly string[] | null
  /** Tables of iptables-legacy with rules; null: they can't be read. */
  readonly legacy: readonly string[] | null
  /** Which of them are active here. */
  readonly programs: readonly Program[]
  /** Whether nftables.service loads its file at boot, and whether our drop-in goes with it. */
  readonly nftables: { readonly isEnabled: boolean; readonly hasDropIn: boolean } | null
  /** Whether its file flushes the whole ruleset. */
  readonly isFlushing: boolean
  /** Files with rules of ours in them, which another program loads at boot. */
  readonly keptOurs: readonly string[]
}

type Program = 'ufw' | 'firewalld' | 'docker' | 'podman' | 'fail2ban'

/** Checks who else writes to the firewall. */
export async function checkFirewalls(config: Config, hasSystemd: boolean): Promise<readonly Check[]> {
  const found = new Finding('other firewalls')
  const facts = await found.look(() => gather(hasSystemd))
  return facts === null ? found.end('') : judgeFirewalls(facts, config.firewall.backend, config.firewall.guard.ports.length > 0)
}

async function gather(hasSystemd: boolean): Promise<FirewallFacts> {
  const texts = await Promise.all(RESTORED.map(async (path) => ({ path, text: await textOf(path) })))
  const nftConfig = texts.find(({ path }) => path === NFT_CONFIG)?.text ?? ''
  return {
    tables: await tablesOfNft(),
    legacy: await tablesOfLegacy(),
    programs: await activePrograms(hasSystemd),
    nftables: hasSystemd ? await nftablesService() : null,
    isFlushing: /^\s*flush\s+ruleset/m.test(nftConfig),
    keptOurs: texts.filter(({ text }) => /^(:|-A )KNOCKTURN|^table inet knockturn\b/m.test(text)).map(({ path }) => path),
  }
}

async function textOf(path: string): Promise<string> {
  return readFile(path, 'utf8').catch((error) => {
    if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ENOTDIR') return ''
    throw new Fault(`${path}: cannot be read: ${reason(error)}`)
  })
}

/** Null where nft can't tell; none where it is not installed, and then nobody writes by it. */
async function tablesOfNft(): Promise<string[] | null> {
  if (!(await hasCommand('nft'))) return null
  const text = await listRuleset().catch(noAnswer)
  if (text === null) return null
  const { nftables } = JSON.parse(text) as { nftables: readonly { table?: { family: string; name: string } }[] }
  const names = nftables.flatMap(({ table }) => (table ? `${table.family} ${table.name}` : []))
  return names.filter((name) => !name.startsWith('inet knockturn'))
}

/** The tables of iptables-legacy that have rules: to look at one that is not there would make it. */
async function tablesOfLegacy(): Promise<string[] | null> {
  const found: string[] = []
  for (const family of FAMILIES) {
    const names = await legacyTables(family)
    if (names === null) return null
    for (const table of names) {
      const program = (await hasCommand(`${family}-legacy`)) ? `${family}-legacy` : family
      const rules = await run(program, ['-w', '5', '-t', table, '-S']).catch(noAnswer)
      if (rules === null) return null
      if (/^-A /m.test(rules)) found.push(`${family} ${table}`)
    }
  }
  return found
}

function noAnswer(error: unknown): null {
  if (error instanceof Fault) return null
  throw error
}

async function activePrograms(hasSystemd: boolean): Promise<Program[]> {
  const isActive = async (unit: string) =>
    hasSystemd &&
    (await run('systemctl', ['is-active', unit]).then(
      () => true,
      () => false,
    ))
  const found: [Program, boolean][] = [
    ['ufw', /^ENABLED=yes/m.test(await textOf('/etc/ufw/ufw.conf'))],
    ['firewalld', await isActive('firewalld')],
    ['docker', await exists('/run/docker.sock')],
    ['podman', (await hasCommand('podman')) && (await exists('/run/podman'))],
    ['fail2ban', (await exists('/run/fail2ban/fail2ban.sock')) || (await isActive('fail2ban'))],
  ]
  return found.flatMap(([name, isThere]) => (isThere ? name : []))
}

async function nftablesService(): Promise<FirewallFacts['nftables']> {
  const text = await run('systemctl', ['show', 'nftables.service', '-p', 'UnitFileState,ActiveState,DropInPaths']).catch(noAnswer)
  if (text === null) return null
  return {
    isEnabled: /^UnitFileState=enabled/m.test(text) || /^ActiveState=active/m.test(text),
    hasDropIn: /^DropInPaths=.*\/knockturn\.conf/m.test(text),
  }
}

/** Judges the other firewall programs. @param isGuarded whether the config has a guard */
export function judgeFirewalls(
  facts: FirewallFacts,
  backend: Config['firewall']['backend'],
  isGuarded: boolean,
): readonly Check[] {
  const found = new Finding('other firewalls')
  const { tables, legacy, nftables, programs } = facts
  const byIptables = tables?.filter((name) => TABLES_OF_IPTABLES.test(name)) ?? []
  const byNft = tables?.filter((name) => !TABLES_OF_IPTABLES.test(name)) ?? []
  if (tables === null)
    found.unknown(
      'nft cannot be asked: which tables other programs have cannot be seen',
      'install nft (Debian: apt-get install nftables)',
    )
  if (legacy === null)
    found.unknown(
      'the tables of iptables-legacy cannot be read',
      'run "iptables-legacy-save" and "ip6tables-legacy-save" as root',
    )
  if (legacy !== null && legacy.length > 0 && (tables === null || tables.length > 0 || backend === 'nftables'))
    found.felt(
      `rules of iptables-legacy stand beside those of nf_tables: ${listed(legacy, NAMED)}. A packet must pass both, and neither program shows the other's`,
      'see them with "iptables-legacy-save", move them to the iptables that the other programs use, and flush them there ("iptables-legacy -F")',
    )
  if (nftables?.isEnabled && facts.isFlushing && backend === 'iptables' && isGuarded)
    found.wrong(
      `${NFT_CONFIG}: "flush ruleset" takes the guard away whenever nftables.service starts`,
      'replace that line by "table inet filter" and "delete table inet filter", and so on for each table of that file',
    )
  if (nftables?.isEnabled && backend === 'nftables' && isGuarded && !nftables.hasDropIn)
    found.felt(
      'nftables.service loads its rules without the guard: the guarded ports are open for a moment whenever it starts',
      'run "knockturn setup", which writes /etc/systemd/system/nftables.service.d/knockturn.conf',
    )
  for (const path of facts.keptOurs)
    found.felt(
      `${path} has rules of Knockturn's: at boot, leases of the time at which it was saved come back`,
      'delete its lines with KNOCKTURN or table inet knockturn: knockturn-guard loads what is to be there',
    )
  for (const program of programs) {
    const meaning = isGuarded ? null : UNGUARDED[program]
    if (meaning) found.felt(`${program} is active: ${meaning}`, 'set guard in [firewall]: it stands in front of all of them')
  }
  const seen = [
    ...(byIptables.length > 0 ? [`by iptables (nf_tables): ${listed(byIptables, NAMED)}`] : []),
    ...(legacy !== null && legacy.length > 0 ? [`by iptables-legacy: ${listed(legacy, NAMED)}`] : []),
    ...(byNft.length > 0 ? [`by nft: ${listed(byNft, NAMED)}`] : []),
    ...programs.map((program) => `${program} is active: ${GUARDED[program]}`),
  ]
  return found.end(seen.length > 0 ? seen.join('; ') : 'nobody else has rules here')
}

/** What a program means beside a guard. */
const GUARDED: Readonly<Record<Program, string>> = {
  ufw: 'what it does not allow stays closed under a lease, too ("services" names it)',
  firewalld: 'what it does not allow stays closed under a lease, too ("services" names it)',
  docker: 'a port that it publishes is guarded like any other, if guard has it',
  podman: 'a port that it publishes is guarded like any other, if guard has it',
  fail2ban: 'a ban also holds against a lease',
}

/** What it means without one. */
const UNGUARDED: Readonly<Record<Program, string | null>> = {
  ufw: 'a service that it allows is open to everyone, and a reload of it takes our jump away for a moment',
  firewalld: 'a service that it allows is open to everyone, and no lease opens what it drops in a table of its own',
  docker: 'ports that it publishes pass INPUT by, where leases stand: nothing of Knockturn shuts or opens them',
  podman: 'ports that it publishes pass INPUT by, where leases stand: nothing of Knockturn shuts or opens them',
  fail2ban: null,
}
