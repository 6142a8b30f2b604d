import { expect, it } from 'vitest'
import { fitting, type Named } from '../../src/gate/fitting'

const LEASE = { id: 'deadbeef.1', key: 'alice', address: '198.51.100.0/24' }

it.each<[Named, boolean]>([
  [{ id: 'deadbeef.1' }, true],
  [{ id: 'deadbeef' }, true],
  [{ id: 'deadbee' }, false],
  [{ id: 'deadbeef.0' }, false],
  [{ key: 'alice' }, true],
  [{ key: 'bob' }, false],
  [{ address: '198.51.100.7' }, true],
  [{ address: '198.51.100.0/24' }, true],
  [{ address: '198.51.0.0/16' }, true],
  [{ address: '198.51.101.7' }, false],
  [{ address: '2001:db8::1' }, false],
  [{ address: 'rubbish' }, false],
  [{ key: 'alice', address: '198.51.100.7' }, true],
  [{ key: 'bob', address: '198.51.100.7' }, false],
  [{ key: 'alice', address: '198.51.101.7' }, false],
  [{}, false],
])('%j fits: %s', (named, fits) => {
  expect(fitting(named)(LEASE)).toBe(fits)
})
