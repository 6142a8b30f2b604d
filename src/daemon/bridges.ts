import { existsSync, readdirSync } from 'node:fs'
import type { NetworkInterfaceInfo } from 'node:os'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { blockAround, type Cidr, formatCidr } from '../protocol/address'
import type { Config } from './config'
import { type Guard, NO_GUARD, parseInterface } from './guard'

/* The networks of containers: a host on the same link that routes to them itself meets no guarded port. */

const INTERFACES = '/sys/class/net'

/** How Docker and Podman call the bridges that they make: other bridges may well be open to strangers, as a router's are. */
const OF_CONTAINERS = /^(docker\d+|br-[0-9a-f]{12}|docker_gwbridge|podman\d+|cni-podman\d+)$/

/** The bridges of this machine. */
export interface Bridges {
  readonly names: readonly string[]
  /** The networks of those that Docker and Podman have made. */
  readonly networks: readonly Cidr[]
}

/**
 * Finds them in what the kernel lists.
 * @param isBridge whether an interface is one
 */
export function bridgesIn(
  interfaces: NodeJS.Dict<readonly Pick<NetworkInterfaceInfo, 'cidr'>[]>,
  names: readonly string[],
  isBridge: (name: string) => boolean,
): Bridges {
  const bridges = names.filter(isBridge)
  const networks = bridges
    .filter((name) => OF_CONTAINERS.test(name))
    .flatMap((name) => interfaces[name] ?? [])
    .flatMap(({ cidr }) => networkOf(cidr) ?? [])
  return { names: bridges, networks }
}

/** The network of an interface's address; null for one without a prefix, and for one of the link alone, which nobody routes to. */
function networkOf(cidr: string | null): Cidr | null {
  const [address = '', bits] = cidr?.split('/') ?? []
  if (bits === undefined || /^fe[89ab]/i.test(address)) return null
  return blockAround(address, Number(bits))
}

/** Looks at the bridges of now; none where they can't be seen. */
export function readBridges(): Bridges {
  try {
    const isBridge = (name: string) =>
      // Of a name that no rule can have, nothing is believed.
      parseInterface(name) === name && existsSync(join(INTERFACES, name, 'bridge'))
    return bridgesIn(networkInterfaces(), readdirSync(INTERFACES), isBridge)
  } catch {
    return { names: [], networks: [] }
  }
}

/** Each network once, by its text: the same networks make the same rules, in whatever order the kernel lists them. */
function inOrder(networks: readonly Cidr[]): Cidr[] {
  const byText = new Map(networks.map((network) => [formatCidr(network), network]))
  return [...byText.keys()].sort().flatMap((text) => byText.get(text) ?? [])
}

/** A config's guard, with the networks of now. Where nothing is guarded, nothing else is shut either. @param isStrict see {@link Guard} */
export function guardOfNow(guard: Config['firewall']['guard'], isStrict = false): Guard {
  if (guard.ports.length === 0) return NO_GUARD
  const { names, networks } = readBridges()
  return { ...guard, networks: inOrder(guard.networks ?? networks), inside: [...names].sort(), isStrict }
}

/** Milliseconds for which a network counts when its bridge is gone: programs make one anew, and it has no address meanwhile. */
const REMEMBERED = 600_000
/** Networks that are remembered: more than anybody makes in that time. */
const MAX_NETWORKS = 256

/** The networks of bridges that are there or were a short while ago: without them a container could be reached while its bridge is made anew. */
export class RecentNetworks {
  /** When each was last seen, in steady milliseconds, by its text. */
  readonly #seen = new Map<string, { readonly network: Cidr; readonly at: number }>()

  /** Notes those of now. @returns them, and those of before */
  with(networks: readonly Cidr[], now: number): readonly Cidr[] {
    for (const network of networks) {
      const text = formatCidr(network)
      // Those of now stand behind those that are forgotten first.
      this.#seen.delete(text)
      this.#seen.set(text, { network, at: now })
    }
    for (const [text, { at }] of this.#seen) if (now - at > REMEMBERED || this.#seen.size > MAX_NETWORKS) this.#seen.delete(text)
    return inOrder([...this.#seen.values()].map(({ network }) => network))
  }
}
