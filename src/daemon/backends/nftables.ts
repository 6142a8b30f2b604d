import { Fault } from '../../system/fault'
import { lookForBlocked } from '../exposure/blocked'
import { countedLeases } from '../nftables/counted'
import { MAX_LEASES, TABLE } from '../nftables/elements'
import { planTable, planTableRemoval, showTable } from '../nftables/installation'
import { isCurrent, isWhole, readListedEntries, readTable } from '../nftables/listing'
import { loggedPackets } from '../nftables/logged'
import { followRuleset, OURS, OwnChanges } from '../nftables/monitor'
import { load, scriptOf } from '../nftables/nft'
import { nftablesFirewall } from '../nftables/nftables'
import { FAIL_OPEN, failOpenLines, rulesetLines } from '../nftables/ruleset'
import { checkVersion, tryTable } from '../nftables/trial'
import type { Backend } from './backend'
import { eitherGuard } from './either-guard'

const isInPlace = async () => isWhole(await readTable())

/** Leases as elements of sets in a table of our own. */
export const nftables: Backend = {
  isReal: true,
  hearsLoopback: true,
  commands: ['nft'],
  maxLeases: MAX_LEASES,

  async open(rules, left, warn) {
    await checkVersion()
    await tryTable(rules())
    const own = new OwnChanges()
    return {
      firewall: nftablesFirewall(rules, left, warn, own),
      logged: loggedPackets,
      follow: followRuleset([{ event: OURS, own }], warn),
      closeFailOpen: async () => {
        if (!rules().guard.failOpen || !(await readTable()).rules.get(FAIL_OPEN)?.length) return false
        await own.make(() => load(`flush chain ${TABLE} ${FAIL_OPEN}\n`))
        return true
      },
    }
  },

  async rehearse(rules) {
    try {
      await checkVersion()
      await tryTable(rules)
      return []
    } catch (error) {
      if (error instanceof Fault) return [error]
      throw error
    }
  },

  async leftOut(keys, config) {
    // Why it can't be read is said by the rehearsal.
    const table = await readTable().catch((error) => {
      if (error instanceof Fault) return null
      throw error
    })
    if (table === null) return { isInstalled: null, isOutdated: false, lines: [] }
    const isKnown = eitherGuard(keys, config).some((rules) => isCurrent(table, rules))
    return { isInstalled: isWhole(table), isOutdated: !isKnown, lines: [] }
  },

  isInPlace,

  strangers: (services, guard) => lookForBlocked(services, guard, isInPlace),
  plan: planTable,
  atBoot: async (rules) => [
    { path: 'guard.nft', text: scriptOf(rulesetLines(rules)) },
    ...(rules.guard.failOpen ? [{ path: 'fail-open.nft', text: scriptOf(failOpenLines(rules.guard)) }] : []),
  ],
  removal: planTableRemoval,
  counted: countedLeases,
  standing: async () => readListedEntries(await readTable()),
  show: showTable,
}
