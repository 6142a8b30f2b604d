import { setTimeout as sleep } from 'node:timers/promises'
import { CommandFault, feed, hasCommand } from '../../system/commands'
import { followRuleset, type OwnChanges } from '../nftables/monitor'
import { CHAINS, type Family, keepsByNft, LOCK_WAIT, MAIN_JUMP, nftTable } from './table'

/** Milliseconds between two looks for our jump, where nobody tells of changes: a flush is put back within a second. */
const LOOK = 500
/** What iptables exits with where that jump is not there, or not even our chain. */
const MISSING: readonly unknown[] = [1, 2]

/**
 * Follows what other programs do to the filter tables: by nft where iptables is made of nf_tables, and else by looking for our jump. Where
 * there is no nft, the looks that are taken anyway have to do.
 * @param own our own changes of each family that is followed
 * @param warn told when nft has died
 */
export function followTables(
  own: ReadonlyMap<Family, OwnChanges>,
  warn: (message: string) => void,
): (look: () => void, signal: AbortSignal) => void {
  return async (look, signal) => {
    const families = [...own.keys()]
    const areByNft = await Promise.all(families.map(keepsByNft))
    if (areByNft.includes(true) && (await hasCommand('nft'))) {
      const tables = [...own].filter((_, i) => areByNft[i]).map(([family, own]) => ({ event: eventOf(family), own }))
      followRuleset(tables, warn)(look, signal)
    }
    for (const family of families.filter((_, i) => !areByNft[i])) void followJump(family, look, signal)
  }
}

/** What nft prints of changes that matter: of our chains but for the one of trials, of INPUT, and of the table. */
export function eventOf(family: Family): RegExp {
  return new RegExp(`^\\w+ (?:table ${nftTable(family)}|(?:chain|rule) ${nftTable(family)} (?:INPUT|${CHAINS.join('|')}))(?: |$)`)
}

/** Looks now and then whether the jump to our chains is still there. */
async function followJump(family: Family, look: () => void, signal: AbortSignal): Promise<void> {
  let wasThere = false
  while (!signal.aborted) {
    const isThere = await feed(family, ['-w', LOCK_WAIT, ...MAIN_JUMP.replace('-A', '-C').split(' ')], '').then(
      () => true,
      // What can't be known now is told of by the looks that are taken anyway.
      (error) => !(error instanceof CommandFault && MISSING.includes(error.exitCode)) && wasThere,
    )
    if (wasThere && !isThere && !signal.aborted) look()
    wasThere = isThere
    await sleep(LOOK, undefined, { signal, ref: false }).catch(() => {})
  }
}
