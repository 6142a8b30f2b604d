import { type Element, TABLE } from './elements'

/** What a map leads to from an element. */
export const dataOf = (limit: string | null): string => (limit === null ? '' : ` : "${limit}"`)

/** Changes of elements, a statement for each set: nft takes a second for 500 statements, and 2 ms for 500 elements of one. */
export class Script {
  readonly #removed = new Map<string, string[]>()
  readonly #added = new Map<string, string[]>()

  remove({ set, key }: Element, limit: string | null = null): void {
    push(this.#removed, set, `${key}${dataOf(limit)}`)
  }

  /** @param left milliseconds that it stands, or Infinity; @param more what follows that */
  add({ set, key }: Element, left: number, more: string): void {
    const end = left === Infinity ? '' : ` timeout ${timeout(left)}`
    push(this.#added, set, `${key}${end}${more}`)
  }

  lines(): string[] {
    const statements = (verb: string, elements: ReadonlyMap<string, string[]>) =>
      [...elements].map(([set, all]) => `${verb} element ${TABLE} ${set} { ${all.join(', ')} }`)
    // The kernel may have ended what is to go, and nothing is deleted that is not there: so it is put there first, which changes nothing
    // where it is.
    return [...statements('add', this.#removed), ...statements('delete', this.#removed), ...statements('add', this.#added)]
  }
}

function push(lists: Map<string, string[]>, name: string, item: string): void {
  const list = lists.get(name)
  if (list) list.push(item)
  else lists.set(name, [item])
}

/** Longest timeout in milliseconds: nft takes eight digits of seconds, and no lease is longer (docs/protocol.md, "Request"). */
const MAX_TIMEOUT = 2 ** 24 * 1_000

/** A timeout as nft takes it, which reads no number of milliseconds beyond 2^32. What has ended by now ends at once. */
function timeout(milliseconds: number): string {
  const rest = Math.min(Math.max(1, Math.round(milliseconds)), MAX_TIMEOUT)
  return `${Math.floor(rest / 1_000)}s${rest % 1_000}ms`
}
