import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { compose, knock, knocked, verdict } from '../lab/knocks'
import { until } from '../lab/waiters'
import { useGate } from './use-gate'

const SSH = 22
const PERIOD = 30
const SHORT_PERIOD = 10
/** Far knocks are told apart when their taps are over, 10 s after the last. */
const FAR_LIMIT = 20_000

const { server, client, stranger, gate } = useGate(['client', 'stranger'], { serve: [SSH] })
let short: string
let lost: string

beforeAll(async () => {
  short = await gate.newKey('short', '--period', String(SHORT_PERIOD))
  // Nobody else knocks with it: what another knock has put below the floor is forgotten, and no clock is named for it.
  lost = await gate.newKey('lost')
  await gate.daemon.line(logged('reloaded', { keys: 3 }))
})
beforeEach(() => client.moveOn())

const place = (period: number) => (Date.now() / 1000) % period
const windowNow = (period: number) => Math.floor(Date.now() / 1000 / period)
const sees = async (host: Host) => (await host.connect(server.ipv4, SSH)).saw

/** Seconds to the middle of the window that is `away` from this one, where there is time left in this one to use them. */
async function middleOf(away: number, period = PERIOD): Promise<string> {
  await until(() => place(period) < period - Math.max(4, period / 4), 'time in this window')
  return String(Math.round((away + 0.5) * period - place(period)))
}

describe('a knock of window', () => {
  it.each([-1, 0, 1])('%i is accepted', async (away) => {
    const offset = await middleOf(away)
    const now = windowNow(PERIOD)
    const { window } = await compose(client, gate.key, '-p', String(SSH), '--time-offset', offset)
    expect(window - now).toBe(away)
    const said = await knocked(client, gate.daemon, gate.key, '-p', String(SSH), '--time-offset', offset)
    expect([said.msg, await sees(client)]).toEqual(['accepted', 'open'])
  })

  it.each([
    [-2, 'stale', /^the sender's clock is \d+ s behind$/],
    [2, 'future', /^the sender's clock is \d+ s ahead$/],
  ] as const)('%i is refused as %s, and the log says how wrong the clock is', async (away, refusal, clock) => {
    const offset = await middleOf(away)
    const send = () => client.must(knock({ key: lost }, '--passes', '1', '-p', String(SSH), '--time-offset', offset))
    const said = await verdict(gate.daemon, send, FAR_LIMIT)
    expect(said).toMatchObject({ msg: 'refused', refusal, source: client.ipv4, key: 'lost' })
    expect(said.clock).toMatch(clock)
    expect(await sees(client)).toBe('silence')
  })
})

describe('a future knock that was heard', () => {
  it('opens nothing when its window has come, from anywhere', async () => {
    const offset = await middleOf(2, SHORT_PERIOD)
    const { touches, window } = await compose(client, short, '-p', String(SSH), '--time-offset', offset)
    expect(window - windowNow(SHORT_PERIOD)).toBe(2)
    const first = await verdict(gate.daemon, () => client.replay(touches, server.ipv4), FAR_LIMIT)
    expect(first).toMatchObject({ refusal: 'future', source: client.ipv4 })

    await until(() => windowNow(SHORT_PERIOD) >= window, 'its window', 2 * SHORT_PERIOD * 1000)
    const second = await verdict(gate.daemon, () => stranger.replay(touches, server.ipv4))
    expect(second).toMatchObject({ refusal: 'replayed', source: stranger.ipv4 })
    await client.replay(touches, server.ipv4)
    expect([await sees(client), await sees(stranger)]).toEqual(['silence', 'silence'])
  })
})
