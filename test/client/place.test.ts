import { isIP } from 'node:net'
import { beforeEach, describe, expect, it, vi } from 'vitest'
import { lookUp, NO_ANSWER } from '../../src/client/name'
import { findHost } from '../../src/client/place'
import { parseKeyFile } from '../../src/keys/key-file'
import { canonicalAddress } from '../../src/protocol/address'
import { TimeFault } from '../../src/system/fault'
import { keyText } from '../system/scratch'

/* The addresses of names, where no resolver can be told them; test/e2e/ssh.test.ts has a real one. */

vi.mock('../../src/client/name', async (original) => ({ ...(await original<object>()), lookUp: vi.fn() }))
vi.mock('../../src/protocol/address', async (original) => {
  const { canonicalAddress, ...rest } = await original<typeof import('../../src/protocol/address')>()
  return { ...rest, canonicalAddress: vi.fn(canonicalAddress) }
})

const [GATE, GATE6, EVIL] = ['198.51.100.1', '2001:db8:7::1', '203.0.113.66']
const NAMES: Record<string, string[]> = {
  'gate.example': [GATE, GATE6],
  'alias.example': [GATE],
  'balanced.example': ['198.51.100.9', GATE],
  // Whose owner gives it the gate's address beside their own.
  'evil.example': [EVIL, GATE],
  'evil6.example': [EVIL, GATE6],
  'twin.example': [GATE, EVIL, GATE6],
  'other.example': [EVIL],
}

async function look(name: string, family: number) {
  const addresses = isIP(name) ? [name] : (NAMES[name.toLowerCase().replace(/\.$/, '')] ?? [])
  const found = addresses.filter((address) => family === 0 || isIP(address) === family)
  if (found.length === 0) throw new Error(`the system knows no address of ${name}`)
  return found
}
const resolver = vi.mocked(lookUp)
beforeEach(() => {
  resolver.mockReset().mockImplementation(look)
})

const keyFor = (host: string) => {
  const { value } = parseKeyFile('', keyText({ more: `host = "${host}"\n`, grant: '' }))
  if (!value) throw new Error('the test’s own key is faulty')
  return value
}
/** Where a knock goes that was told to go to a host, with a key for another one. */
const goes = async (host: string, expected: string, more: { ipv4?: boolean; ipv6?: boolean } = {}, preferred: 0 | 4 | 6 = 0) =>
  (await findHost(more, { key: keyFor(expected), host, isMeant: false }, preferred, Infinity, () => {})).address

describe('a host that is named', () => {
  it.each([
    ['gate.example', 'gate.example'],
    ['GATE.example', 'gate.Example.'],
    ['gate.example', 'gate.example.'],
  ])('is resolved once where its name is the key’s: %s and %s', async (host, expected) => {
    expect(await goes(host, expected)).toBe(GATE)
    expect(resolver.mock.calls.map(([name]) => name)).toEqual([host])
  })

  it.each([
    ['an alias', 'alias.example', 'gate.example', GATE],
    ['an address', GATE, 'gate.example', GATE],
    ['a name, for a key with an address', 'gate.example', GATE6, GATE6],
    ['an address written otherwise', '2001:DB8:7:0::1', GATE6, '2001:DB8:7:0::1'],
    ['one of several', 'balanced.example', 'gate.example', GATE],
    ['a name that has another address in front', 'evil.example', 'gate.example', GATE],
  ])('may be %s: the knock goes to an address of both', async (_, host, expected, address) => {
    expect(await goes(host, expected)).toBe(address)
  })

  it.each<[string, string, Parameters<typeof goes>[2], 0 | 4 | 6, string | null]>([
    ['is known where it has one', 'gate.example', {}, 0, GATE6],
    ['is none where it is the same family’s', 'balanced.example', {}, 0, null],
    ['is one of both hosts', 'twin.example', {}, 0, GATE6],
    ['is none of another host', 'evil.example', {}, 0, null],
    ['is none where a family is named', 'gate.example', { ipv4: true }, 0, null],
    ['is none where an address to open for is', 'gate.example', {}, 4, null],
  ])('has an address of the other family that %s', async (_, host, more, preferred, other) => {
    const aim = { key: keyFor('gate.example'), host, isMeant: false }
    expect((await findHost({ ...more }, aim, preferred, Infinity, () => {})).other).toBe(other)
  })

  it.each<[string, string, { ipv4?: boolean; ipv6?: boolean }]>([
    ['has no address of the key’s host', 'other.example', {}],
    ['has one of the other family only', 'evil6.example', { ipv4: true }],
    ['has no address', 'nobody.example', {}],
  ])('is refused where it %s', async (_, host, options) => {
    await expect(goes(host, 'gate.example', options)).rejects.toThrow(`the key alice is for gate.example, and `)
  })

  it.each<[string, string, number, boolean]>([
    ['and so is the time of --wait', 'gate.example', 9_000, true],
    ['and the other name’s, too', 'alias.example', 9_000, true],
    ['and --wait has more', 'gate.example', 11_000, false],
  ])('has nobody who tells its address in time, %s', async (_, host, limit, isOver) => {
    resolver.mockRejectedValue(Object.assign(new Error('nobody has answered'), { code: NO_ANSWER }))
    const aim = { key: keyFor('gate.example'), host, isMeant: false }
    const found = await findHost({}, aim, 0, performance.now() + limit, () => {}).catch((error) => error)
    expect([found instanceof TimeFault, found.message.includes('nobody has answered')]).toEqual([isOver, true])
  })

  it('has each address read once, where a hostile name server says thousands of both hosts', async () => {
    const many = (block: string) => Array.from({ length: 2_000 }, (_, i) => `2001:db8:${block}::${(i + 1).toString(16)}`)
    resolver.mockImplementation(async (name) => many(name === 'gate.example' ? '7' : '8'))
    vi.mocked(canonicalAddress).mockClear()
    await expect(goes('other.example', 'gate.example')).rejects.toThrow('other.example is another host')
    expect(vi.mocked(canonicalAddress).mock.calls.length).toBe(4_000)
  })

  it('is refused where the key’s host has no address', async () => {
    await expect(goes(GATE, 'nobody.example')).rejects.toThrow(
      `it is not known whether ${GATE} is that host (the system knows no address of nobody.example)`,
    )
  })

  it.each([
    [4, GATE],
    [6, GATE6],
  ] as const)('is knocked at by the family that is preferred, of the addresses of both: IPv%i', async (family, address) => {
    expect(await goes('twin.example', 'gate.example', {}, family)).toBe(address)
  })
})
