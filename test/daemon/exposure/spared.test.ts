import { expect, it } from 'vitest'
import { sparedStrangers } from '../../../src/daemon/exposure/spared'
import { parseCidr } from '../../../src/protocol/address'

const cidr = (text: string) => {
  const block = parseCidr(text)
  if (!block) throw new Error(text)
  return block
}
/** What the faults name. @param spared interfaces and blocks */
const named = (spared: string[], outer: string[]) => {
  const isBlock = (text: string) => /[/:]/.test(text)
  const guard = { interfaces: spared.filter((one) => !isBlock(one)), blocks: spared.filter(isBlock).map(cidr) }
  return sparedStrangers(guard, outer).map(({ message, hint }) => [/spares "(.*)"$/.exec(message)?.[1], hint])
}

it.each([
  ['eth0', ['eth0']],
  ['eth*', ['eth0', 'eth1']],
  ['0.0.0.0/0', ['eth0']],
  ['128.0.0.0/1', []],
  ['2000::/3', ['eth0']],
])('an exception of %s spares strangers who come by %s', (spared, outer) => {
  expect(named([spared, 'wg0', '10.0.0.0/8'], outer)).toEqual([[spared, `remove "${spared}" from guard_except in [firewall]`]])
})

it('exceptions that spare strangers together are each named', () => {
  expect(named(['eth0', 'br-*', 'wan'], ['eth0', 'wan']).map(([spared]) => spared)).toEqual(['eth0', 'wan'])
})

it.each([
  ['br-*', ['eth0']],
  ['tun0', ['eth0', 'tun0']],
  ['eth0', []],
  ['11.0.0.0/8', ['eth0']],
  ['2a00::/16', ['eth0']],
])('an exception of %s spares no stranger who comes by %s', (spared, outer) => {
  expect(named([spared], outer)).toEqual([])
})
