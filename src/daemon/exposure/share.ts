/** What part of the strangers is meant: nobody, perhaps some, certainly some, all. Of two that must both hold the smaller one counts. */
export const NONE = 0
export const UNKNOWN = 1
const SOME = 2
export const ALL = 3
export type Share = typeof NONE | typeof UNKNOWN | typeof SOME | typeof ALL

/** How many strangers a condition holds for, and for how many it does not. */
export interface Split {
  readonly hit: Share
  readonly miss: Share
}

export const ALWAYS: Split = { hit: ALL, miss: NONE }
export const NEVER: Split = { hit: NONE, miss: ALL }
/** For some of them, or at some times. */
export const SOMETIMES: Split = { hit: SOME, miss: SOME }
/** Nobody can say without looking further than at the rules. */
export const DOUBTFUL: Split = { hit: UNKNOWN, miss: UNKNOWN }
/** A list that programs or people keep: a stranger is one who is not on it, but nobody has looked. */
export const LISTED: Split = { hit: UNKNOWN, miss: SOME }

export const least = (a: Share, b: Share): Share => (a < b ? a : b)
export const most = (a: Share, b: Share): Share => (a > b ? a : b)
export const not = ({ hit, miss }: Split): Split => ({ hit: miss, miss: hit })
export const both = (a: Split, b: Split): Split => ({ hit: least(a.hit, b.hit), miss: most(a.miss, b.miss) })
export const either = (a: Split, b: Split): Split => not(both(not(a), not(b)))
export const whether = (holds: boolean): Split => (holds ? ALWAYS : NEVER)
