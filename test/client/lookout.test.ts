import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { Lookout, Refusals } from '../../src/client/lookout'
import { Touches } from '../../src/client/touches'
import type { Opening } from '../../src/protocol/opening'

const HERE = '127.0.0.1'
/** A server's, whose touches tell of who is on the way. */
const AWAY = '192.0.2.1'

describe('a port', () => {
  const after = (...passes: string[][]) => {
    const refusals = new Refusals()
    for (const seen of passes) {
      for (const saw of seen) refusals.saw(saw)
      refusals.passed()
    }
    return refusals.areFinal
  }

  it.each<[string, string[][], boolean]>([
    ['that refuses six times, behind three passes, refuses for good', Array(3).fill(['refused', 'refused']), true],
    ['that refuses behind two passes may open yet', Array(2).fill(Array(9).fill('refused')), false],
    ['that has been silent in between may open yet', [['refused'], ['refused'], ['silence'], ['refused']], false],
    ['of which nothing was heard in between may open yet', [['refused'], ['refused'], [], ['refused']], false],
    ['that is silent may open yet', Array(9).fill(['silence']), false],
    ['that cannot be reached may open yet', Array(9).fill(['EHOSTUNREACH']), false],
  ])('%s', (_, passes, outcome) => {
    expect(after(...passes)).toEqual(outcome)
  })
})

describe('a lookout', () => {
  const closing: (() => void)[] = []
  afterEach(() => {
    for (const close of closing.splice(0)) close()
  })
  async function listen(port = 0): Promise<Server> {
    const server = createServer((socket) => socket.on('error', () => {}).end()).listen(port, HERE)
    closing.push(() => server.close())
    await once(server, 'listening')
    return server
  }
  const portOf = (server: Server) => (server.address() as AddressInfo).port
  function lookAt(...ports: number[]) {
    const opened: [number, Opening][] = []
    const touches = new Touches(AWAY)
    const lookout = new Lookout(HERE, ports, touches, (port, opening) => opened.push([port, opening]))
    closing.push(() => lookout.end())
    lookout.touched()
    const becomes = async (holds: () => boolean) => {
      while (!holds()) await lookout.within(10)
    }
    return { lookout, touches, opened, becomes }
  }

  it('tells of a port that it was open before, however late it hears of it, and never that it has opened', async () => {
    const port = portOf(await listen())
    const { lookout, opened, becomes } = lookAt(port)
    lookout.begin()
    const held = performance.now() + 200
    while (performance.now() < held); // longer than a margin, and than any round trip
    lookout.begin()
    await becomes(() => lookout.isOver)
    expect(opened).toEqual([[port, 'before']])
  })

  it('tells that a port has opened which refused in front of the knock', async () => {
    const server = await listen()
    const port = portOf(server)
    await new Promise((closed) => server.close(closed))
    const { lookout, opened, becomes } = lookAt(port)
    lookout.begin()
    await becomes(() => lookout.seen.has('refused'))
    await listen(port)
    lookout.begin()
    await becomes(() => lookout.isOver)
    expect([opened, lookout.waitsFor(port), lookout.end()]).toEqual([[[port, 'opened']], false, new Map([[port, 'opened']])])
  })

  it('is over when one port is open and the other one refuses for good', async () => {
    const port = portOf(await listen())
    const { lookout, becomes } = lookAt(port, 1)
    for (let pass = 0; pass < 3; pass++) {
      lookout.seen.clear()
      lookout.begin()
      await becomes(() => lookout.seen.has('refused'))
      expect(lookout.isOver).toBe(false)
      lookout.passed()
    }
    await becomes(() => lookout.isOver)
    expect(lookout.end()).toEqual(
      new Map([
        [port, 'before'],
        [1, 'refused'],
      ]),
    )
  })

  it('hears nobody as long as nothing has come back', () => {
    expect(lookAt().lookout.isSilent).toBe(true)
  })

  it('hears somebody where touches are accepted', async () => {
    const { lookout, touches, becomes } = lookAt()
    for (const port of [portOf(await listen()), portOf(await listen())]) touches.keep(connect(port, HERE), port)
    await becomes(() => !lookout.isSilent)
    expect([...touches.seen]).toEqual(['open'])
  })

  it('hears somebody where touches are reset', async () => {
    const { lookout, touches, becomes } = lookAt()
    for (const port of [1, 2]) touches.keep(connect(port, HERE), port)
    await becomes(() => !lookout.isSilent)
    expect([...touches.seen]).toEqual(['refused'])
  })
})
