import { chmodSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { judgeKeys, loadServerKeys, readAgainAt, type ServerKeys } from '../../src/daemon/server-keys'
import { readKeyring } from '../../src/keys/keyring'
import { inOneLine } from '../../src/system/fault'
import { keyText, put, scratch, secretOf } from '../system/scratch'

const SERVER = 'gate.example'
const load = (folder: string, before?: ServerKeys, now = 0) => loadServerKeys(folder, SERVER, { before, now })
const idsOf = ({ keys }: ServerKeys) => keys.map(({ id }) => id).sort()
const messagesOf = ({ faults }: ServerKeys) => faults.map(inOneLine)

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
      `${path}: expected server "gate.example", as in the config, got "${server}": make a key for this server, or fix the config`,
    ])
  })

  it('are none whose pool holds a port of datagrams, which the fault names', async () => {
    const folder = scratch()
    const path = put(folder, 'alice.key', keyText({ more: 'pool = "400-12000"\n' }))
    put(folder, 'bob.key', keyText({ id: 'bob', secret: secretOf(2) }))
    const loaded = await loadServerKeys(folder, SERVER, { datagrams: [53, 443] })
    expect(idsOf(loaded)).toEqual(['bob'])
    expect(messagesOf(loaded)).toEqual([
      `${path}: the pool 400-12000 contains port 443, which [datagram] ports has, too: set another port in [datagram] ports, or make a key with another pool`,
    ])
  })

  it.each([
    ['with hints', 'services = ["22/tcp"]\nmax = "1h"\n'],
    ['without', ''],
  ])('are no clients’ copies, %s', async (_, more) => {
    const folder = scratch()
    put(folder, 'alice.key', keyText({ more, grant: '' }))
    const loaded = await load(folder)
    expect(idsOf(loaded)).toEqual([])
    expect(messagesOf(loaded)).toEqual([
      expect.stringContaining("alice.key: the table [grant] is missing: this may be a client's copy"),
    ])
  })

  it('are neither of two with one fingerprint', async () => {
    const folder = scratch()
    for (const id of ['alice', 'bob']) put(folder, `${id}.key`, keyText({ id }))
    put(folder, 'carol.key', keyText({ id: 'carol', secret: secretOf(2) }))
    const loaded = await load(folder)
    expect(idsOf(loaded)).toEqual(['carol'])
    expect(messagesOf(loaded)).toEqual([expect.stringMatching(/alice\.key: has the same secret as .*bob\.key: remove one/)])
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

/** A daemon's keyring with one key, as it was first loaded. */
async function loaded() {
  const folder = scratch()
  put(folder, 'alice.key', keyText())
  return { folder, before: await load(folder) }
}

describe('the keys of a daemon, loaded again', () => {
  it('keep their place while their material is the same', async () => {
    const { folder, before } = await loaded()
    put(folder, 'alice.key', keyText({ grant: 'services = ["443/tcp"]', more: 'expires = 2026-12-01T00:00:00Z\n' }))
    const [again] = (await load(folder, before)).keys
    expect(again.key).toBe(before.keys[0].key)
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
    expect((await load(folder, before)).keys[0].key).not.toBe(before.keys[0].key)
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

  it('are gone when a file has become too long', async () => {
    const { folder, before } = await loaded()
    put(folder, 'alice.key', keyText().padEnd(65_537, '\n'))
    const again = await load(folder, before)
    expect([again.keys, messagesOf(again)]).toEqual([[], [expect.stringContaining('expected at most 65536 bytes')]])
  })

  it('are gone when a file has become too long while it was faulty', async () => {
    const { folder, before } = await loaded()
    put(folder, 'alice.key', 'id = ')
    const faulty = await load(folder, before, 1_000)
    put(folder, 'alice.key', keyText().padEnd(65_537, '\n'))
    expect(idsOf(await load(folder, faulty, 1_001))).toEqual([])
  })

  it('are revoked at once by a word of it in a file that is no key', async () => {
    const { folder, before } = await loaded()
    put(folder, 'alice.key', "'revoked' = yes\nid = ")
    const again = await load(folder, before)
    expect(again.keys).toEqual([{ ...before.keys[0], revoked: 0 }])
    expect(again.held).toEqual([])
  })
})

describe.each<[string, (folder: string) => unknown]>([
  ['faulty', (folder) => put(folder, 'alice.key', 'id = "alice')],
  ['loose', (folder) => chmodSync(`${folder}/alice.key`, 0o644)],
  ['no text', (folder) => put(folder, 'alice.key', Uint8Array.of(0xff))],
])('a key whose file has become %s', (_, spoil) => {
  /** Seen 5 s after the start. */
  async function spoiled() {
    const { folder, before } = await loaded()
    spoil(folder)
    return { folder, before, faulty: await load(folder, before, 5_000) }
  }

  it('stays as it was, and is said to', async () => {
    const { before, faulty } = await spoiled()
    expect(faulty).toMatchObject({ keys: before.keys, faults: [], held: [{ id: 'alice', until: 15_000, faults: [{}] }] })
  })

  it.each([
    [14_999, ['alice']],
    [15_000, []],
  ])('is at %i ms: %j', async (now, ids) => {
    const { folder, faulty } = await spoiled()
    const later = await load(folder, await load(folder, faulty, 9_000), now)
    expect([idsOf(later), later.faults.length]).toEqual([ids, 1 - ids.length])
  })

  it('is refused at a start', async () => {
    const { folder } = await spoiled()
    expect(idsOf(await load(folder))).toEqual([])
  })

  it('has its time anew when it was mended meanwhile', async () => {
    const { folder, faulty } = await spoiled()
    rmSync(`${folder}/alice.key`, { recursive: true })
    put(folder, 'alice.key', keyText())
    const mended = await load(folder, faulty, 12_000)
    spoil(folder)
    const again = await load(folder, mended, 14_000)
    expect([idsOf(await load(folder, again, 23_999)), idsOf(await load(folder, again, 24_000))]).toEqual([['alice'], []])
  })

  it('has it not anew when it could not be read meanwhile', async () => {
    const { folder, faulty } = await spoiled()
    rmSync(`${folder}/alice.key`, { recursive: true })
    symlinkSync('/proc/self/mem', `${folder}/alice.key`)
    const unread = await load(folder, faulty, 12_000)
    rmSync(`${folder}/alice.key`)
    put(folder, 'alice.key', 'id = ')
    expect(idsOf(await load(folder, unread, 15_000))).toEqual([])
  })

  it('is to be looked at again when its time is over', async () => {
    expect(readAgainAt((await spoiled()).faulty, 5_000, 5_100, true)).toBe(15_000)
  })
})

describe('a key whose file cannot be read', () => {
  async function unread() {
    const { folder, before } = await loaded()
    rmSync(`${folder}/alice.key`)
    symlinkSync('/proc/self/mem', `${folder}/alice.key`)
    return { folder, before, unread: await load(folder, before) }
  }

  it('stays as it was, for as long as that lasts', async () => {
    const { folder, before, unread: first } = await unread()
    const again = await load(folder, first, 1e9)
    expect([again.keys, again.faults]).toEqual([before.keys, []])
    expect(again.unread).toMatchObject([{ message: expect.stringMatching(/alice\.key: cannot be read: EIO/) }])
  })

  it('stays revoked where it was', async () => {
    const { folder, before } = await loaded()
    put(folder, 'alice.key', 'revoked = now')
    const revoked = await load(folder, before)
    rmSync(`${folder}/alice.key`)
    symlinkSync('/proc/self/mem', `${folder}/alice.key`)
    expect((await load(folder, revoked)).keys).toMatchObject([{ id: 'alice', revoked: 0 }])
  })

  it('is none at a start', async () => {
    const { folder } = await unread()
    const first = await load(folder)
    expect([first.keys, first.unread.length]).toEqual([[], 1])
  })

  it('is looked at again in 10 s', async () => {
    expect(readAgainAt((await unread()).unread, 1_000, 1_100, true)).toBe(11_100)
  })
})

describe('a keyring that cannot be read', () => {
  it.each<[string, (folder: string) => unknown]>([
    ['is gone', (folder) => renameSync(folder, `${folder}.gone`)],
    ['others may use', (folder) => chmodSync(folder, 0o755)],
  ])('since it %s leaves all as it was, for as long as that lasts', async (_, spoil) => {
    const { folder, before } = await loaded()
    spoil(folder)
    const again = await load(folder, await load(folder, before), 1e9)
    expect(again).toMatchObject({ keys: before.keys, faults: [], unread: [{ message: expect.stringContaining(folder) }] })
  })

  it('is looked at again in 10 s, whatever was faulty in it', async () => {
    const { folder, before } = await loaded()
    put(folder, 'alice.key', 'id = ')
    const faulty = await load(folder, before)
    chmodSync(folder, 0o755)
    expect(readAgainAt(await load(folder, faulty, 20_000), 20_000, 20_100, true)).toBe(30_100)
  })

  it('refuses then what has been faulty for long', async () => {
    const { folder, before } = await loaded()
    put(folder, 'alice.key', 'id = ')
    const faulty = await load(folder, before)
    chmodSync(folder, 0o755)
    const unread = await load(folder, faulty, 20_000)
    chmodSync(folder, 0o700)
    expect([idsOf(unread), idsOf(await load(folder, unread, 20_001))]).toEqual([['alice'], []])
  })

  it('is refused at a start', async () => {
    await expect(load(`${scratch()}/keys`)).rejects.toThrow('the keyring cannot be read: ENOENT')
  })
})

describe('a keyring', () => {
  it('that is well need not be read again', async () => {
    expect(readAgainAt((await loaded()).before, 0, 100, true)).toBe(Infinity)
  })

  it.each([
    [100, 10_100],
    [1_000, 21_000],
    [10_000, 70_000],
  ])('that took %i ms and is not watched is read again at %i ms', async (took, at) => {
    expect(readAgainAt((await loaded()).before, 0, took, false)).toBe(at)
  })

  it('has no key by the secret of one that stays', async () => {
    const { folder, before } = await loaded()
    put(folder, 'alice.key', 'revoked = now')
    const twin = put(folder, 'bob.key', keyText({ id: 'bob' }))
    const again = await load(folder, before)
    expect(again.keys).toMatchObject([{ id: 'alice', revoked: 0 }])
    expect(messagesOf(again)).toContain(`${twin}: has the same secret as ${folder}/alice.key: remove one of the two files`)
  })

  it('is judged by what was read and the time alone', async () => {
    const { folder, before } = await loaded()
    put(folder, 'alice.key', 'id = ')
    const read = await readKeyring(folder)
    rmSync(folder, { recursive: true })
    const at = async (now: number, earlier: ServerKeys) => judgeKeys(folder, read, SERVER, { before: earlier, now })
    const first = await at(0, before)
    expect([idsOf(first), idsOf(await at(9_999, first)), idsOf(await at(10_000, first))]).toEqual([['alice'], ['alice'], []])
  })
})
