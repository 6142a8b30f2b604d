import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { ROOT } from '../root'

const BENCH = [join(ROOT, 'test/run.mjs'), join(ROOT, 'test/bench/bench.ts')]

/** A short run of groups, outside the namespaces without which there is no lab. */
function run(groups: string) {
  const { KNOCKTURN_NAMESPACE: _, ...env } = process.env
  return spawnSync(process.execPath, [...BENCH, '--short', '--json', '--only', groups], { env, encoding: 'utf8' })
}

it('ends with 1 and a line with the reason, if a group fails', () => {
  const { status, stderr } = run('rule')
  expect(status).toBe(1)
  expect(stderr).toMatch(/^rule: \S+ s\nbench: error: rule failed: the lab works in namespaces of its own: .*\n$/)
})

it('goes on with the other groups, if one fails', () => {
  const { rows } = JSON.parse(run('knock,rule').stdout)
  expect(rows).toContainEqual(expect.objectContaining({ what: 'codebook', value: expect.any(Number) }))
  expect(rows).toContainEqual({ what: 'rule', value: null, unit: '', note: 'failed' })
})

it('refuses a group that it does not have', () => {
  const { status, stderr } = run('taps,tpas')
  expect(status).toBe(2)
  expect(stderr).toMatch(/^no group tpas \(there are: taps,.*\)\n$/)
})
