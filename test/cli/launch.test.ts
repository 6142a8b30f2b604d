import { spawnSync } from 'node:child_process'
import { copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import { put, scratch } from '../system/scratch'
import { environment, type Program, programPath } from './programs'

/* How bin/launch.cjs starts a built program by what V8 compiled of it when it was built. */

/** Has a start say what has become of the cache. */
const TELL = `
  const vm = require('vm')
  vm.Script = class extends vm.Script {
    constructor(text, options) {
      super(text, options)
      const said = options.cachedData === undefined ? 'none' : this.cachedDataRejected ? 'turned down' : 'taken'
      require('fs').writeSync(2, 'cache: ' + said + '\\n')
    }
  }`
const tell = put(scratch(), 'tell.cjs', TELL)

interface Start {
  node?: string
  flags?: string[]
  args?: string[]
}

/** Runs a program. @returns its output, and behind that what has become of the cache */
function start(path: string, { node = process.execPath, flags = [], args = [] }: Start = {}) {
  const { status, stdout, stderr } = spawnSync(node, [...flags, '--require', tell, path, ...args], {
    encoding: 'utf8',
    env: environment(),
  })
  return [status, stdout, stderr]
}

describe.each<Program>(['knockturn', 'knockclient', 'knockdaemon'])('%s', (program) => {
  it('is started by a cache that is made of it', () => {
    const folder = scratch()
    const [bin, dist] = ['bin', 'dist'].map((name) => join(folder, name)) as [string, string]
    cpSync(dirname(programPath(program)), bin, { recursive: true })
    mkdirSync(dist)
    copyFileSync(join(dirname(programPath(program)), '..', 'dist', `${program}.cjs`), join(dist, `${program}.cjs`))
    spawnSync(process.execPath, [join(bin, 'launch.cjs'), program, '--version'], { env: environment() })
    const args = ['--version']
    expect(start(join(bin, program), { args })).toEqual([0, expect.stringMatching(/^knock\w+ \d/), 'cache: taken\n'])
  })
})

describe('a program', () => {
  let folder: string
  let program: string
  let bundle: string
  let cache: string

  /** Builds a program that says a word. */
  const build = (word: string) => writeFileSync(bundle, `"use strict";function say(){console.log("${word}")}say();`)

  beforeEach(() => {
    folder = scratch()
    program = join(folder, 'bin', 'knockclient')
    bundle = join(folder, 'dist', 'knockclient.cjs')
    cache = `${bundle}.cache`
    cpSync(dirname(programPath('knockclient')), join(folder, 'bin'), { recursive: true })
    mkdirSync(dirname(bundle))
    build('one')
    spawnSync(process.execPath, [join(folder, 'bin', 'launch.cjs'), 'knockclient'], { env: environment() })
  })

  it('is started by the cache that was made of it', () => {
    expect(start(program)).toEqual([0, 'one\n', 'cache: taken\n'])
  })

  it('is started without one', () => {
    rmSync(cache)
    expect(start(program)).toEqual([0, 'one\n', 'cache: none\n'])
  })

  it('is started without the cache of another build, though that is as long', () => {
    build('two')
    expect(start(program)).toEqual([0, 'two\n', 'cache: none\n'])
  })

  it('is started without what another Node has made, though its V8 takes it for its own', () => {
    // The same one, by another time of its making.
    const other = join(folder, 'node')
    copyFileSync(process.execPath, other)
    expect(start(program, { node: other })).toEqual([0, 'one\n', 'cache: none\n'])
  })

  it('is started without what V8 has made with other flags', () => {
    expect(start(program, { flags: ['--no-lazy'] })).toEqual([0, 'one\n', 'cache: turned down\n'])
  })

  it.each([
    ['version', 'v20.99.0'],
    ['arch', 'mips'],
  ])('is started without the cache of a Node of another %s, though its V8 may be the same', (property, value) => {
    const other = put(scratch(), 'other.cjs', `Object.defineProperty(process, '${property}', { value: '${value}' })`)
    expect(start(program, { flags: ['--require', other] })).toEqual([0, 'one\n', 'cache: none\n'])
  })

  it.each<[string, (bytes: Buffer) => Uint8Array]>([
    ['has lost its end', (bytes) => bytes.subarray(0, bytes.length / 2)],
    ['is empty', () => new Uint8Array(0)],
    ['has another bit in its beginning', (bytes) => bytes.map((byte, i) => (i === 40 ? byte ^ 1 : byte))],
    ['has another bit in its middle', (bytes) => bytes.map((byte, i) => (i === bytes.length >> 1 ? byte ^ 1 : byte))],
    ['has another bit in its digest', (bytes) => bytes.map((byte, i) => (i === 0 ? byte ^ 1 : byte))],
  ])('is started without a cache that %s', (_, damage) => {
    writeFileSync(cache, damage(readFileSync(cache)))
    expect(start(program)).toEqual([0, 'one\n', 'cache: none\n'])
  })

  it('writes nothing when it is run', () => {
    rmSync(cache)
    start(program)
    expect(readdirSync(dirname(bundle))).toEqual(['knockclient.cjs'])
  })
})
