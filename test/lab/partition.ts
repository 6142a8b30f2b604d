import type { Host } from './host'

/* Networks that fall apart: what a host no longer hears of another one, in IPv4, before any other rule or tap sees it. */

const TABLE = ['iptables', '-w', '20', '-t', 'raw']
const rule = ({ ipv4 }: Host) => ['PREROUTING', '-s', ipv4, '-j', 'DROP']

/** What undoes it. */
type Heal = () => Promise<void>

/** Has nothing more arrive of what some hosts send to others; what those send back does. */
export async function cutOneWay(some: readonly Host[], others: readonly Host[]): Promise<Heal> {
  const ways = some.flatMap((from) => others.map((to) => ({ from, to })))
  for (const { from, to } of ways) await to.must([...TABLE, '-I', ...rule(from)])
  return async () => {
    for (const { from, to } of ways) await to.must([...TABLE, '-D', ...rule(from)])
  }
}

/** Has nothing more arrive between some hosts and others. */
export async function cut(some: readonly Host[], others: readonly Host[]): Promise<Heal> {
  const heals = [await cutOneWay(some, others), await cutOneWay(others, some)]
  return async () => {
    for (const heal of heals) await heal()
  }
}
