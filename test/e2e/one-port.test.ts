import { beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { knock } from '../lab/knocks'
import { quota } from './cafe'
import { moveBehind } from './delay'
import { useGate } from './use-gate'

/* What a knock takes of a router that keeps a mapping for each port that a guest sends from. */

const SSH = 22
const WEB = 443
/** Mappings of a guest: fewer than one knock has ports, and more than what the client tries beside it in that time. */
const MOST = 48
const WAIT = 5
/** Open files of a process: Node has some twenty for itself. */
const FILES = 40

const { server, router, guest, site, gate } = useGate(['router', 'guest', 'site'], {
  serve: [SSH],
  keyOptions: ['--services', `${SSH}/tcp`],
})
let device: string

beforeAll(async () => {
  await site.service(WEB)
  device = await moveBehind(guest, router, 0, 2)
})
beforeEach(() => router.moveOn())

/** What a knock has sent that the router has heard. */
const sent = (...options: string[]) => sentBy([], ...options)

/** Likewise, by a client that another program starts. */
async function sentBy(starter: string[], ...options: string[]) {
  const tape = await router.capture(device)
  const { code } = await guest.run([...starter, ...knock(gate, '-p', String(SSH), ...options)])
  await tape.end()
  const taps = (await tape.taps()).filter(({ port }) => port !== SSH)
  return { code, ports: taps.map(({ port }) => port), sources: new Set(taps.map(({ sourcePort }) => sourcePort)) }
}

describe('a knock behind a router', () => {
  it('comes from one port', async () => {
    const { ports, sources } = await sent('--passes', '1')
    expect([new Set(ports).size, ports.length, sources.size]).toEqual([52, 52, 1])
  })

  it('is whole where the client may have few files open', async () => {
    const { ports } = await sentBy(['prlimit', `--nofile=${FILES}:${FILES}`], '--passes', '1')
    expect(new Set(ports).size).toBe(52)
  })

  it('has each pass on the way, though they say the same from the same port', async () => {
    const { ports, sources } = await sent('--passes', '3')
    // A pass may come while the one before it is on its way, and then from the next port.
    expect([ports.length, [1, 2].includes(sources.size)]).toEqual([3 * 52, true])
  })

  it('is heard by its second pass where the first is lost, and the router has the mapping of that', async () => {
    const lost = ['PREROUTING', '-i', 'eth0', '-p', 'tcp', '-j', 'DROP']
    await server.must(['iptables', '-t', 'raw', '-A', ...lost])
    const waiting = guest.start(knock(gate, '-p', String(SSH), '--wait', '20', '-v'))
    await waiting.line((line) => line.endsWith('pass 1'))
    await server.must(['iptables', '-t', 'raw', '-D', ...lost])
    expect(await waiting.exited).toMatchObject({ code: 0 })
  })

  it('in vain leaves the guest room for others', async () => {
    const away = await quota(router, device, MOST)
    const { code } = await guest.run(knock(gate, '-p', String(WEB), '--wait', String(WAIT), '--force', '--quiet'))
    expect([code, (await guest.connect(site.ipv4, WEB, 2_000)).saw]).toEqual([3, 'open'])
    await away()
  })
})
