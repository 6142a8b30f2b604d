import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { keyText, put, scratch, secretOf } from '../system/scratch'
import { environment, type Program, programPath } from './programs'

/**
 * Looks over a program's shoulder: says on file descriptor 3 what the limit of core dumps is when a key is opened, and which programs
 * are started.
 */
const WITNESS = `
const fs = require('node:fs')
const tell = (text) => fs.writeSync(3, text + '\\n')
const limit = () => /^Max core file size +(\\S+)/m.exec(fs.readFileSync('/proc/self/limits', 'latin1'))[1]
for (const [module, names] of [[fs, ['open', 'openSync', 'readFile', 'readFileSync']], [fs.promises, ['open', 'readFile']]])
  for (const name of names) {
    const real = module[name]
    module[name] = function (path, ...rest) {
      if (String(path).endsWith('.key')) tell('key ' + limit())
      return real.call(this, path, ...rest)
    }
  }
const children = require('node:child_process')
for (const name of ['spawn', 'spawnSync', 'execFile', 'execFileSync']) {
  const real = children[name]
  children[name] = function (command, ...rest) {
    tell('start ' + command)
    return real.call(this, command, ...rest)
  }
}`

/** Runs a program where core dumps are allowed up to a size; gives what the witness said. */
async function witnessed(size: string, program: Program, ...args: string[]): Promise<string[]> {
  const witness = put(scratch(), 'witness.cjs', WITNESS)
  const child = spawn(
    'sh',
    ['-c', `ulimit -S -c ${size}; exec "$@"`, 'sh', process.execPath, '--require', witness, programPath(program), ...args],
    { env: environment(), stdio: ['ignore', 'ignore', 'ignore', 'pipe'] },
  )
  let said = ''
  child.stdio[3]?.on('data', (text) => {
    said += text
  })
  await once(child, 'close')
  return said.trim().split('\n')
}

/** A server's folder, in which a key lies. */
function place() {
  const folder = scratch()
  const keys = join(folder, 'keys')
  mkdirSync(keys, { mode: 0o700 })
  const key = put(keys, 'alice.key', keyText({ secret: secretOf(1) }))
  const config = put(
    folder,
    'knockturn.toml',
    'server = "gate.example"\nkeys = "keys"\n[taps]\nsource = "stdin"\n[firewall]\nbackend = "dry-run"\n[ledger]\npath = "ledger"\n',
  )
  return { keys, key, config }
}

it('knockclient allows none before it asks for a passcode', async () => {
  expect(await witnessed('unlimited', 'knockclient', '--passcode', '--dry-run')).toContain('start prlimit')
})

describe.each<[Program, (at: ReturnType<typeof place>) => string[]]>([
  ['knockclient', ({ key }) => ['-k', key, '-p', '22', '--dry-run']],
  ['knockturn', ({ keys }) => ['key', 'list', '--keys', keys]],
  ['knockdaemon', ({ config }) => ['--config', config, '--check']],
])('%s', (program, args) => {
  const keysOf = (said: string[]) => said.filter((line) => line.startsWith('key '))

  it('allows no core dump before it opens a key', async () => {
    const keys = keysOf(await witnessed('unlimited', program, ...args(place())))
    expect(keys.length).toBeGreaterThan(0)
    expect(new Set(keys)).toEqual(new Set(['key 1']))
  })

  it('starts no program for that where none is made anyway', async () => {
    // A program that collects dumps gets them with a limit of 0, too.
    const isPiped = readFileSync('/proc/sys/kernel/core_pattern', 'latin1').startsWith('|')
    const said = await witnessed('0', program, ...args(place()))
    expect(keysOf(said).length).toBeGreaterThan(0)
    expect(said.filter((line) => line.startsWith('start'))).toEqual(isPiped ? ['start prlimit'] : [])
  })
})
