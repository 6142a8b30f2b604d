import type { Host } from './host'

/* Networks that fall apart: what a host no longer hears of another one, in IPv4, before any other rule or tap sees it. */

const TABLE = ['iptables', '-w', '20', '-t', 'raw']
const rule = ({ ipv4 }: Host) => ['PREROUTING', '-s', ipv4, '-j', 'DROP']

/** What undoes it. */
export type Heal = () => Promise<void>

/** Has nothing more arrive of what a host sends to another one; what that one sends back does. */
export async function cutOneWay(from: Host, to: Host): Promise<Heal> {
  await to.must([...TABLE, '-I', ...rule(from)])
  return async () => {
    await to.must([...TABLE, '-D', ...rule(from)])
  }
}

/** Has nothing more arrive between some hosts and others. */
export async function cut(some: readonly Host[], others: readonly Host[]): Promise<Heal> {
  const heals: Heal[] = []
  for (const one of some) for (const other of others) heals.push(await cutOneWay(one, other), await cutOneWay(other, one))
  return async () => {
    for (const heal of heals) await heal()
  }
}
