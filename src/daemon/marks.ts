import { createHash } from 'node:crypto'

/* Rules are known by their comments, however the kernel's tools print them: of which ruleset a rule is, and which of how many. */

/**
 * The comment of each rule.
 * @param chains the rules of each chain, in their order
 */
export function marksOf(chains: ReadonlyMap<string, readonly string[]>): Map<string, readonly string[]> {
  const digest = createHash('sha256')
    .update(JSON.stringify([...chains]))
    .digest('hex')
    .slice(0, 8)
  const all = [...chains.values()].flat().length
  let n = 0
  return new Map([...chains].map(([chain, rules]) => [chain, rules.map(() => `${digest} ${++n}/${all}`)]))
}

/**
 * Whether rules are all of one ruleset, each once and in its place.
 * @param chains the comments of the rules of each chain, in their order
 */
export function areWhole(chains: Iterable<readonly string[]>): boolean {
  const read = [...chains].map((comments) => comments.map((comment) => /^(\S+) (\d+)\/(\d+)$/.exec(comment) ?? []))
  const all = read.flat()
  const [, digest, , total] = all[0] ?? []
  return (
    all.length === Number(total) &&
    all.every(([, one, , count]) => one === digest && count === total) &&
    new Set(all.map(([, , n]) => n)).size === all.length &&
    read.every((rules) => rules.every(([, , n], i) => i === 0 || Number(n) === Number(rules[i - 1][2]) + 1))
  )
}
