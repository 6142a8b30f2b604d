import type { Header } from '../../../src/daemon/fleet/etcd/etcd'
import type { Link } from '../../../src/daemon/fleet/link'
import { BASE, type Base, formatBase, gatewayRow } from '../../../src/daemon/fleet/rows'
import { WINDOW } from '../../gate/listener/ear'

/** The base of a fleet that has known the past for long. */
export const OLD_BASE: Base = {
  fleet: '0123456789abcdef',
  server: 'door.example',
  epoch: 1,
  seconds: (WINDOW - 1_000) * 30,
  ahead: 2,
}

/** What puts a base into an etcd, and the rows of two gateways. */
export const foundation = (base: Base = OLD_BASE) => ({
  if: [],
  do: [{ put: BASE, value: formatBase(base) }, ...['gw1', 'gw2'].map((name) => ({ put: gatewayRow(name), value: 'lives' }))],
  else: [],
})

/** A link that knows what a test tells it, and by the revision whether etcd has forgotten something. */
export class PlainLink implements Link {
  readonly gateway: string
  /** Why nothing opens, whatever the test says. */
  refused: string | null = null
  base: Link['base'] = null
  /** Of any row that is there. */
  beaten: number | null = 1
  /** Milliseconds that another gateway is ahead. */
  isAhead = 0
  /** How often it was asked to look. */
  looks = 0
  #revision = 0
  #hasDoubts = false

  constructor(gateway = 'gw1', base: Base | null = OLD_BASE) {
    this.gateway = gateway
    this.know(base)
  }

  know(base: Base | null): void {
    this.base = base && { base, value: formatBase(base) }
  }

  refusal(): string | null {
    return this.refused ?? (this.#hasDoubts ? 'etcd has forgotten something' : null)
  }

  ahead(): number {
    return this.isAhead
  }

  mark(): number {
    return this.#revision
  }

  believes(mark: number, { revision }: Header): boolean {
    if (revision < mark) this.doubt()
    this.#revision = Math.max(this.#revision, revision)
    return revision >= mark
  }

  /** etcd has forgotten something: nothing opens any more. */
  doubt(): void {
    this.#hasDoubts = true
  }

  /** Whether etcd's log is the one that was known. */
  isLog = true

  async isSame(): Promise<boolean> {
    return this.isLog
  }

  look(): void {
    this.looks++
  }
}
