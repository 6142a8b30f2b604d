import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { scratch } from '../system/scratch'
import { run } from './programs'

/** Has Node warn, in its own form and at the last moment, as a newer one does of a timer of less than 0. */
const warner = join(scratch(), 'warn.cjs')
writeFileSync(warner, "process.on('exit', () => process.emit('warning', new Error('a warning for developers')))")

it('is one that Node prints where nobody keeps it from that', async () => {
  const { stderr } = await run({ path: '--eval' }, ['0'], { env: { NODE_OPTIONS: `--require=${warner}` } })
  expect(stderr).toContain('a warning for developers')
})

it.each(['knockturn', 'knockclient', 'knockdaemon'] as const)('never reaches a user of %s', async (program) => {
  const { code, stderr } = await run(program, ['--version'], { env: { NODE_OPTIONS: `--require=${warner}` } })
  expect([code, stderr]).toEqual([0, ''])
})
