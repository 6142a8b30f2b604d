import {
  chmodSync,
  chownSync,
  existsSync,
  lchownSync,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { checkWay, SureFolder } from '../../src/system/sure-folder'
import { put, scratch } from './scratch'

/** Somebody else, whom root alone can make an owner. */
const OTHER = 65_534
const isRoot = process.getuid?.() === 0

const opened: SureFolder[] = []
afterEach(async () => {
  for (const folder of opened.splice(0)) await folder.close()
})

async function open(path: string): Promise<SureFolder> {
  const folder = await SureFolder.open(path)
  if (!folder) throw new Error(`${path} is not there`)
  opened.push(folder)
  return folder
}

describe('a folder is opened', () => {
  it('where it is ours', async () => {
    const path = scratch()
    put(path, 'a', 'text', 0o644)
    expect(await (await open(path)).names(10)).toEqual(['a'])
  })

  it('not where there is none', async () => {
    expect(await SureFolder.open(join(scratch(), 'none'))).toBeNull()
  })

  it('not by a link', async () => {
    const folder = scratch()
    symlinkSync(scratch(), join(folder, 'link'))
    await expect(SureFolder.open(join(folder, 'link'))).rejects.toThrow(/expected a folder, and no link/)
  })

  it('not where it is a file', async () => {
    await expect(SureFolder.open(put(scratch(), 'file', ''))).rejects.toThrow(/expected a folder, and no link/)
  })

  it.each([0o777, 0o775, 0o1777])('not where others may write it (mode %i)', async (mode) => {
    const path = scratch()
    chmodSync(path, mode)
    await expect(SureFolder.open(path)).rejects.toThrow(/users other than its owner may write it/)
  })

  it.runIf(isRoot)('not where it is somebody else’s', async () => {
    const path = scratch()
    chownSync(path, OTHER, OTHER)
    await expect(SureFolder.open(path)).rejects.toThrow(/expected a folder of root's, got one of user 65534/)
  })
})

describe('a file in it is read', () => {
  it('where it is ours', async () => {
    const path = scratch()
    put(path, 'a', 'text', 0o644)
    expect(await (await open(path)).read('a', 100)).toBe('text')
  })

  it('not by a link', async () => {
    const path = scratch()
    symlinkSync(put(scratch(), 'secret', 'text'), join(path, 'a'))
    await expect((await open(path)).read('a', 100)).rejects.toThrow(/ELOOP/)
  })

  it('not where it has another name elsewhere', async () => {
    const path = scratch()
    linkSync(put(scratch(), 'secret', 'text'), join(path, 'a'))
    await expect((await open(path)).read('a', 100)).rejects.toThrow(/a file of root's with no other name/)
  })

  it('not where others may write it', async () => {
    const path = scratch()
    put(path, 'a', 'text', 0o666)
    await expect((await open(path)).read('a', 100)).rejects.toThrow(/users other than its owner may write it/)
  })

  it.runIf(isRoot)('not where it is somebody else’s', async () => {
    const path = scratch()
    chownSync(put(path, 'a', 'text', 0o644), OTHER, OTHER)
    await expect((await open(path)).read('a', 100)).rejects.toThrow(/a file of root's/)
  })

  it('not where it is too long', async () => {
    const path = scratch()
    put(path, 'a', 'x'.repeat(101), 0o644)
    await expect((await open(path)).read('a', 100)).rejects.toThrow(/expected at most 100 bytes, got 101/)
  })

  it('of the folder that was opened, and of none that has taken its place', async () => {
    const parent = scratch()
    const path = join(parent, 'folder')
    mkdirSync(path, { mode: 0o755 })
    put(path, 'a', 'ours', 0o644)
    const folder = await open(path)
    renameSync(path, join(parent, 'moved'))
    mkdirSync(path)
    put(path, 'a', 'theirs', 0o644)
    expect(await folder.read('a', 100)).toBe('ours')
  })
})

describe('a file is placed', () => {
  it('whole, with its mode, whatever the umask', async () => {
    const path = scratch()
    const before = process.umask(0o077)
    await (await open(path)).place('a', 'text', 0o644).finally(() => process.umask(before))
    expect([readFileSync(join(path, 'a'), 'utf8'), statSync(join(path, 'a')).mode & 0o777]).toEqual(['text', 0o644])
  })

  it('over no file that a link in its place leads to', async () => {
    const path = scratch()
    const victim = put(scratch(), 'victim', 'untouched')
    symlinkSync(victim, join(path, 'a'))
    symlinkSync(victim, join(path, '.a.new'))
    await (await open(path)).place('a', 'text', 0o644)
    expect([readFileSync(victim, 'utf8'), readFileSync(join(path, 'a'), 'utf8')]).toEqual(['untouched', 'text'])
  })

  it('in the folder that was opened, and in none that has taken its place', async () => {
    const parent = scratch()
    const path = join(parent, 'folder')
    mkdirSync(path, { mode: 0o755 })
    const folder = await open(path)
    const elsewhere = scratch()
    renameSync(path, join(parent, 'moved'))
    symlinkSync(elsewhere, path)
    await folder.place('a', 'text', 0o644)
    expect([existsSync(join(elsewhere, 'a')), existsSync(join(parent, 'moved', 'a'))]).toEqual([false, true])
  })
})

it('names beyond the most are none', async () => {
  const path = scratch()
  for (let i = 0; i < 11; i++) writeFileSync(join(path, `${i}`), '')
  const folder = await open(path)
  expect([await folder.names(10), (await folder.names(11))?.length]).toEqual([null, 11])
})

describe('the way to a path is sure', () => {
  it('where all folders above it are root’s, or ours', async () => {
    await expect(checkWay(join(scratch(), 'a'))).resolves.toBeUndefined()
  })

  it('not where everybody may change a folder above it', async () => {
    const path = scratch()
    chmodSync(path, 0o777)
    await expect(checkWay(join(path, 'a'))).rejects.toThrow(/expected a folder that root alone may change/)
  })

  it.runIf(isRoot)('not where a folder above it is somebody else’s', async () => {
    const path = scratch()
    mkdirSync(join(path, 'theirs', 'inner'), { recursive: true })
    chownSync(join(path, 'theirs'), OTHER, OTHER)
    await expect(checkWay(join(path, 'theirs', 'inner', 'a'))).rejects.toThrow(/expected a folder that root alone may change/)
  })

  it.runIf(isRoot)('not where a link of somebody else’s leads there', async () => {
    const path = scratch()
    symlinkSync(scratch(), join(path, 'link'))
    lchownSync(join(path, 'link'), OTHER, OTHER)
    await expect(checkWay(join(path, 'link', 'a'))).rejects.toThrow(/expected a folder that root alone may change/)
  })

  it.runIf(isRoot)('not where a link of root’s leads into a folder of somebody else’s', async () => {
    const path = scratch()
    const theirs = scratch()
    mkdirSync(join(theirs, 'inner'))
    chownSync(theirs, OTHER, OTHER)
    symlinkSync(join(theirs, 'inner'), join(path, 'link'))
    await expect(checkWay(join(path, 'link', 'a'))).rejects.toThrow(/expected a folder that root alone may change/)
  })
})
