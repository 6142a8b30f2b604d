import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { BY_CONFIG, TRIED } from '../../../src/admin/doctor/doctor'
import { plain, section } from '../../man'

/* The names of checks are for programs, too: the page of knockturn has each of them. */

const ROOT = join(import.meta.dirname, '../../..')
const FILES = [
  ...['src/daemon/check.ts', 'src/daemon/rehearsal.ts', 'src/daemon/checks/ledger.ts'],
  ...readdirSync(join(ROOT, 'src/admin/doctor'))
    .filter((name) => name.endsWith('.ts'))
    .map((name) => `src/admin/doctor/${name}`),
]
const NAMES = new Set(
  FILES.flatMap((file) =>
    [...readFileSync(join(ROOT, file), 'utf8').matchAll(/(?:new Finding\(|\b(?:NAME|name) ?[=:] )'([a-z -]+)'/g)].map(
      ([, name]) => name,
    ),
  ),
)

it('are many', () => {
  expect(NAMES.size).toBeGreaterThanOrEqual(26)
})

it.each([...NAMES])('the page explains the check "%s"', (name) => {
  const page = section(readFileSync(join(ROOT, 'docs/man/knockturn.1'), 'utf8'), 'COMMANDS')
  const tags = [...page.matchAll(/^\.TP\n\.BR? (.*)$/gm)].map(([, tag]) => plain(`.BR ${tag}`).replace(/"/g, ''))
  expect(tags.some((tag) => tag.split(',').some((one) => one.trim() === name))).toBe(true)
})

it('what is not checked is called as what is', () => {
  expect([...BY_CONFIG, ...TRIED].filter((name) => !NAMES.has(name))).toEqual([])
})
