import { readdirSync, readFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { posix } from 'node:path'
import { describe, expect, it } from 'vitest'

const SRC = new URL('../src/', import.meta.url)
/** Which rooms each room may take from, besides its own: the whole picture of docs/architecture.md. Bare modules of Node's are none of browsers'. */
const ROOMS: Readonly<Record<string, readonly string[]>> = {
  protocol: [],
  system: ['protocol'],
  gate: ['protocol'],
  browser: ['protocol'],
  keys: ['protocol', 'system', 'gate'],
  daemon: ['protocol', 'system', 'gate', 'keys'],
  client: ['protocol', 'system', 'keys'],
  admin: ['protocol', 'system', 'gate', 'keys', 'daemon'],
  cli: ['protocol', 'system', 'gate', 'keys', 'daemon', 'client', 'browser', 'admin'],
  build: [],
  usb: [],
}
/** Rooms that import nothing of Node's: they run in a browser, too, or decide, and do no I/O. */
const PURE = ['protocol', 'browser', 'gate']
/** `from '…'`, `import '…'`, `import('…')`, `require('…')`, or the two calls with anything that is not a plain string. */
const IMPORT = /\bfrom\s*(['"])(.+?)\1|\b(?:import|require)\s*\(?\s*(['"])(.+?)\3|\b((?:import|require)\((?!\s*['"]).*)/g

const importsOf = (source: string) => [...source.matchAll(IMPORT)].map((match) => match[2] ?? match[4] ?? match[5])
const roomOf = (path: string) => path.split('/')[0]

/** What is wrong with an import in a file of src, or null. */
function fault(file: string, specifier: string): string | null {
  const room = roomOf(file)
  if (!Object.hasOwn(ROOMS, room) || !file.includes('/')) return `${file} is in no room`
  if (/^(import|require)\(/.test(specifier)) return `${file} computes what it imports: ${specifier}`
  if (PURE.includes(room) && isBuiltin(specifier)) return `${file} imports ${specifier} from Node`
  if (!/^[./]/.test(specifier)) return null
  const target = posix.join(posix.dirname(file), specifier)
  if ((['../package.json', '../dist/page.txt'].includes(target) || target.startsWith('../docs/systemd/')) && room === 'cli')
    return null
  return roomOf(target) === room || ROOMS[room].includes(roomOf(target)) ? null : `${file} imports ${target}`
}

/**
 * The files that import each other in a circle, if any do.
 * @param imports file → the files that it takes from
 */
function circle(imports: ReadonlyMap<string, readonly string[]>): readonly string[] | null {
  const done = new Set<string>()
  const walk = (file: string, path: readonly string[]): readonly string[] | null => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file]
    if (done.has(file)) return null
    const found = (imports.get(file) ?? []).reduce<readonly string[] | null>(
      (known, next) => known ?? walk(next, [...path, file]),
      null,
    )
    done.add(file)
    return found
  }
  return [...imports.keys()].reduce<readonly string[] | null>((known, file) => known ?? walk(file, []), null)
}

