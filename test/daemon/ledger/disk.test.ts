import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { open as openFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { bundleForNode } from '../../../src/build/bundle.mjs'
import { LedgerOnDisk, MAX_DAMAGED, openLedger } from '../../../src/daemon/ledger/disk'
import { readLedger } from '../../../src/daemon/ledger/record'
import type { Knock } from '../../../src/gate/knock'
import { deriveKey } from '../../../src/protocol/key'
import { parsePool } from '../../../src/protocol/pool'
import { put, scratch } from '../../system/scratch'
import { FINGERPRINT, file, SAMPLES, spent, V } from './sample'

const WALL = Date.UTC(2026, 10, 22, 12)
const NOW = Math.floor(WALL / 1000 / 30)
const key = deriveKey({ secret: new Uint8Array(32), server: '', period: 30, pool: parsePool('49152-65535') })
const knock = (n: number, window = NOW): Knock => ({
  key,
  window,
  v: n.toString(16).padStart(32, '0'),
  request: { action: 'open', protocol: 'any', once: false, salt: n, port: 22, seconds: 60, address: '0.0.0.0' },
  source: '198.51.100.2',
  destination: '198.51.100.1',
  heard: 0,
  arrival: 'timely',
})

const open: { close(): Promise<void> }[] = []
const children: ChildProcess[] = []
afterEach(async () => {
  for (const disk of open.splice(0)) await disk.close()
  for (const child of children.splice(0)) child.kill('SIGKILL')
})

async function start(path: string, { isNew = false, skew = 1 } = {}) {
  const warnings: string[] = []
  const { ledger, disk } = await openLedger(path, skew, WALL, isNew, (message) => warnings.push(message))
  open.push(disk)
  const claim = async (n: number, window?: number) => {
    const claimed = ledger.note(knock(n, window), FINGERPRINT)
    if (claimed.outcome === 'spent') await claimed.durable
    return claimed.outcome
  }
  // Whether the test's folder is on tmpfs is none of these tests' business.
  return { ledger, disk, claim, warnings: () => warnings.filter((message) => !message.includes('tmpfs')) }
}
/** The paths of all that this process has open. */
const openFiles = () =>
  readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`)
    } catch {
      return [] // the one by which the folder was read
    }
  })
async function stop(disk: LedgerOnDisk) {
  open.splice(open.indexOf(disk), 1)
  await disk.close()
}

describe('a ledger’s file', () => {
  it('is made, of mode 0600, where it is missing', async () => {
    const path = join(scratch(), 'ledger')
    await start(path, { isNew: true })
    expect(statSync(path).mode & 0o777).toBe(0o600)
  })

  it.each([0o644, 0o640, 0o606])('of mode %o is refused with the remedy', async (mode) => {
    const path = put(scratch(), 'ledger', file(SAMPLES), mode)
    await expect(LedgerOnDisk.open(path, () => {})).rejects.toMatchObject({ hint: `run "chmod 600 ${path}"` })
  })

  it('that is refused is closed: Node 26 ends a process that forgets one', async () => {
    const path = put(scratch(), 'ledger', file(SAMPLES), 0o644)
    await LedgerOnDisk.open(path, () => {}).catch(() => {})
    expect(openFiles()).not.toContain(path)
  })

  it('in a missing folder is refused', async () => {
    const path = join(scratch(), 'missing', 'ledger')
    await expect(LedgerOnDisk.open(path, () => {})).rejects.toMatchObject({
      message: expect.stringMatching(/: the ledger cannot be opened: ENOENT[^\n]*$/),
      hint: expect.stringMatching(/^create its folder: as root, run "install -d -m 700 -o \S+ \S+"$/),
    })
  })

  it('that is a folder is refused', async () => {
    await expect(LedgerOnDisk.open(scratch(), () => {})).rejects.toThrow('the ledger cannot be opened: EISDIR')
  })

  it('has mode 0600 after it was written anew, whatever the umask', async () => {
    const path = join(scratch(), 'ledger')
    const before = process.umask(0)
    try {
      await start(path, { isNew: true })
    } finally {
      process.umask(before)
    }
    expect(statSync(path).mode & 0o777).toBe(0o600)
  })

  it('has a knock as soon as it is durable', async () => {
    const path = join(scratch(), 'ledger')
    const { claim } = await start(path, { isNew: true })
    await claim(7)
    const { state, records } = readLedger(readFileSync(path))
    expect(state).toBe('whole')
    expect(records).toContainEqual(expect.objectContaining({ kind: 'spent', window: NOW, v: knock(7).v }))
  })

  it('has many knocks that came at once', async () => {
    const path = join(scratch(), 'ledger')
    const { claim } = await start(path, { isNew: true })
    await Promise.all(Array.from({ length: 500 }, (_, n) => claim(n)))
    const { state, records } = readLedger(readFileSync(path))
    expect(state).toBe('whole')
    expect(new Set(records.flatMap((record) => (record.kind === 'spent' ? [record.v] : []))).size).toBe(500)
  })

  it('keeps every knock dead after it is opened again', async () => {
    const path = join(scratch(), 'ledger')
    const first = await start(path, { isNew: true })
    for (const n of [1, 2, 3]) await first.claim(n)
    await stop(first.disk)
    const second = await start(path)
    expect(await Promise.all([1, 2, 3].map((n) => second.claim(n)))).toEqual(['replayed', 'replayed', 'replayed'])
  })

  it('admits new knocks at once after it is opened again', async () => {
    const path = join(scratch(), 'ledger')
    await stop((await start(path, { isNew: true })).disk)
    const { claim, warnings } = await start(path)
    expect(await claim(1)).toBe('spent')
    expect(warnings()).toEqual([])
  })

  it('keeps a floor that outlives its rows', async () => {
    const path = join(scratch(), 'ledger')
    const first = await start(path, { isNew: true })
    await first.claim(1, NOW)
    await first.claim(2, NOW + 10)
    await stop(first.disk)
    const second = await start(path)
    expect(await Promise.all([second.claim(1, NOW), second.claim(3, NOW + 7)])).toEqual(['stale', 'stale'])
    expect(await second.claim(4, NOW + 8)).toBe('spent')
  })

  it('is written anew with what counts, and no more', async () => {
    const path = put(scratch(), 'ledger', file([spent(NOW - 20), spent(NOW - 10), spent(NOW)]))
    await start(path)
    expect(readLedger(readFileSync(path)).records).toEqual([
      { kind: 'floor', fingerprint: FINGERPRINT, period: 30, floor: NOW - 2 },
      spent(NOW),
    ])
  })

  it('is written anew when it has grown, and keeps what counts', async () => {
    const path = join(scratch(), 'ledger')
    const { claim } = await start(path, { isNew: true })
    // Some 100 bytes each: together more than 1 MiB. The floor then forgets them.
    for (const window of [NOW, NOW + 1, NOW + 2])
      await Promise.all(Array.from({ length: 3_700 }, (_, n) => claim(10_000 * (window - NOW) + n, window)))
    await claim(40_000, NOW + 5)
    await claim(40_001, NOW + 5)
    const { state, records } = readLedger(readFileSync(path))
    expect(state).toBe('whole')
    expect(records.length).toBeLessThan(10)
    expect(records).toContainEqual(expect.objectContaining({ v: knock(40_001).v }))
  })

  it('of more than 256 MiB is refused, with what to do', async () => {
    const path = put(scratch(), 'ledger', '')
    truncateSync(path, 256 * 1024 * 1024 + 1)
    await expect(LedgerOnDisk.open(path, () => {})).rejects.toMatchObject({
      message: `${path}: expected a ledger of at most 268435456 bytes, got 268435457`,
      hint: 'revoke the keys that filled it, delete it, and start the daemon without --new-ledger',
    })
  })

  it('leaves nothing else in its folder', async () => {
    const path = join(scratch(), 'ledger')
    writeFileSync(`${path}.new`, 'left by a daemon that was killed')
    await start(path, { isNew: true })
    expect(statSync(`${path}.new`, { throwIfNoEntry: false })).toBeUndefined()
  })
})

describe('a ledger that knows nothing of the past', () => {
  it.each([
    ['missing', undefined],
    ['empty', ''],
    ['damaged', file(SAMPLES).subarray(0, -1)],
    ['something else', 'hello\n'],
  ])('(%s) starts with what was sent before the next minute dead', async (_, content) => {
    const path = join(scratch(), 'ledger')
    if (content !== undefined) put(dirname(path), 'ledger', content)
    const { claim } = await start(path)
    expect(await claim(1, NOW + 1)).toBe('stale')
    expect(await claim(1, NOW + 2)).toBe('spent')
  })

  it.each([
    ['missing', undefined, ''],
    ['damaged', file(SAMPLES).subarray(0, -1), '; the damaged file is kept as PATH.damaged'],
  ])('(%s) is told', async (state, content, kept) => {
    const path = join(scratch(), 'ledger')
    if (content !== undefined) put(dirname(path), 'ledger', content)
    const { warnings } = await start(path)
    expect(warnings()).toEqual([
      `${path}: the ledger is ${state}: no knock opens anything for about a minute${kept.replace('PATH', path)}`,
    ])
  })

  it('admits at once on the administrator’s word that there was none', async () => {
    const { claim, warnings } = await start(join(scratch(), 'ledger'), { isNew: true })
    expect(await claim(1)).toBe('spent')
    expect(warnings()).toEqual([])
  })

  it('takes a file that was emptied for damage, whatever the word', async () => {
    const path = put(scratch(), 'ledger', '')
    const { claim } = await start(path, { isNew: true })
    expect(await claim(1)).toBe('stale')
  })

  it('keeps its place behind a link', async () => {
    const folder = scratch()
    const path = join(folder, 'ledger')
    symlinkSync(put(folder, 'real', ''), path)
    await start(path, { isNew: true })
    expect([lstatSync(path).isSymbolicLink(), readLedger(readFileSync(join(folder, 'real'))).state]).toEqual([true, 'whole'])
  })

  it('is refused with two names', async () => {
    const folder = scratch()
    linkSync(put(folder, 'one', ''), join(folder, 'two'))
    await expect(start(join(folder, 'two'))).rejects.toThrow('two: has 2 hard links')
  })

  it('does not take that word where it is damaged', async () => {
    const path = put(scratch(), 'ledger', file(SAMPLES).subarray(0, -1))
    const { claim } = await start(path, { isNew: true })
    expect(await claim(1)).toBe('stale')
  })

  it('keeps waiting for that minute after it is opened again', async () => {
    const path = join(scratch(), 'ledger')
    await stop((await start(path)).disk)
    expect(await (await start(path)).claim(1, NOW + 1)).toBe('stale')
  })

  it('keeps dead what could still be read of a damaged one', async () => {
    const path = put(scratch(), 'ledger', file([spent(NOW + 5), spent(NOW + 6)]).subarray(0, -1))
    const { ledger } = await start(path)
    expect(ledger.note({ ...knock(0, NOW + 5), v: V }, FINGERPRINT).outcome).toBe('replayed')
  })
})

describe('the bytes of a damaged ledger', () => {
  const DAMAGED = file(SAMPLES).subarray(0, -1)

  it('are kept aside, of mode 0600, before it is written anew', async () => {
    const path = put(scratch(), 'ledger', DAMAGED)
    await start(path)
    expect(readFileSync(`${path}.damaged`)).toEqual(DAMAGED)
    expect(statSync(`${path}.damaged`).mode & 0o777).toBe(0o600)
  })

  it('take the place of those of an earlier one', async () => {
    const path = put(scratch(), 'ledger', DAMAGED)
    put(dirname(path), 'ledger.damaged', 'an earlier one')
    await start(path)
    expect(readFileSync(`${path}.damaged`)).toEqual(DAMAGED)
  })

  it('are kept up to 4 MiB', async () => {
    const path = put(scratch(), 'ledger', Buffer.alloc(MAX_DAMAGED + 1, 'x'))
    await start(path)
    expect(statSync(`${path}.damaged`).size).toBe(4 * 1024 * 1024)
  })

  it('are not written over where they cannot be kept', async () => {
    const path = put(scratch(), 'ledger', DAMAGED)
    mkdirSync(`${path}.damaged`)
    const { warnings } = await start(path)
    expect(readFileSync(path)).toEqual(DAMAGED)
    expect(warnings()).toContainEqual(
      expect.stringContaining(`nothing opens until this works again: ${path}.damaged: already exists`),
    )
  })

  it('are the only ones that are kept: a whole ledger leaves none', async () => {
    const path = put(scratch(), 'ledger', file(SAMPLES))
    await start(path)
    expect(existsSync(`${path}.damaged`)).toBe(false)
  })
})

/** What a disk does that fails under an open file: this one call of it. */
async function fails<T>(call: 'write' | 'datasync', code: string, action: () => Promise<T>): Promise<T | undefined> {
  const handle = await openFile(put(scratch(), 'any', ''))
  const failure = vi.spyOn(Object.getPrototypeOf(handle), call).mockRejectedValueOnce(Object.assign(new Error(code), { code }))
  try {
    return await action().catch(() => undefined)
  } finally {
    failure.mockRestore()
    await handle.close()
  }
}

describe('a ledger that cannot be written', () => {
  /** Nothing, not even root, can put a file in the place of a folder. */
  async function blocked() {
    const path = join(scratch(), 'ledger')
    mkdirSync(`${path}.new`)
    return { ...(await start(path, { isNew: true })), path, unblock: () => rmdirSync(`${path}.new`) }
  }
  const failing = (path: string) =>
    expect.stringMatching(`^${path}: cannot write the ledger, nothing opens until this works again: `)

  it('is told at the start', async () => {
    const { warnings, path } = await blocked()
    expect(warnings()).toEqual([failing(path)])
  })

  it('is told once, however many knocks come', async () => {
    const { claim, warnings, path } = await blocked()
    for (const n of [1, 2, 3]) await claim(n).catch(() => {})
    expect(warnings()).toEqual([failing(path)])
  })

  it('is told to be well when it is, and to be ill again when it is that', async () => {
    const { claim, warnings, path, unblock } = await blocked()
    unblock()
    await claim(1)
    await fails('write', 'EROFS', () => claim(2))
    expect(warnings()).toEqual([failing(path), `${path}: the ledger is writable again`, failing(path)])
  })

  it('makes nothing durable', async () => {
    const { claim } = await blocked()
    await expect(claim(1)).rejects.toThrow('EEXIST')
  })

  it('makes knocks durable again as soon as it can be written', async () => {
    const { claim, path, unblock } = await blocked()
    await expect(claim(1)).rejects.toThrow('EEXIST')
    unblock()
    expect(await claim(2)).toBe('spent')
    expect(readLedger(readFileSync(path)).records).toContainEqual(expect.objectContaining({ v: knock(2).v }))
  })

  it('has the knocks that it could not write written at its end', async () => {
    const { claim, disk, path, unblock } = await blocked()
    await expect(claim(1)).rejects.toThrow('EEXIST')
    unblock()
    await disk.close()
    expect(readLedger(readFileSync(path)).records).toContainEqual(expect.objectContaining({ v: knock(1).v }))
  })

  it('keeps the knocks dead that it could not write', async () => {
    const { claim, disk, path, unblock } = await blocked()
    await expect(claim(1)).rejects.toThrow('EEXIST')
    unblock()
    await claim(2)
    await stop(disk)
    expect(await (await start(path)).claim(1)).toBe('replayed')
  })

  it.each([
    ['write', 'ENOSPC'],
    ['write', 'EROFS'],
    ['datasync', 'EIO'],
  ] as const)('while the daemon runs (%s: %s) makes nothing durable, and then is written anew', async (call, code) => {
    const path = join(scratch(), 'ledger')
    const { claim, ledger } = await start(path, { isNew: true })
    await claim(1)
    expect(await fails(call, code, () => claim(2))).toBeUndefined()
    expect(await claim(3)).toBe('spent')
    expect(readLedger(readFileSync(path))).toEqual({ state: 'whole', records: [...ledger.records()] })
    expect(await claim(2)).toBe('retransmitted')
  })
})

describe('a disk that hangs', () => {
  /** Has one call on open files wait until it is let go. */
  async function hang(call: 'datasync' | 'sync') {
    const handle = await openFile(put(scratch(), 'any', ''))
    const calls = Object.getPrototypeOf(handle)
    const goesOn = calls[call]
    let release = () => {}
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    let isHanging = () => {}
    const hanging = new Promise<void>((resolve) => {
      isHanging = resolve
    })
    const spy = vi.spyOn(calls, call).mockImplementationOnce(async function (this: unknown) {
      isHanging()
      await held
      return goesOn.call(this)
    })
    await handle.close()
    return { hanging, release, restore: () => spy.mockRestore() }
  }
  const settled = (claims: Promise<string>[]) => Promise.all(claims.map((claim) => claim.catch(({ message }) => message)))
  const REFUSED = 'the disk hangs: 4096 knocks are waiting for it already'

  it.each<'datasync' | 'sync'>(['datasync', 'sync'])(
    '(in %s) has 4,096 knocks wait and refuses the others, and all of them are dead when it goes on, and after a restart',
    async (call) => {
      const path = join(scratch(), 'ledger')
      const { claim, disk } = await start(path, { isNew: true })
      // After a failure all is written anew, by sync.
      if (call === 'sync') await fails('datasync', 'EIO', () => claim(0))
      const { hanging, release, restore } = await hang(call)
      const first = claim(1)
      await hanging
      const claims = settled(Array.from({ length: 4_100 }, (_, n) => claim(2 + n, NOW + (n % 2))))
      release()
      const said = [await first, ...(await claims)]
      restore()
      expect(['spent', REFUSED].map((what) => said.filter((one) => one === what).length)).toEqual([4_097, 4])
      expect(await claim(4_101, NOW + 1)).toBe('retransmitted')
      await stop(disk)
      const again = await start(path)
      expect(await Promise.all([2, 4_100, 4_101].map((n) => again.claim(n, NOW + (n % 2))))).toEqual(Array(3).fill('replayed'))
    },
  )
})

describe('a ledger that is held', () => {
  const HELD = 'another daemon uses the ledger'

  it('is refused to a second daemon', async () => {
    const path = join(scratch(), 'ledger')
    await start(path, { isNew: true })
    await expect(LedgerOnDisk.open(path, () => {})).rejects.toThrow(`${path}: ${HELD}`)
  })

  it('is still refused after it was written anew', async () => {
    const path = join(scratch(), 'ledger')
    const { disk, claim, ledger } = await start(path, { isNew: true })
    await disk.compact(() => ledger.records())
    await claim(1)
    await expect(LedgerOnDisk.open(path, () => {})).rejects.toThrow(HELD)
  })

  it('is refused by another name', async () => {
    const folder = scratch()
    await start(join(folder, 'ledger'), { isNew: true })
    symlinkSync('ledger', join(folder, 'other'))
    await expect(LedgerOnDisk.open(join(folder, 'other'), () => {})).rejects.toThrow(HELD)
  })

  it('is free when it was closed', async () => {
    const path = join(scratch(), 'ledger')
    await stop((await start(path, { isNew: true })).disk)
    await expect(start(path)).resolves.toBeDefined()
  })

  it('is left as it is by who was refused', async () => {
    const path = join(scratch(), 'ledger')
    const { claim } = await start(path, { isNew: true })
    await claim(1)
    const before = readFileSync(path)
    await LedgerOnDisk.open(path, () => {}).catch(() => {})
    expect(readFileSync(path)).toEqual(before)
  })

  /** Another process that holds a ledger until it is killed. */
  async function holder(path: string) {
    const folder = scratch()
    const source = fileURLToPath(new URL('../../../src/daemon/ledger/disk.ts', import.meta.url))
    const entry = put(
      folder,
      'hold.ts',
      `import { openLedger } from ${JSON.stringify(source)}
       openLedger(process.argv[2], 1, Date.now(), true, () => {}).then(() => {
         console.log('held')
         setInterval(() => {}, 1000)
       })`,
    )
    const bundle = join(folder, 'hold.cjs')
    await bundleForNode({ entryPoints: [entry], outfile: bundle })
    const child = spawn(process.execPath, [bundle, path], { stdio: ['ignore', 'pipe', 'inherit'] })
    children.push(child)
    const [line] = await once(createInterface({ input: child.stdout }), 'line')
    return { child, line }
  }

  it('by another process is refused while that one lives, and free when it was killed', async () => {
    const path = join(scratch(), 'ledger')
    const { child, line } = await holder(path)
    expect(line).toBe('held')
    await expect(LedgerOnDisk.open(path, () => {})).rejects.toThrow(HELD)
    child.kill('SIGKILL')
    await once(child, 'exit')
    await expect(start(path)).resolves.toBeDefined()
  })
})
