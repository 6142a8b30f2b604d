import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, expect, it } from 'vitest'
import { keyText, put, scratch, secretOf } from '../system/scratch'
import { environment, type Program, programPath, run, UNPRIVILEGED } from './programs'

/** Milliseconds in which Node has opened its inspector, and said so: many times what it takes. */
const OPENED = 1_000

const children: ChildProcess[] = []
afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue
    child.kill('SIGKILL')
    await once(child, 'close')
  }
})

/** A server's folder, in which a key lies, and a pipe. */
function place() {
  const folder = scratch()
  const keys = join(folder, 'keys')
  mkdirSync(keys, { mode: 0o700 })
  const key = put(keys, 'alice.key', keyText({ secret: secretOf(1) }))
  const text =
    'server = "gate.example"\nkeys = "keys"\n[taps]\nsource = "stdin"\n[firewall]\nbackend = "dry-run"\n[ledger]\npath = "ledger"\n'
  const pipe = join(folder, 'pipe')
  spawnSync('mkfifo', [pipe])
  return { keys, key, pipe, config: put(folder, 'knockturn.toml', text, 0o644) }
}

it.each<[Program, string, (at: ReturnType<typeof place>) => string[]]>([
  ['knockclient', 'sent ', ({ key }) => ['exec', 'h', '-r', '127.0.0.1', '-k', key, '-p', '9', '--force', '-v', '--', 'true']],
  [
    'knockturn',
    'Scan this',
    ({ keys, config }) => ['key', 'passcode', 'alice', '--keys', keys, '--config', config, '--print-secret'],
  ],
  ['knockdaemon', '"ready"', ({ config }) => ['--config', config, '--new-ledger']],
])('no signal opens an inspector into %s', async (program, word, args) => {
  const at = place()
  const [command, ...words] = [...UNPRIVILEGED, process.execPath, programPath(program), ...args(at)]
  // A pipe that never says anything: we write to it, too.
  const input = openSync(at.pipe, 'r+')
  const child = spawn(command, words, { env: environment(), stdio: [input, 'ignore', 'pipe'] })
  children.push(child)
  closeSync(input)
  let said = ''
  await new Promise<void>((runs) => {
    child.on('close', () => runs())
    child.stderr?.setEncoding('utf8').on('data', (text) => {
      said += text
      if (said.includes(word)) runs()
    })
  })
  child.kill('SIGUSR1')
  await sleep(OPENED)
  expect(said).not.toMatch(/debugger|inspector/i)
  expect([said.includes(word), child.exitCode, child.signalCode]).toEqual([true, null, null])
})

it.each<Program>(['knockclient', 'knockturn', 'knockdaemon'])('nor does one while %s is being loaded', async (program) => {
  // In front of the first line of the program itself.
  const early = put(
    scratch(),
    'early.cjs',
    `const vm = require('node:vm')
    const { Script } = vm
    vm.Script = class extends Script {
      constructor(...all) {
        process.kill(process.pid, 'SIGUSR1')
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ${OPENED})
        super(...all)
        console.error('loaded')
      }
    }`,
  )
  const { stderr } = await run(program, ['--version'], { env: { NODE_OPTIONS: `--require ${early}` } })
  expect(stderr).toBe('loaded\n')
})
