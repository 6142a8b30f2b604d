import { BACKENDS, usualBackend } from '../../lab/backend'
import { isOf, type Kind } from '../../replay/attack'
import { showers } from '../../replay/floods'
import { hosts } from '../../replay/hosts'
import { testing } from '../../replay/trial'

/** Those that differ where the rules stand in front of DNAT, and what is not guarded passes. */
const OF_GUARDS: readonly Kind[] = ['bypass']

/** Tests those of a kind on the real daemon: all with the usual backend, and with the others those that it is for the rules to hold off. */
export function testAttacks(kind: Kind): void {
  for (const backend of BACKENDS) {
    const attacks = [...hosts, ...showers].filter(
      (attack) => attack.kind === kind && isOf(attack, backend) && (backend === usualBackend() || attack.isOfRules),
    )
    if (attacks.length > 0) testing(attacks, `by real packets and ${backend}`, backend)(kind)
  }
  if (!OF_GUARDS.includes(kind)) return
  const attacks = [...hosts, ...showers].filter((attack) => isOf(attack, 'iptables', true) && attack.isOfRules)
  testing(attacks, 'by real packets and a guard of iptables', 'iptables', true)(kind)
}
