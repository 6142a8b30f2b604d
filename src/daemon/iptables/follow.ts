import { setTimeout as sleep } from 'node:timers/promises'
import { CommandFault, feed, hasCommand } from '../../system/commands'
import { followRuleset, type OwnChanges } from '../nftables/monitor'
import { CHAINS, type Family, keepsByNft, LOCK_WAIT, MAIN_JUMP } from './table'

/** Milliseconds between two looks for our jump, where nobody tells of changes: a flush is put back within a second. */
const LOOK = 500
/** What iptables exits with where that jump is not there, or not even our chain. */
const MISSING: readonly unknown[] = [1, 2]

/** Where our rules are. */
export interface Place {
  readonly table: 'filter' | 'mangle'
  /** The chains whose changes matter. */
  readonly chains: readonly string[]
  /** The jump to our rules. */
  readonly jump: string
}

/** Without a guard. */
export const FILTER: Place = { table: 'filter', chains: ['INPUT', ...CHAINS], jump: MAIN_JUMP }

/**
 * Follows what other programs do to our tables: by nft where iptables is made of nf_tables, and else by looking for our jump. Where
 * there is no nft, the looks that are taken anyway have to do.
 * @param own our own changes of each family that is followed
 * @param place where our rules are
 * @param warn told when nft has died
 */
export function followTables(
  own: ReadonlyMap<Family, OwnChanges>,
  place: Place,
  warn: (message: string) => void,
): (look: () => void, signal: AbortSignal) => void {
  return async (look, signal) => {
    const families = [...own.keys()]
    const areByNft = await Promise.all(families.map(keepsByNft))
    if (areByNft.includes(true) && (await hasCommand('nft'))) {
      const tables = [...own].filter((_, i) => areByNft[i]).map(([family, own]) => ({ event: eventOf(family, place), own }))
      followRuleset(tables, warn)(look, signal)
    }
    for (const family of families.filter((_, i) => !areByNft[i])) void followJump(family, place, look, signal)
  }
}

/** What nft prints of changes that matter: of our chains but for the one of trials, of that which leads to them, and of the table. */
export function eventOf(family: Family, { table, chains }: Place): RegExp {
  const ours = `${family === 'iptables' ? 'ip' : 'ip6'} ${table}`
  return new RegExp(`^\\w+ (?:table ${ours}|(?:chain|rule) ${ours} (?:${chains.join('|')}))(?: |$)`)
}

/** Looks now and then whether the jump to our chains is still there. */
async function followJump(family: Family, { table, jump }: Place, look: () => void, signal: AbortSignal): Promise<void> {
  let wasThere = false
  while (!signal.aborted) {
    const isThere = await feed(family, ['-w', LOCK_WAIT, '-t', table, ...jump.replace('-A', '-C').split(' ')], '').then(
      () => true,
      // What can't be known now is told of by the looks that are taken anyway.
      (error) => !(error instanceof CommandFault && MISSING.includes(error.exitCode)) && wasThere,
    )
    if (wasThere && !isThere && !signal.aborted) look()
    wasThere = isThere
    await sleep(LOOK, undefined, { signal, ref: false }).catch(() => {})
  }
}
