import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { holds, KINDS } from './attack'
import { catalogue } from './catalogue'
import { floods } from './floods.mjs'
import { hosts } from './hosts.mjs'

const scale = { isLong: false, times: (full: number) => full }

/** Floods are real ones, in namespaces. */
const kinds = KINDS.filter((kind) => catalogue.some((attack) => attack.kind === kind))

describe.each(kinds)('%s:', (kind) => {
  it.each(catalogue.filter((attack) => attack.kind === kind).map(({ name, run }) => [name, run] as const))(
    '%s opens nothing',
    async (_, run) => {
      const outcome = await run(scale)
      expect(outcome.tried).toBeGreaterThan(0)
      expect(outcome).toSatisfy(holds)
    },
    120_000,
  )
})

it('has a name of its own for each attack', () => {
  const names = catalogue.map(({ name }) => name)
  expect(new Set(names).size).toBe(names.length)
})

describe('docs/threat-model.md', () => {
  const page = readFileSync(new URL('../../docs/threat-model.md', import.meta.url), 'utf8').replace(/\n/g, ' ')

  it('names no attack that there is not', () => {
    const names = new Set([...catalogue, ...hosts, ...floods].map(({ name }) => name))
    const named = [...page.matchAll(/“([^”]*)”/g)].map(([, name]) => name)
    expect(named.filter((name) => !names.has(name))).toEqual([])
  })

  it('links a claim to each kind of attack', () => {
    const linked = new Set([...page.matchAll(/--only (\w+)/g)].map(([, kind]) => kind))
    expect([...linked].sort()).toEqual([...KINDS].sort())
  })
})