describe('the rooms', () => {
  const files = readdirSync(SRC, { recursive: true, encoding: 'utf8' }).filter((file) => /\.[cm]?[jt]sx?$/.test(file))
  const imports = files.flatMap((file) => importsOf(readFileSync(new URL(file, SRC), 'utf8')).map((name) => [file, name]))

  it('are found, with their imports', () => {
    expect(imports).toContainEqual(['protocol/knock.ts', './erasure'])
  })

  it('ask for no part of Node’s when they run: the executable can’t, but by getBuiltinModule', () => {
    const asking = files.filter((file) => /\bimport\(\s*['"]node:/.test(readFileSync(new URL(file, SRC), 'utf8')))
    expect(asking).toEqual([])
  })

  it('are those of docs/architecture.md', () => {
    const page = readFileSync(new URL('../docs/architecture.md', SRC), 'utf8')
    const rows = [...page.matchAll(/^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$/gm)]
    const rooms = rows.map(([, room, from]) => [room, from === 'nobody' ? [] : from.replace(/ \(.*?\)/g, '').split(', ')])
    const all = Object.keys(ROOMS).filter((room) => !['cli', 'build', 'usb'].includes(room))
    const picture = Object.entries(ROOMS).map(([room, from]) => [room, from.length === all.length ? ['all of these'] : from])
    expect(Object.fromEntries(rooms)).toEqual(Object.fromEntries(picture))
  })

  it('decide without a clock of their own', () => {
    const clocks = /\b(Date\.now|performance\.now|new Date\(\)|Math\.random|setTimeout|setInterval)\b/
    const code = (file: string) => readFileSync(new URL(file, SRC), 'utf8').replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, '')
    const decisions = files.filter((file) => file.startsWith('gate/'))
    expect(decisions.length).toBeGreaterThan(20)
    expect(decisions.filter((file) => clocks.test(code(file)))).toEqual([])
  })

  it('start processes by one file, and so load what that takes no sooner', () => {
    const loading = (file: string) =>
      file.endsWith('.ts') && /^(?!import type\b).*'node:child_process'/m.test(readFileSync(new URL(file, SRC), 'utf8'))
    // The agent is the text of another program: it loads nothing in ours.
    expect(files.filter(loading).sort()).toEqual(['admin/doctor/place/agent.ts', 'system/child-process.ts'])
  })

  it('load nothing of a fleet where a server is alone, but how its config is read', () => {
    const loads = (file: string) =>
      [...readFileSync(new URL(file, SRC), 'utf8').matchAll(/^(?:im|ex)port (?!type\b)(?:[^'"]*? from )?'(\.[^']+)'/gm)].flatMap(
        ([, name]) => files.find((known) => known === `${posix.join(posix.dirname(file), name)}.ts`) ?? [],
      )
    const loaded = new Set(['cli/knockdaemon.ts', 'daemon/serve.ts'])
    for (const file of loaded) for (const next of loads(file)) loaded.add(next)
    expect([loaded.size > 100, loaded.has('daemon/daemon.ts')]).toEqual([true, true])
    expect([...loaded].filter((file) => file.startsWith('daemon/fleet/'))).toEqual(['daemon/fleet/config.ts'])
  })

  it('are imported as the picture has it', () => {
    expect(imports.map(([file, name]) => fault(file, name)).filter(Boolean)).toEqual([])
  })

  it('have no files that import each other in a circle', () => {
    const near = imports
      .filter(([, name]) => name.startsWith('.'))
      .map(([file, name]) => [file, posix.join(posix.dirname(file), name)])
    const named = (path: string) => [path, `${path}.ts`].find((name) => files.includes(name))
    const from = (file: string) => near.flatMap(([importer, path]) => (importer === file ? (named(path) ?? []) : []))
    expect(circle(new Map(files.map((file) => [file, from(file)])))).toBeNull()
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
    ['protocol/knock.ts', '../gate/policy', false],
    ['protocol/knock.ts', '../system/time', false],
    ['protocol/knock.ts', '../../package.json', false],
    ['system/time.ts', '../protocol/request', true],
    ['system/time.ts', '../keys/keyring', false],
    ['gate/listener/listener.ts', '../../protocol/knock', true],
    ['gate/listener/listener.ts', 'node:timers', false],
    ['gate/listener/listener.ts', '@noble/hashes/utils.js', true],
    ['gate/listener/listener.ts', '../ledger', true],
    ['gate/listener/listener.ts', '../../system/fault', false],
    ['gate/listener/listener.ts', '../../daemon/daemon', false],
    ['browser/main.ts', '../protocol/knock', true],
    ['browser/main.ts', '../gate/listener/listener', false],
    ['browser/main.ts', '../system/time', false],
    ['keys/keyring.ts', '../gate/policy', true],
    ['keys/keyring.ts', '../daemon/config', false],
    ['keys/keyring.ts', '../client/profiles', false],
    ['daemon/taps/file.ts', '../../gate/tap', true],
    ['daemon/taps/file.ts', '../config', true],
    ['daemon/taps/file.ts', 'node:fs', true],
    ['daemon/taps/file.ts', '../../client/client', false],
    ['daemon/taps/file.ts', '../../cli/main', false],
    ['daemon/daemon.ts', '../admin/exposure', false],
    ['client/client.ts', '../keys/sealed-key', true],
    ['client/client.ts', '../gate/policy', false],
    ['client/client.ts', '../daemon/daemon', false],
    ['client/client.ts', '../browser/contents', false],
    ['admin/exposure.ts', '../daemon/config', true],
    ['admin/exposure.ts', '../client/profiles', false],
    ['admin/exposure.ts', '../cli/voice', false],
    ['cli/main.ts', '../daemon/daemon', true],
    ['cli/main.ts', './wording', true],
    ['cli/main.ts', '../../package.json', true],
    ['cli/main.ts', '../../bin/knockturn', false],
    ['cli/main.ts', '../../test/e2e/lab', false],
    ['cli/admin/page.ts', '../../browser/index.html', true],
    ['cli/admin/page.ts', '../../../dist/page.txt', true],
    ['usb/build.mjs', '../build/bundle.mjs', false],
    ['usb/build.mjs', '../cli/knockclient', false],
    ['util.ts', './protocol/key', false],
    ['util/key.ts', '../protocol/key', false],
    ['daemon/config.ts', 'import(name)', false],
  ])('in %s takes %s: %s', (file, specifier, allowed) => {
    expect(fault(file, specifier) === null).toBe(allowed)
  })

  it.each([
    [{ a: ['b'], b: ['c'], c: [] }, null],
    [{ a: ['a'] }, ['a', 'a']],
    [{ a: ['b', 'c'], b: ['c'], c: ['b'] }, ['b', 'c', 'b']],
  ])('finds the circle of %j: %j', (imports, expected) => {
    expect(circle(new Map(Object.entries(imports)))).toEqual(expected)
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
