import { describe, expect, it } from 'vitest'
import { holds, KINDS } from '../replay/attack'
import { showers } from '../replay/floods.mjs'
import { hosts } from '../replay/hosts.mjs'

const scale = { isLong: false, times: (full: number) => full }
const attacks = [...hosts, ...showers]

describe.each(KINDS)('%s, by real packets:', (kind) => {
  it.each(attacks.flatMap(({ name, run, ...attack }) => (attack.kind === kind ? [[name, run] as const] : [])))(
    '%s: opens nothing',
    async (_, run) => {
      const outcome = await run(scale)
      expect(outcome.tried).toBeGreaterThan(0)
      expect(outcome).toSatisfy(holds)
    },
  )
})
