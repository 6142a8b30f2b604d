import { readdirSync, readFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { posix } from 'node:path'
import { describe, expect, it } from 'vitest'

const SRC = new URL('../src/', import.meta.url)
/**
 * From the ground up. A page has nothing but the protocol below it, in a browser as here. daemon/daemon.ts (by way of daemon/doors.ts) and client/client.ts join
 * the floors below them, and not each other; build bundles cli, usb packs what it has built.
 */
const FLOORS = [['protocol'], ['gate', 'page'], ['host'], ['doors'], ['daemon', 'client'], ['cli'], ['build'], ['usb']]
/** `from '…'`, `import '…'`, `import('…')`, `require('…')`, or the two calls with anything that is not a plain string. */
const IMPORT = /\bfrom\s*(['"])(.+?)\1|\b(?:import|require)\s*\(?\s*(['"])(.+?)\3|\b((?:import|require)\((?!\s*['"]).*)/g

const importsOf = (source: string) => [...source.matchAll(IMPORT)].map((match) => match[2] ?? match[4] ?? match[5])
const roomOf = (path: string) => path.split('/')[0].replace(/\.ts$/, '')
const floorOf = (room: string) => FLOORS.findIndex((rooms) => rooms.includes(room))

/** What is wrong with an import in a file of src, or null. */
function fault(file: string, specifier: string): string | null {
  const room = roomOf(file)
  if (floorOf(room) < 0) return `${file} is on no floor`
  if (/^(import|require)\(/.test(specifier)) return `${file} computes what it imports: ${specifier}`
  if (['protocol', 'page'].includes(room) && isBuiltin(specifier)) return `${file} imports ${specifier} from Node`
  if (!/^[./]/.test(specifier)) return null
  const target = posix.join(posix.dirname(file), specifier)
  if (['../package.json', '../dist/page.txt'].includes(target) && room === 'cli') return null
  const below = floorOf(roomOf(target)) >= 0 && floorOf(roomOf(target)) < floorOf(room)
  return below || roomOf(target) === room ? null : `${file} imports ${target}`
}

describe('the floors', () => {
  const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((file) => /\.[cm]?[jt]sx?$/.test(file))
  const imports = files.flatMap((file) => importsOf(readFileSync(new URL(file, SRC), 'utf8')).map((name) => [file, name]))

  it('are found, with their imports', () => {
    expect(imports).toContainEqual(['protocol/knock.ts', './erasure'])
  })

  it('ask for no part of Node’s when they run: the executable can’t, but by getBuiltinModule', () => {
    const asking = files.filter((file) => /\bimport\(\s*['"]node:/.test(readFileSync(new URL(file, SRC), 'utf8')))
    expect(asking).toEqual([])
  })

  it('start processes by one file, and so load what that takes no sooner', () => {
    const loading = (file: string) =>
      file.endsWith('.ts') && /^(?!import type\b).*'node:child_process'/m.test(readFileSync(new URL(file, SRC), 'utf8'))
    expect(files.filter(loading)).toEqual(['system/child-process.ts'])
  })

  it('are imported downwards only', () => {
    expect(imports.map(([file, name]) => fault(file, name)).filter(Boolean)).toEqual([])
  })
})

describe('how to bundle', () => {
  it('stands in one file, which everybody else asks', () => {
    const root = new URL('../', SRC)
    const files = ['src', 'test'].flatMap((folder) =>
      readdirSync(new URL(folder, root), { recursive: true, encoding: 'utf8' }).map((file) => `${folder}/${file}`),
    )
    const asking = files.filter(
      (file) => /\.[cm]?[jt]s$/.test(file) && /['"/]esbuild['"]/.test(readFileSync(new URL(file, root), 'utf8')),
    )
    expect(asking).toEqual(['src/build/bundle.mjs'])
    const { scripts } = JSON.parse(readFileSync(new URL('package.json', root), 'utf8'))
    expect(Object.values(scripts).join()).not.toMatch(/esbuild/)
  })
})

describe('the checker', () => {
  it.each([
    ["import { a } from './a'", './a'],
    ["import type { A } from './a'", './a'],
    ["import {\n  a,\n  b,\n} from './a'", './a'],
    ["import './a'", './a'],
    ["export { a } from './a'", './a'],
    ["export * from './a'", './a'],
    ["const a = await import('./a')", './a'],
    ["let a: import('./a').A", './a'],
    ["const a = require('./a')", './a'],
    ['import a from "./a"', './a'],
    ['await import(name)', 'import(name)'],
    ['await import(`./a`)', 'import(`./a`)'],
  ])('sees %j', (source, specifier) => {
    expect(importsOf(source)).toEqual([specifier])
  })

  it.each([
    ['protocol/knock.ts', './erasure', true],
    ['protocol/knock.ts', 'ipaddr.js', true],
    ['protocol/knock.ts', 'node:crypto', false],
    ['browser/main.ts', 'node:crypto', false],
    ['protocol/knock.ts', 'crypto', false],
    ['protocol/knock.ts', 'fs/promises', false],
    ['protocol/knock.ts', '../gate/listener', false],
    ['protocol/knock.ts', '../../package.json', false],
    ['gate/listener/listener.ts', '../protocol/knock', true],
    ['gate/listener/listener.ts', './ledger', true],
    ['gate/listener/listener.ts', '../host/config', false],
    ['gate/listener/listener.ts', '../daemon', false],
    ['browser/main.ts', '../protocol/knock', true],
    ['browser/main.ts', '../gate/listener', false],
    ['browser/main.ts', '../host/time', false],
    ['browser/file.ts', '../page/contents', true],
    ['cli/admin/page.ts', '../page/index.html', true],
    ['cli/admin/page.ts', '../../dist/page.txt', true],
    ['daemon/taps/file.ts', '../../gate/listener', true],
    ['daemon/taps/file.ts', '../config', true],
    ['daemon/taps/file.ts', 'node:fs', true],
    ['daemon/taps/file.ts', '../../client', false],
    ['daemon/taps/file.ts', '../../cli/main', false],
    ['daemon/daemon.ts', './protocol/key', true],
    ['daemon/daemon.ts', './gate/listener', true],
    ['daemon/daemon.ts', './host/config', true],
    ['daemon/daemon.ts', './client', false],
    ['client/client.ts', './daemon', false],
    ['client/client.ts', './cli/main', false],
    ['cli/main.ts', '../daemon', true],
    ['cli/main.ts', '../host/taps/file', true],
    ['cli/main.ts', './wording', true],
    ['cli/main.ts', '../../package.json', true],
    ['cli/main.ts', '../../bin/knockturn', false],
    ['cli/main.ts', '../../test/e2e/lab', false],
    ['util.ts', './protocol/key', false],
    ['daemon/config.ts', 'import(name)', false],
  ])('in %s takes %s: %s', (file, specifier, allowed) => {
    expect(fault(file, specifier) === null).toBe(allowed)
  })
})

describe('src/protocol/tsconfig.json', () => {
  const { types, lib } = JSON.parse(readFileSync(new URL('protocol/tsconfig.json', SRC), 'utf8')).compilerOptions

  it('brings in no types of Node', () => {
    expect(types).toEqual([])
  })

  it('brings in no DOM', () => {
    expect(lib.filter((name: string) => /dom|worker/i.test(name))).toEqual([])
  })
})
