import { chmodSync, rmSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { loadServerKeys } from '../../src/host/server-keys'
import { keyText, put, scratch, secretOf } from './scratch'

const SERVER = 'gate.example'
const load = (folder: string, before: Awaited<ReturnType<typeof loadServerKeys>>['keys'] = []) =>
  loadServerKeys(folder, SERVER, before)
const idsOf = ({ keys }: Awaited<ReturnType<typeof load>>) => keys.map(({ id }) => id).sort()
const messagesOf = ({ faults }: Awaited<ReturnType<typeof load>>) => faults.map(({ message }) => message)

describe('the keys of a daemon', () => {
  it('are those of its keyring', async () => {
    const folder = scratch()
    for (const [n, id] of ['alice', 'bob'].entries()) put(folder, `${id}.key`, keyText({ id, secret: secretOf(n) }))
    expect(idsOf(await load(folder))).toEqual(['alice', 'bob'])
  })

  it.each(['other.example', 'Gate.example', 'gate.example ', ''])('are none with the label "%s"', async (server) => {
    const folder = scratch()
    const path = put(folder, 'alice.key', keyText({ server }))
    const loaded = await load(folder)
    expect(idsOf(loaded)).toEqual([])
    expect(messagesOf(loaded)).toEqual([
      `${path}: expected server "gate.example", as in the config, got "${server}": make a key for this server, or mend the config`,
    ])
  })

  it('are none whose pool holds a port of datagrams, which the fault names', async () => {
    const folder = scratch()
    const path = put(folder, 'alice.key', keyText({ more: 'pool = "400-12000"\n' }))
    put(folder, 'bob.key', keyText({ id: 'bob', secret: secretOf(2) }))
    const loaded = await loadServerKeys(folder, SERVER, [], [53, 443])
    expect(idsOf(loaded)).toEqual(['bob'])
    expect(messagesOf(loaded)).toEqual([
      `${path}: expected a pool without port 443, which [datagram] in the config has for datagrams, got 400-12000: take another port there, or make a key with another pool`,
    ])
  })

  it('are no clients’ copies', async () => {
    const folder = scratch()
    put(folder, 'alice.key', keyText({ grant: '' }))
    const loaded = await load(folder)
    expect(idsOf(loaded)).toEqual([])
    expect(messagesOf(loaded)).toEqual([expect.stringContaining('alice.key: expected a table [grant], and it is missing')])
  })

  it('are neither of two with one fingerprint', async () => {
    const folder = scratch()
    for (const id of ['alice', 'bob']) put(folder, `${id}.key`, keyText({ id }))
    put(folder, 'carol.key', keyText({ id: 'carol', secret: secretOf(2) }))
    const loaded = await load(folder)
    expect(idsOf(loaded)).toEqual(['carol'])
    expect(messagesOf(loaded)).toEqual([expect.stringMatching(/alice\.key: holds the same secret as .*bob\.key: remove one/)])
  })

  it('are none of three with one fingerprint', async () => {
    const folder = scratch()
    for (const id of ['alice', 'bob', 'carol']) put(folder, `${id}.key`, keyText({ id }))
    expect(idsOf(await load(folder))).toEqual([])
  })

  it('name the files that were ignored', async () => {
    const folder = scratch()
    const path = put(folder, 'alice.txt', '')
    expect((await load(folder)).ignored).toEqual([path])
  })
})

describe('the keys of a daemon, loaded again', () => {
  async function loaded() {
    const folder = scratch()
    put(folder, 'alice.key', keyText())
    return { folder, before: (await load(folder)).keys }
  }

  it('keep their place while their material is the same', async () => {
    const { folder, before } = await loaded()
    put(folder, 'alice.key', keyText({ grant: 'services = ["443/tcp"]', more: 'expires = 2026-12-01T00:00:00Z\n' }))
    const [again] = (await load(folder, before)).keys
    expect(again.key).toBe(before[0].key)
    expect(again.grant.services).toEqual([{ port: 443, protocol: 'tcp' }])
    expect(again.expires).toBe(Date.UTC(2026, 11, 1))
  })

  it.each([
    ['secret', keyText({ secret: secretOf(2) })],
    ['period', keyText({ more: 'period = 60\n' })],
    ['pool', keyText({ more: 'pool = "20000-40000"\n' })],
    ['pool, as large', keyText({ more: 'pool = "49151-65534"\n' })],
  ])('lose it with another %s', async (_, text) => {
    const { folder, before } = await loaded()
    put(folder, 'alice.key', text)
    expect((await load(folder, before)).keys[0].key).not.toBe(before[0].key)
  })

  it.each([
    ['faulty', (folder: string) => put(folder, 'alice.key', 'id = "alice')],
    ['loose', (folder: string) => chmodSync(`${folder}/alice.key`, 0o644)],
  ])('stay as they were when a file has become %s', async (_, spoil) => {
    const { folder, before } = await loaded()
    spoil(folder)
    const again = await load(folder, before)
    expect(again.keys).toEqual(before)
    expect(again.faults).toHaveLength(1)
  })

  it('stay once when a file has several faults', async () => {
    const { folder, before } = await loaded()
    put(folder, 'alice.key', keyText({ more: 'period = 1\nhost = ""\n' }))
    expect((await load(folder, before)).keys).toHaveLength(1)
  })

  it('are gone with their files', async () => {
    const { folder, before } = await loaded()
    rmSync(`${folder}/alice.key`)
    expect((await load(folder, before)).keys).toEqual([])
  })

  it('are gone when a file has got another label', async () => {
    const { folder, before } = await loaded()
    put(folder, 'alice.key', keyText({ server: 'other.example' }))
    expect((await load(folder, before)).keys).toEqual([])
  })
})
