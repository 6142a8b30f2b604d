import { describe, expect, it } from 'vitest'
import { MAX_REVISION } from '../../../src/daemon/fleet/etcd/etcd'
import { Form } from '../../../src/daemon/fleet/etcd/json'
import { formatWord, type GatewayWord } from '../../../src/daemon/fleet/gateway-row'
import { raisedBase } from '../../../src/daemon/fleet/repair'
import { BASE, type Base, formatBase, gatewayRow } from '../../../src/daemon/fleet/rows'
import { Gateways, SERVER } from './gateways'

/* Whoever can write to etcd, or answers for it, can say any number. When they are gone, a fleet goes on by itself. */

describe('a number that nothing counts to', () => {
  it('in a gateway’s own beat keeps it from knocks no longer than another gateway of its name would', async () => {
    const fleet = new Gateways()
    const [a] = [fleet.add('gw1'), fleet.add('gw2')]
    await fleet.pass(4)
    const row = gatewayRow('gw1')
    const word: GatewayWord = JSON.parse(fleet.store.rows.find((one) => one.row === row)?.value ?? '')
    const value = formatWord({ ...word, life: 'f'.repeat(16), beat: Number.MAX_SAFE_INTEGER })
    fleet.store.transact({ if: [], do: [{ put: row, value }], else: [] })
    await fleet.pass(2)
    expect(a.refused).toBe('name')
    await fleet.pass(12)
    expect([a.refused, a.memory.beat < 100]).toEqual([null, true])
  })

  it('in the base is gone by nowhere, and a person repairs it', async () => {
    const fleet = new Gateways()
    const [a] = [fleet.add('gw1'), fleet.add('gw2')]
    await fleet.pass(4)
    const base = { ...fleet.base, epoch: Number.MAX_SAFE_INTEGER } as Base
    fleet.store.transact({ if: [], do: [{ put: BASE, value: formatBase(base) }], else: [] })
    await fleet.pass(4)
    expect([a.refused, a.memory.epoch]).toEqual(['setup', 1])
    const raised = raisedBase({ known: a.memory, epochs: [base.epoch], server: SERVER, skew: 1, wall: fleet.wall })
    fleet.store.transact({ if: [], do: [{ put: BASE, value: formatBase(raised) }], else: [] })
    await fleet.pass(4)
    expect([a.refused, a.memory.epoch]).toEqual([null, 2])
  })

  it('in a false word of a restored etcd raises the base no further than one epoch', async () => {
    const fleet = new Gateways()
    const [a] = [fleet.add('gw1'), fleet.add('gw2')]
    await fleet.pass(4)
    const word: GatewayWord = JSON.parse(fleet.store.rows.find((one) => one.row === gatewayRow('gw2'))?.value ?? '')
    const said = { ...word, life: 'f'.repeat(16), restored: true, epoch: Number.MAX_SAFE_INTEGER }
    for (let beat = 1; beat < 4; beat++) {
      const value = formatWord({ ...said, beat })
      fleet.store.transact({ if: [], do: [{ put: gatewayRow('gw3'), value }], else: [] })
      await fleet.pass()
    }
    fleet.store.transact({ if: [], do: [{ remove: gatewayRow('gw3') }], else: [] })
    await fleet.pass(4)
    expect([a.refused, (fleet.base?.epoch ?? 0) < 10]).toEqual([null, true])
  })

  it.each([
    ['is an answer’s', MAX_REVISION - 1, true],
    ['is none', MAX_REVISION, false],
  ])('of a revision %s', (_, revision, isAnswer) => {
    const header = { cluster_id: '1', revision: String(revision), raft_term: '2' }
    const outcome = new Form('k/').outcome({ if: [], do: [], else: [] }, { header, succeeded: true })
    expect(outcome?.held ?? false).toBe(isAnswer)
  })
})
