import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import { commitOf } from '../../src/build/commit.mjs'
import { ROOT } from '../root'
import { scratch } from '../system/scratch'

const DATE = 1780000000
const ENV = {
  PATH: process.env.PATH,
  HOME: '/nonexistent',
  GIT_CONFIG_NOSYSTEM: '1',
  ...Object.fromEntries(
    ['AUTHOR', 'COMMITTER'].flatMap((who) => [
      [`GIT_${who}_NAME`, 'test'],
      [`GIT_${who}_EMAIL`, 'test@invalid'],
    ]),
  ),
  GIT_COMMITTER_DATE: `${DATE} +0900`,
}

describe('the commit that is built', () => {
  let root: string
  let hash: string
  const git = (...args: string[]) => execFileSync('git', ['-C', root, ...args], { encoding: 'utf8', env: ENV }).trim()

  beforeEach(() => {
    root = scratch()
    mkdirSync(join(root, 'src'))
    for (const name of ['commit.txt', '.gitattributes']) cpSync(join(ROOT, 'src/build', name), join(root, 'src/build', name))
    writeFileSync(join(root, 'src/main.ts'), '1')
    writeFileSync(join(root, 'notes'), '1')
    git('init', '-q')
    git('add', '-A')
    git('commit', '-qm', 'first')
    hash = git('rev-parse', 'HEAD')
  })

  it('is named by its first digits, and dated as it is', () => {
    expect(commitOf(root)).toEqual({ name: hash.slice(0, 7), date: DATE })
  })

  it.each(['src/main.ts', 'src/new.ts'])('is marked where the sources have changed since: %s', (path) => {
    writeFileSync(join(root, path), '2')
    expect(commitOf(root)).toEqual({ name: `${hash.slice(0, 7)}+`, date: DATE })
  })

  it.each(['notes', 'new'])('is not marked where something else has: %s', (path) => {
    writeFileSync(join(root, path), '2')
    expect(commitOf(root)).toEqual({ name: hash.slice(0, 7), date: DATE })
  })

  it('is the same in an archive of it, where there is no git', () => {
    const archive = scratch()
    const tar = execFileSync('git', ['-C', root, 'archive', 'HEAD'], { env: ENV })
    execFileSync('tar', ['-xC', archive], { input: tar })
    expect(commitOf(archive)).toEqual({ name: hash.slice(0, 7), date: DATE })
  })

  it('is not that of another repository in which the sources lie', () => {
    const inside = join(root, 'vendor/knockturn')
    cpSync(join(root, 'src'), join(inside, 'src'), { recursive: true })
    expect(commitOf(inside)).toEqual({ name: '', date: expect.any(Number) })
  })

  it('is unknown in a copy without git, and its date is the same each time', () => {
    const copy = scratch()
    cpSync(join(root, 'src'), join(copy, 'src'), { recursive: true })
    expect(commitOf(copy)).toEqual({ name: '', date: commitOf(copy).date })
  })
})
