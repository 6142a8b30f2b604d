import type { Guarded } from '../../src/daemon/guard'

/** Writes ports as a config has them. */
export function formatGuarded({ protocol, ports: [low, high] }: Guarded): string {
  return `${low === high ? low : `${low}-${high}`}/${protocol}`
}
