import type { Knock } from '../../gate/knock'
import type { Outcome, Transaction } from './etcd/etcd'
import type { Link } from './link'
import {
  BASE,
  type BaseRow,
  baseFloor,
  floorRow,
  formatSpent,
  formatWindow,
  gatewayRow,
  parseSpent,
  parseWindow,
  revokedRow,
  type Spent,
  spentRange,
  spentRow,
} from './rows'

/* The one-time rule of a fleet as one transaction of etcd, and what its answer means. */

/** What a claim goes by: the base, its text as etcd has it, and this gateway's own row, which etcd must not have forgotten. */
export interface Ground extends BaseRow, Pick<Link, 'gateway'> {
  /** As {@link Link.beaten}. */
  readonly beaten: number
}

/** A knock that is to be claimed, or only to be made dead. */
export interface Attempt {
  readonly knock: Knock
  readonly fingerprint: string
  /** What its row is to say. */
  readonly spent: Spent
  /**
   * Whether it raises its key's floor. Only a timely knock may, at the moment when it is claimed to be opened: where a clock is wrong, or may be,
   * a floor beyond the clocks of the others would shut the key out everywhere.
   */
  readonly raises: boolean
}

/**
 * What the answer to a claim means. `claimed`: the row was put by it; `own`: by the same attempt before, whose answer was lost; `floorless`: the key had no
 * floor, and has one now; `rebased`: etcd has another base than is known here; `forgotten`: it was restored, as this gateway's own row says;
 * `strange`: nothing that was read explains the answer.
 */
export type Verdict =
  | {
      readonly is:
        | 'claimed'
        | 'own'
        | 'revoked'
        | 'retransmitted'
        | 'replayed'
        | 'floorless'
        | 'rebased'
        | 'forgotten'
        | 'strange'
    }
  | { readonly is: 'stale'; readonly floor: number }

/** Whether a knock lies below the base, where a fleet no longer knows the past: nobody need be asked. */
export const isBelowBase = ({ key, window }: Pick<Knock, 'key' | 'window'>, { base }: Pick<Ground, 'base'>): boolean =>
  window < baseFloor(base, key.period)

/**
 * Asks to have a knock spent: its row put where there is none, its key not revoked, base and own row as they are known here, and the window not below the floor;
 * and the floor raised, with what lies below it forgotten. Else what stands in the way is read; and a key that has no floor, as each at first, is given
 * one. Where the knock raises none that is the lowest there is, so that a base by a wrong clock can be mended: each claim asks for the base besides.
 * @param skew windows
 */
export function claimOf({ knock, fingerprint, spent, raises }: Attempt, ground: Ground, skew: number): Transaction {
  const { key, window } = knock
  const row = spentRow(knock, fingerprint)
  const floor = floorRow(fingerprint, key.period)
  const revoked = revokedRow(fingerprint)
  const own = gatewayRow(ground.gateway)
  const range = spentRange(fingerprint, key.period)
  const raised = formatWindow(Math.max(window - 2 * skew, baseFloor(ground.base, key.period)))
  const raise: Transaction = {
    if: [{ row: floor, is: 'below', value: raised }],
    do: [
      { put: floor, value: raised },
      { removeFrom: range, to: `${range}${raised}` },
    ],
    else: [],
  }
  const lowest = formatWindow(raises ? baseFloor(ground.base, key.period) : 0)
  const firstFloor: Transaction = {
    if: [
      { row: floor, is: 'absent' },
      { row: BASE, is: 'equal', value: ground.value },
    ],
    do: [{ put: floor, value: lowest }],
    else: [],
  }
  return {
    if: [
      { row, is: 'absent' },
      { row: revoked, is: 'absent' },
      { row: BASE, is: 'equal', value: ground.value },
      { row: own, is: 'since', revision: ground.beaten },
      { row: floor, is: 'there' },
      { row: floor, is: 'below', value: formatWindow(window + 1) },
    ],
    do: [{ put: row, value: formatSpent(spent) }, ...(raises ? [raise] : [])],
    else: [{ get: row }, { get: revoked }, { get: floor }, { get: BASE }, { get: own }, firstFloor],
  }
}

/** What the answer to {@link claimOf} means. */
export function judge({ held, done }: Outcome, { knock, spent }: Attempt, ground: Ground): Verdict {
  if (held) return { is: 'claimed' }
  const [row, revoked, floor, base, own] = done.map(({ rows }) => rows[0])
  if (revoked) return { is: 'revoked' }
  const said = row ? parseSpent(row.value) : null
  if (row && said?.attempt !== spent.attempt) return { is: said?.source === spent.source ? 'retransmitted' : 'replayed' }
  if ((own?.modified ?? 0) < ground.beaten) return { is: 'forgotten' }
  if (base?.value !== ground.value) return { is: 'rebased' }
  if (row) return { is: 'own' }
  if (!floor) return { is: 'floorless' }
  const window = parseWindow(floor.value)
  return window !== null && window > knock.window ? { is: 'stale', floor: window } : { is: 'strange' }
}

/** Until when what a knock asks would be open at most: see {@link Spent}. @param wall Unix milliseconds */
export function untilOf({ request: { action, seconds } }: Pick<Knock, 'request'>, wall: number): number | null {
  if (action !== 'open') return 0
  return seconds === 0 ? null : Math.ceil(wall / 1000) + seconds
}
