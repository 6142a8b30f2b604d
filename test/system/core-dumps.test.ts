import * as child from 'node:child_process'
import * as fs from 'node:fs'
import { beforeEach, expect, it, vi } from 'vitest'
import { forbidCoreDumps } from '../../src/system/core-dumps'

vi.mock('node:child_process', { spy: true })
vi.mock('node:fs', { spy: true })

const LIMITS = `Limit                     Soft Limit           Hard Limit           Units
Max stack size            8388608              unlimited            bytes
Max core file size        SOFT                 unlimited            bytes
Max resident set          unlimited            unlimited            bytes
`
const ENDED = { pid: 1, output: [], stdout: '', stderr: '', status: 0, signal: null }
const prlimit = vi.mocked(child.spawnSync)
const limits = vi.mocked(fs.readFileSync)
beforeEach(() => {
  vi.resetAllMocks()
  limits.mockReturnValue(LIMITS.replace('SOFT', 'unlimited'))
})

function warnings(): string[] {
  const said: string[] = []
  forbidCoreDumps((message) => said.push(message))
  return said
}

/** What /proc says of the limit and of what becomes of dumps. */
const proc = (soft: string, pattern = 'core') =>
  limits.mockImplementation((path) => (String(path).endsWith('core_pattern') ? `${pattern}\n` : LIMITS.replace('SOFT', soft)))

it.each([
  ['unlimited', 'core'],
  ['4096', 'core'],
  ['0', '|/usr/lib/systemd/systemd-coredump %P'],
])('a limit of %s, where dumps become %s, is set to 1', (soft, pattern) => {
  proc(soft, pattern)
  prlimit.mockReturnValue(ENDED)
  expect(warnings()).toEqual([])
  expect(prlimit.mock.calls.map(([command, args]) => [command, args])).toEqual([
    ['prlimit', ['--pid', String(process.pid), '--core=1:1']],
  ])
})

it.each([
  ['0', 'core'],
  ['1', 'core'],
  ['1', '|/usr/share/apport/apport %p'],
])('a limit of %s is left as it is where dumps become %s', (soft, pattern) => {
  proc(soft, pattern)
  expect([warnings(), prlimit.mock.calls]).toEqual([[], []])
})

it('a system without /proc is left as it is', () => {
  limits.mockImplementation(() => {
    throw new Error('ENOENT')
  })
  expect([warnings(), prlimit.mock.calls]).toEqual([[], []])
})

it.each([
  [
    'missing',
    { ...ENDED, status: null, error: Object.assign(new Error('spawnSync prlimit ENOENT'), { code: 'ENOENT' }) },
    'prlimit is not installed: install it (Debian: apt-get install util-linux)',
  ],
  [
    'refused',
    { ...ENDED, status: 1, stderr: 'prlimit: failed to set the CORE limit\n' },
    'prlimit: failed to set the CORE limit',
  ],
  ['killed', { ...ENDED, status: null, signal: 'SIGKILL' as const }, 'prlimit failed'],
])('a prlimit that is %s is told', (_, ended, why) => {
  prlimit.mockReturnValue(ended)
  expect(warnings()).toEqual([`a crash may leave the keys in a core dump: ${why}`])
})
