import { expect, it } from 'vitest'
import { ruledOut } from '../../src/daemon/allowed'
import type { GrantRules } from '../../src/gate/server-key'
import { parseCidr } from '../../src/protocol/address'
import type { Request } from '../../src/protocol/request'
import { ATTACKER, serverKey, USER, World } from '../replay/world'

/** What the log says of a knock that a grant refuses. */
async function refused(request: Partial<Request>, grant: Partial<GrantRules> = {}) {
  const world = await World.begin({ keys: [serverKey(1, grant)] })
  await world.datagram(world.composeDatagram(request))
  return world.log.find(({ msg }) => msg === 'refused')
}

it.each<[Partial<Request>, Partial<GrantRules>, object]>([
  [{ port: 80, protocol: 'tcp' }, {}, { rule: 'services', allowed: '22/tcp', service: '80/tcp' }],
  [{ seconds: 3_601 }, { max: 3_600 }, { rule: 'max', allowed: '1h', seconds: 3_601 }],
  [{ seconds: 0 }, { allowUntilClosed: false }, { rule: 'allow_until_closed', allowed: 'false' }],
  [{ action: 'lock' }, { lock: false }, { rule: 'lock', allowed: 'false', action: 'lock' }],
])('a refusal of %j says which rule of the grant %j refuses it', async (request, grant, said) => {
  expect(await refused(request, grant)).toMatchObject({ refusal: 'not-granted', ...said })
})

it('a rule that stands in no file has nothing that it allows', async () => {
  const line = await refused({ address: '224.0.0.1' }, { bindSource: false })
  expect(line).toMatchObject({ refusal: 'not-granted', rule: 'nobody' })
  expect(line).not.toHaveProperty('allowed')
})

it('what a rule allows is said in bounded length, however large the grant is', () => {
  const services = Array.from({ length: 64 }, (_, n) => ({ port: 60_000 + n, protocol: 'tcp' as const }))
  const addresses = Array.from({ length: 256 }, (_, n) =>
    parseCidr(`2001:db8:ffff:ffff:ffff:ffff:ffff:${(0x1000 + n).toString(16)}`),
  )
  const key = serverKey(1, { services, addresses: addresses.filter((block) => block !== null) })
  expect(ruledOut({ refusal: 'not-granted', rule: 'services' }, key, []).allowed).toMatch(/^60000\/tcp, .* and 48 more$/)
  expect(ruledOut({ refusal: 'not-granted', rule: 'addresses' }, key, []).allowed?.length).toBeLessThan(800)
})

it('a knock for somebody else that comes too early is no knock of theirs: in its time they open with it', async () => {
  const world = await World.begin()
  const { key } = world.keys[0]
  const early = world.composeDatagram({ address: USER }, key, world.window(key) + 2)
  await world.datagram(early, { source: ATTACKER })
  expect(world.log.filter(({ msg }) => msg === 'refused')).toMatchObject([{ refusal: 'address-mismatch' }])
  await world.pass(2 * key.period * 1_000)
  await world.datagram(early)
  expect(world.isOpen()).toBe(true)
})
