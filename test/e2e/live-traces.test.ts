import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Child } from '../lab/processes'
import { until } from '../lab/waiters'
import { liveChecks, traces } from './live'
import { useGate } from './use-gate'

/* Of what the doctor makes to try a machine nothing is left, whatever becomes of it. */

const { server, gate } = useGate([], { serve: [22], keyOptions: ['--services', '22/tcp,5353/udp'] })
let before: string[] = []

beforeAll(async () => {
  // esbuild, which bundles the checks, and whatever comes up late with the daemon.
  await server.run(liveChecks(gate, 'strangers'))
  before = await traces(server)
})
const PATIENCE = 5_000
afterEach(async () => {
  await until(async () => (await traces(server)).join('\n') === before.join('\n'), 'nothing is left', PATIENCE).catch(
    async () => {
      expect(await traces(server)).toEqual(before)
    },
  )
})

const interfaces = async () => (await server.must(['ip', '-o', 'link'])).split('\n').length
/** How far the checks have come, as is seen from outside. */
const REACHED: Record<string, (usual: number) => Promise<boolean>> = {
  'there is a place': async () => (await traces(server)).some((line) => line.startsWith('unshare --net')),
  'a cable is plugged in': async (usual) => (await interfaces()) > usual,
  'a client knocks': async () => (await traces(server)).some((line) => line.includes('knockclient')),
}

describe.each(['strangers', 'self-knock'] as const)('of the checks %s', (which) => {
  const stages = Object.keys(REACHED).filter(
    (name) => name !== (which === 'strangers' ? 'a client knocks' : 'a cable is plugged in'),
  )
  const begin = async (stage: string): Promise<Child> => {
    const usual = await interfaces()
    const child = server.start(liveChecks(gate, which))
    await until(() => REACHED[stage]?.(usual) ?? false, stage)
    return child
  }

  it('nothing is left at their end', async () => {
    expect((await server.run(liveChecks(gate, which), { timeoutMs: 120_000 })).code).toBe(0)
  })

  it.each(stages.flatMap((stage) => (['SIGKILL', 'SIGINT', 'SIGTERM'] as const).map((signal) => [signal, stage] as const)))(
    'nothing is left at %s when %s',
    async (signal, stage) => {
      // On a busy machine they may have ended before they are killed: that is no attempt.
      for (let left = 5; left > 0; left--) {
        const child = await begin(stage)
        child.child.kill(signal)
        const ended = await child.exited
        if (ended.code !== 0) return expect(ended).toEqual({ code: null, signal })
      }
      throw new Error('they always end before they are killed')
    },
  )
})
