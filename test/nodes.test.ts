import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { engines } from '../package.json'
import { VERSIONS } from './nodes.mjs'

describe('of the Nodes that the tests run the programs by', () => {
  it('the least is the least that package.json allows', () => {
    expect(`>=${VERSIONS[0]}`).toBe(`${engines.node}.0`)
  })

  it.each(['README.md', 'docs/operating.md'])('each is named as supported in %s', (page) => {
    const names = VERSIONS.map((version) => (version === VERSIONS[0] ? '20.19' : version.split('.')[0]))
    const text = readFileSync(new URL(`../${page}`, import.meta.url), 'utf8')
    expect(text).toContain(`${names.slice(0, -1).join(', ')} or ${names.at(-1)}`)
  })
})
