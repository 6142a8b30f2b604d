import { expect, it } from 'vitest'
import { type Snapshot, stateText } from '../../../src/daemon/state/compose'
import { Chronicle } from '../../../src/gate/chronicle'
import { serverKey } from '../../replay/world'

it('a state is of the moment in which it was asked for, though it is written in pieces', () => {
  const key = serverKey(1)
  const chronicle = new Chronicle(0)
  const pieces = stateText({ head: {} as Snapshot['head'], keys: [key], leases: [], locks: [], chronicle, wall: 0 })
  chronicle.accepted(key.fingerprint, { at: 0, key: key.id, source: '198.51.100.2', action: 'open', windowsOff: 0 })
  const { lastKnock, keys, day } = JSON.parse([...pieces].join(''))
  expect([lastKnock, keys[0].lastUse, day.accepted]).toEqual([null, null, 0])
})
