import { Fault } from '../../system/fault'
import { lookForBlocked } from '../exposure/blocked'
import { countedIn, standingIn } from '../iptables/counted'
import { followTables } from '../iptables/follow'
import {
  closeFailOpen,
  failOpenScript,
  guardFirewall,
  guardRemoval,
  guardScript,
  isCurrent,
  isGuarding,
  MANGLE,
  readMangle,
  reloadScript,
  showGuard,
} from '../iptables/guard'
import { emptyTable, remedyFor } from '../iptables/installation'
import { countLogged } from '../iptables/log-rules'
import { eachFamily, type Family, type FilterTable, iptables, parseTable, restore, scriptOf, TAPS } from '../iptables/table'
import { tryGuard, tryRules } from '../iptables/trial'
import { OwnChanges } from '../nftables/monitor'
import { whoIsCutOff } from '../sockets'
import type { Backend, Change } from './backend'
import { eitherGuard } from './either-guard'
import { iptables as plain } from './iptables'

const isInPlace = async () => (await readMangles(() => {})).every(isGuarding)

/** The same as iptables, where ports are guarded: leases and log rules stand in mangle PREROUTING, in front of DNAT. */
export const iptablesGuard: Backend = {
  ...plain,
  hearsLoopback: true,

  async open(rules, _left, warn) {
    const families = (await readMangles(warn)).map(({ family }) => family)
    const own = new Map(families.map((family) => [family, new OwnChanges()]))
    return {
      firewall: guardFirewall(families, rules, warn, own),
      logged: async () => {
        const chains = await Promise.all(families.map((family) => iptables(family, ['-t', 'mangle', '-v', '-S', TAPS])))
        return chains.reduce((sum, chain) => sum + countLogged(chain), 0)
      },
      follow: followTables(own, MANGLE, warn),
      closeFailOpen: async () =>
        rules().guard.failOpen !== undefined && (await Promise.all(families.map(closeFailOpen))).includes(true),
    }
  },

  async rehearse(rules, note) {
    const families = (await readMangles(note)).map(({ family }) => family)
    const { faults, notes } = await tryRules(families, rules.taps)
    notes.forEach(note)
    return faults.length > 0 ? faults : tryGuard(families, rules)
  },

  async leftOut(keys, config) {
    // Why they can't be read is said by the rehearsal.
    const tables = await readMangles(() => {}).catch((error) => {
      if (error instanceof Fault) return null
      throw error
    })
    if (tables === null) return { isInstalled: null, isOutdated: false, lines: [] }
    const isKnown = eitherGuard(keys, config).some((rules) => tables.every((table) => isCurrent(table, rules)))
    return { isInstalled: tables.every(isGuarding), isOutdated: !isKnown, lines: [] }
  },

  isInPlace,

  strangers: (services, guard) => lookForBlocked(services, guard, isInPlace),

  async plan(rules, { isPreview, isUnattended }, warn) {
    const warnOnce = (message: string) => warn([message])
    const tables = await readMangles(warnOnce, isPreview ? emptyTable(warnOnce) : undefined)
    if (!isPreview) warn(await whoIsCutOff(rules.taps?.ranges ?? [], (peer) => remedyFor(tables, isGuarding, peer), isUnattended))
    const changes = tables.map((table) => changeOf(table.family, guardScript(table, rules, null)))
    return { changes, notes: [], outcome: 'installed: mangle PREROUTING jumps to KNOCKTURN (see "knockturn firewall show")' }
  },

  async atBoot(rules, warn) {
    // As far as a family is there: what can't be read of its table is no matter, since nothing of it is kept but leases.
    const tables = await readMangles(warn, (family) => parseTable(family, ''))
    return tables.flatMap(({ family }) => {
      const opened = failOpenScript(family, rules)
      return [
        { path: `guard.${family}`, text: scriptOf(reloadScript(family, rules), 'mangle') },
        ...(opened === null ? [] : [{ path: `fail-open.${family}`, text: opened }]),
      ]
    })
  },

  async removal(warn) {
    const tables = await readMangles(warn)
    return tables.flatMap((table) => {
      const lines = guardRemoval(table)
      return lines.length > 0 ? changeOf(table.family, lines) : []
    })
  },

  counted: async () => countedIn(await readMangles(() => {})),

  standing: async () => standingIn(await readMangles(() => {})),

  async show(warn) {
    const tables = await readMangles(warn)
    return tables.map((table) => ({ name: `${table.family} -t mangle`, lines: showGuard(table) }))
  },
}

const readMangles = (warn: (message: string) => void, instead?: (family: Family, error: unknown) => FilterTable | null) =>
  eachFamily(readMangle, warn, instead)

function changeOf(family: Family, lines: readonly string[]): Change {
  const script = scriptOf(lines, 'mangle')
  return { command: `${family}-restore --noflush`, script, apply: () => restore(family, script) }
}
