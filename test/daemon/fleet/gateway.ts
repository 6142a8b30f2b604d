import { expect, vi } from 'vitest'
import { FleetLedger } from '../../../src/daemon/fleet/claims'
import type { Etcd } from '../../../src/daemon/fleet/etcd/etcd'
import { floorRow, formatWindow, spentRow } from '../../../src/daemon/fleet/rows'
import type { Now } from '../../../src/gate/clock'
import { Disk, KEY, knock, type Saying } from '../../gate/disk'
import { MIDDLE } from '../../gate/listener/ear'
import type { Beginning } from '../../gate/one-time'
import { foundation, OLD_BASE, PlainLink } from './plain-link'
import { Twin } from './twin'

/** The ledger of a gateway on an etcd. Time passes, which fake timers may stop, from the middle of the window of knocks. */
export class Gateway<Asked extends Etcd> {
  readonly disk = new Disk()
  readonly etcd: Asked
  readonly link: PlainLink
  readonly warnings: string[] = []
  readonly #skew: number
  readonly #timeout: number
  readonly #began = performance.now()
  ledger: FleetLedger

  constructor(etcd: Asked, name = 'gw1', { skew, base }: Beginning = { skew: 1, base: null }, timeout = 5_000) {
    this.#timeout = timeout
    this.etcd = etcd
    this.#skew = skew
    this.link = new PlainLink(name, base === null ? OLD_BASE : { ...OLD_BASE, seconds: base * 30, ahead: skew + 1 })
    this.ledger = this.start()
  }

  get now(): Now {
    const steady = performance.now()
    return { wall: MIDDLE * 1000 + steady - this.#began, steady }
  }

  /** Begins anew from what is on the disk: what went on in an earlier life has no end. */
  start(): FleetLedger {
    this.ledger = new FleetLedger(this.disk.start(this.#skew), this.etcd, this.link, {
      ...{ skew: this.#skew, timeout: this.#timeout, now: () => this.now },
      warn: (message) => this.warnings.push(message),
    })
    return this.ledger
  }
}

/** Two gateways of a fleet on the twin of etcd, whose key has knocked before. */
export async function pair(): Promise<readonly [Gateway<Twin>, Gateway<Twin>]> {
  const twin = new Twin()
  await twin.transact(foundation())
  await twin.transact({ if: [], do: [{ put: floorRow(KEY, 30), value: formatWindow(0) }], else: [] })
  return [new Gateway(twin.beside(), 'gw1'), new Gateway(twin.beside(), 'gw2')]
}

export const claim = ({ ledger }: Gateway<Twin>, saying: Saying = {}, fingerprint = KEY) =>
  ledger.claim(knock(saying), fingerprint)
export const outcomeOf = async (gateway: Gateway<Twin>, saying: Saying = {}, fingerprint = KEY) =>
  (await claim(gateway, saying, fingerprint)).outcome
export const UNAVAILABLE = { outcome: 'unavailable', reason: expect.any(String) }

/** The row of a spent knock; undefined: there is none. */
export const rowOf = ({ etcd }: Gateway<Twin>, saying: Saying = {}) =>
  etcd.store.rows.find(({ row }) => row === spentRow(knock(saying), KEY))
/** Puts a row past all that is planned for a gateway. */
export const put = ({ etcd }: Gateway<Twin>, row: string, value: string) =>
  etcd.beside().transact({ if: [], do: [{ put: row, value }], else: [] })
/** Time passes, by fake timers. */
export const pass = (milliseconds: number) => vi.advanceTimersByTimeAsync(milliseconds)
