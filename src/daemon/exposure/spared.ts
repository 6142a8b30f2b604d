import { formatCidr } from '../../protocol/address'
import { Fault } from '../../system/fault'
import type { Guard } from '../guard'
import { familyOf } from '../iptables/table'
import { fitsInterface, SMALL } from './matches'

/**
 * The exceptions of a guard that spare strangers: blocks that are no small ones, and interfaces where strangers come by no other.
 * @param outer the interfaces by which strangers come; none where that can't be known
 */
export function sparedStrangers({ interfaces, blocks }: Pick<Guard, 'interfaces' | 'blocks'>, outer: readonly string[]): Fault[] {
  const fits = (spared: string) => outer.filter((name) => fitsInterface(name, spared.replace(/\*$/, '+')))
  // With another way in left to strangers, a spared one with a default route may be a VPN.
  const isOpen = outer.length > 0 && new Set(interfaces.flatMap(fits)).size === outer.length
  const large = blocks.map((block) => ({ text: formatCidr(block), size: 1n << BigInt(8 * block.bytes.length - block.bits) }))
  return [
    ...(isOpen ? interfaces.filter((spared) => fits(spared).length > 0) : []),
    ...large.flatMap(({ text, size }) => (size > SMALL[familyOf(text)] ? text : [])),
  ].map(
    (spared) =>
      new Fault(`strangers reach the guarded ports: guard_except spares "${spared}"`, {
        hint: `remove "${spared}" from guard_except in [firewall]`,
      }),
  )
}
