import { lookForStrangers } from '../exposure/look'
import { isConnected, isInstalled, show } from '../iptables/chains'
import { countedIn, standingIn } from '../iptables/counted'
import { FILTER, followTables } from '../iptables/follow'
import { planChains, planRemoval } from '../iptables/installation'
import { iptablesFirewall } from '../iptables/iptables'
import { loggedPackets } from '../iptables/log-rules'
import { FAMILIES, type Family, readTables } from '../iptables/table'
import { NO_CONNLABEL, tryRules } from '../iptables/trial'
import { leftOut } from '../iptables/unheard'
import { OwnChanges } from '../nftables/monitor'
import type { Backend } from './backend'

/** Most leases: each is a rule, and a packet that none of them lets in is compared with all. */
const MAX_LEASES = 4_096

/** Leases as rules of iptables and ip6tables. */
export const iptables: Backend = {
  isReal: true,
  hearsLoopback: false,
  commands: ['iptables', 'ip6tables', 'iptables-restore', 'ip6tables-restore'],
  maxLeases: MAX_LEASES,

  async open(_rules, _left, warn) {
    const tables = await readTables(warn)
    const own = new Map<Family, OwnChanges>(tables.map(({ family }) => [family, new OwnChanges()]))
    return {
      firewall: iptablesFirewall(tables, warn, own),
      logged: () => loggedPackets(tables.map(({ family }) => family)),
      follow: followTables(own, FILTER, warn),
    }
  },

  async rehearse({ taps }, note) {
    const read = await readTables(note).catch((error: unknown) => ({ error }))
    // What can't be read for want of a match is named by the trial.
    const families = 'error' in read ? FAMILIES : read.map(({ family }) => family)
    const { faults, notes } = await tryRules(families, taps)
    notes.forEach(note)
    if ('error' in read && faults.length === 0) throw read.error
    return faults
  },

  async leftOut(keys, config) {
    let isUnread = false
    const tables = await readTables(
      () => {},
      () => {
        isUnread = true
        return null
      },
    )
    const installed = tables.filter(isInstalled)
    const isThere = installed.length === tables.length
    return { isInstalled: isThere && isUnread ? null : isThere, isOutdated: false, lines: leftOut(installed, keys, config) }
  },

  isInPlace: async () =>
    (await readTables(() => {})).every((table) => isInstalled(table) && isConnected(table) && table.taps.length > 0),

  strangers: lookForStrangers,

  async plan({ taps }, request, warn) {
    if (!taps) throw new Error('an installation has log rules')
    const { changes, isMarked } = await planChains(taps, request, warn)
    return {
      changes,
      notes: isMarked ? [] : [NO_CONNLABEL],
      outcome: 'installed: INPUT jumps to KNOCKTURN (see "knockturn firewall show")',
    }
  },

  atBoot: async () => [],

  removal: planRemoval,

  counted: async () => countedIn(await readTables(() => {})),

  standing: async () => standingIn(await readTables(() => {})),

  show: async (warn) => (await readTables(warn)).map((table) => ({ name: table.family, lines: show(table) })),
}
