import { readdirSync, readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { type Attack, KINDS } from './attack'
import { catalogue } from './catalogue'
import { floods, showers } from './floods'
import { hosts } from './hosts'

/** Those on real hosts, too. */
const all = [...catalogue, ...hosts, ...floods]

it('has a name of its own for each attack', () => {
  expect(new Set(all.map(({ name }) => name)).size).toBe(all.length)
})

it('has attacks of each kind on the real daemon', () => {
  expect(new Set([...hosts, ...floods].map(({ kind }) => kind))).toEqual(new Set(KINDS))
})

it.each<[string, string, readonly Attack[]]>([
  ['in this process', './attacks/', catalogue],
  ['by real packets', '../e2e/attacks/', [...hosts, ...showers]],
])('has a file of tests for each kind that is tried %s', (_, folder, attacks) => {
  const files = readdirSync(new URL(folder, import.meta.url)).filter((file) => file.endsWith('.test.ts'))
  expect(new Set(files)).toEqual(new Set(attacks.map(({ kind }) => `${kind}.test.ts`)))
})

describe('docs/threat-model.md', () => {
  const page = readFileSync(new URL('../../docs/threat-model.md', import.meta.url), 'utf8').replace(/\n/g, ' ')

  it('names no attack that there is not', () => {
    const names = new Set(all.map(({ name }) => name))
    const named = [...page.matchAll(/“([^”]*)”/g)].map(([, name]) => name)
    expect(named.filter((name) => !names.has(name))).toEqual([])
  })

  it('names each attack behind the kind that runs it', () => {
    const kinds = new Map<string, string>(all.map(({ name, kind }) => [name, kind]))
    // A list goes on to the next kind, or to the asterisk at its end.
    const lists = [...page.matchAll(/--only (\w+)((?:(?!--only)[^*])*)/g)]
    const named = lists.flatMap(([, kind, list]) => [...list.matchAll(/“([^”]*)”/g)].map(([, name]) => ({ kind, name })))
    expect(named.filter(({ kind, name }) => kinds.get(name) !== kind)).toEqual([])
  })

  it('says of each claim what tests it', () => {
    const [given] = page.split('## What it does not give')
    const claims = given.split('### ').slice(1)
    expect(claims.filter((claim) => !/\*(Tests|Attacks)/.test(claim))).toEqual([])
  })

  it('links a claim to each kind of attack', () => {
    const linked = new Set([...page.matchAll(/--only (\w+)/g)].map(([, kind]) => kind))
    expect([...linked].sort()).toEqual([...KINDS].sort())
  })
})
