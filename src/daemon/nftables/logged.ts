import { run } from '../../system/commands'
import { TABLE_WORDS } from './nft'

/** How many packets the log rules have logged. @throws {Fault} where they can't be looked at, or are not there */
export async function loggedPackets(): Promise<number> {
  return countLogged(await run('nft', ['-j', '-t', 'list', 'chain', ...TABLE_WORDS, 'heard']))
}

/** The packets of the rules that log, in a chain as nft prints it in JSON. */
export function countLogged(json: string): number {
  const { nftables } = JSON.parse(json) as { nftables: { rule?: { expr?: { log?: object; counter?: { packets: number } }[] } }[] }
  const counts = nftables.map(({ rule }) => {
    const expressions = rule?.expr ?? []
    return expressions.some(({ log }) => log) ? (expressions.find(({ counter }) => counter)?.counter?.packets ?? 0) : 0
  })
  return counts.reduce((sum, count) => sum + count, 0)
}
