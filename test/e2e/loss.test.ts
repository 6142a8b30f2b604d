import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, describe, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { compose, knock } from '../lab/knocks'
import type { Touch } from '../lab/taps'
import { until } from '../lab/waiters'
import { seededRandom, shuffled } from '../random'
import { useGate } from './use-gate'

const SSH = 22
const TIMES = 30
const POOL = { first: 49152, size: 16384 }
const DOORS = Array.from({ length: 10 }, (_, i) => 2301 + i)
/** More knocks than a session has eager attempts for, if it counted them together. */
const ROW = Array.from({ length: 20 }, (_, i) => 2401 + i)

const services = ['--services', [SSH, ...DOORS, ...ROW].map((port) => `${port}/tcp`).join(',')]

const { server, client, other, gate } = useGate(['client', 'other'], { serve: [SSH, ...DOORS, ...ROW], keyOptions: services })
/** A key whose windows are so long that a row of knocks is good until its last one, however slow the machine is. */
let slow: string

beforeAll(async () => {
  slow = await gate.newKey('slow', ...services, '--period', '300')
  await gate.daemon.line(logged('reloaded', { keys: 2 }))
})

/** Makes a passage of a knock through a bad network: what comes of the ports that are sent. */
type Passage = (touches: Touch[], random: () => number) => Touch[]

const lossy =
  (probability: number): Passage =>
  (touches, random) =>
    touches.filter(() => random() >= probability)

let addresses = 0

/** Gives the client another address, to be a client of its own. */
async function another(): Promise<string> {
  const address = `198.51.100.${101 + addresses++}`
  await client.addAddress(`${address}/24`)
  return address
}

/** Knocks of so many addresses, each through all passages; gives how many got in. */
async function entered(times: number, seed: number, ...passages: Passage[]): Promise<number> {
  const random = seededRandom(seed)
  const knocks: { from: string; touches: Touch[] }[] = []
  for (let i = 0; i < times; i++) {
    // No two of them ask the same, so that they are different knocks whatever their salts.
    const { touches } = await compose(client, slow, '-p', String(SSH), '-t', `${60 + i}s`)
    knocks.push({ from: await another(), touches })
  }
  for (const passage of passages) {
    // The second pass of a client comes a second after its first.
    if (passage !== passages[0]) await sleep(1_000)
    for (const { from, touches } of knocks) await client.replay(passage(touches, random), server.ipv4, from)
  }
  const tries = await Promise.all(knocks.map(({ from }) => enters(SSH, from)))
  return tries.filter(Boolean).length
}

/** Whether a door opens to the client, which tries for as long as the daemon may take. */
function enters(port: number, from?: string): Promise<boolean> {
  const isOpen = async () => (await client.connect(server.ipv4, port, 300, from)).saw === 'open'
  return until(isOpen, 'the door opens').then(
    () => true,
    () => false,
  )
}

/** Knocks of one window, one for each door. */
async function knocksFor(doors: number[]): Promise<Touch[][]> {
  for (;;) {
    const knocks = await Promise.all(doors.map((port) => compose(client, gate.key, '-p', String(port))))
    if (new Set(knocks.map(({ window }) => window)).size === 1) return knocks.map(({ touches }) => touches)
  }
}

describe('a knock gets through', () => {
  it('10 % loss in one pass, 30 times of 30', async () => {
    expect(await entered(TIMES, 1, lossy(0.1))).toBe(TIMES)
  })

  it('20 % loss in two passes, 30 times of 30', async () => {
    expect(await entered(TIMES, 2, lossy(0.2), lossy(0.2))).toBe(TIMES)
  })

  it("20 % loss of the kernel's own choosing, 10 times of 10, with the client that waits", async () => {
    await server.lose(0.2)
    try {
      const codes: (number | null)[] = []
      const knockAll = async (host: Host, doors: number[]) => {
        for (const door of doors)
          codes.push((await host.run(knock(gate, '-p', String(door), '--wait'), { timeoutMs: 40_000 })).code)
      }
      await Promise.all([knockAll(client, DOORS.slice(0, 5)), knockAll(other, DOORS.slice(5))])
      expect(codes).toEqual(DOORS.map(() => 0))
    } finally {
      await server.lose(0)
    }
  })

  it.each<[string, Passage]>([
    ['in any order', (touches, random) => shuffled(touches, random)],
    ['with its rendezvous ports at the end', (touches) => [...touches.slice(8), ...touches.slice(0, 8)]],
    ['with every tap twice', (touches, random) => shuffled([...touches, ...touches], random)],
    ['among 20 taps of noise', (touches, random) => shuffled([...touches, ...noise(20, random)], random)],
    ['in any order with 10 % loss and 10 % of it twice', (touches, random) => shuffled(rough(touches, random), random)],
  ])('%s', async (_, passage) => {
    expect(await entered(6, 3, passage)).toBe(6)
  })

  it('by UDP in any order', async () => {
    const datagrams: Passage = (touches, random) => shuffled(touches, random).map(({ port }) => ({ protocol: 'udp', port }))
    expect(await entered(3, 4, datagrams)).toBe(3)
  })
})

const noise = (count: number, random: () => number): Touch[] =>
  Array.from({ length: count }, () => ({ protocol: 'tcp', port: POOL.first + Math.floor(random() * POOL.size) }))

const rough: Passage = (touches, random) => lossy(0.1)([...touches, ...touches.filter(() => random() < 0.1)], random)

describe('knocks that meet', () => {
  it('of two clients at once open to both', async () => {
    const from = [client, other]
    await Promise.all(from.map((host) => host.must(knock(gate, '-p', String(SSH)))))
    await Promise.all(from.map((host) => host.becomes(server.ipv4, SSH, 'open')))
  })

  it('two of one key in one window, back to back from one address, open both doors', async () => {
    const [here, there] = DOORS
    const knocks = await knocksFor([here, there])
    const from = await another()
    await client.replay(knocks.flat(), server.ipv4, from)
    expect([await enters(here, from), await enters(there, from)]).toEqual([true, true])
  })

  it('of one client, twenty in a row, open all doors', async () => {
    await client.moveOn()
    const opened: number[] = []
    for (const door of ROW) {
      // One pass each, and no faster than the log rule lets one address speak.
      await client.must(knock({ key: slow }, '--passes', '1', '--pace', '5', '-p', String(door)))
      if (await enters(door)) opened.push(door)
    }
    expect(opened).toEqual(ROW)
  })
})
