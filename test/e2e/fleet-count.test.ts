import { expect, it } from 'vitest'
import { makeFleet } from '../lab/fleet'
import { seededRandom } from '../random'
import { secondAcceptances } from '../replay/fleet-count'
import { Players } from '../replay/fleet-play'

/** The attacks of kind `fleet` count what gateways accept: here, gateways that share nothing accept each knock again, and it is seen. */
it('two gateways that share keys and no ledger each accept what the other has heard, and the count of the attacks says so', async () => {
  const fleet = await makeFleet({ gateways: ['gw1', 'gw2'], isShared: false, keys: 4 })
  try {
    const players = await Players.begin(fleet, 4, seededRandom(1))
    for (let n = 0; n < 8; n++) await players.knock()
    await players.settled()
    const granted = players.granted()
    expect([...granted.keys()].sort()).toEqual(players.played.map(({ name }) => name).sort())
    expect(secondAcceptances(granted).count).toBe(8)
  } finally {
    await fleet.end()
  }
})
