import { Socket } from 'node:net'
import { describe, expect, it } from 'vitest'
import { MOST, Touches } from '../../src/client/touches'

it('touches of both families are as many together as there may be files, in one tick, too', () => {
  const runs = ['198.51.100.1', '2001:db8::1'].map((address) => new Touches(address))
  const sockets = Array.from({ length: MOST + 10 }, () => new Socket())
  for (const [i, socket] of sockets.entries()) runs[i % 2].keep(socket, i)
  const going = sockets.map((socket) => !socket.destroyed)
  for (const run of runs) run.end()
  expect(going).toEqual([...Array(10).fill(false), ...Array(MOST).fill(true)])
})

it('touches that are given up count no more', () => {
  const [first, second] = [new Touches('198.51.100.1'), new Touches('2001:db8::1')]
  for (let i = 0; i < MOST; i++) first.keep(new Socket(), i)
  first.end()
  const socket = new Socket()
  second.keep(socket, 0)
  for (let i = 1; i < MOST; i++) second.keep(new Socket(), i)
  expect(socket.destroyed).toBe(false)
  second.end()
})

describe('touches that are answered', () => {
  /** What is seen of touches that end so, each by its port. */
  const seen = (...ends: [port: number, how: (socket: Socket) => void][]) => {
    const touches = new Touches('198.51.100.1')
    for (const [port, how] of ends) {
      const socket = new Socket()
      touches.keep(socket, port)
      how(socket)
    }
    touches.end()
    return [[...touches.seen], touches.areAccepted, touches.areAnswered]
  }
  const accept = (socket: Socket) => socket.emit('connect')
  const refuse = (socket: Socket) => socket.emit('error', Object.assign(new Error(), { code: 'ECONNREFUSED' }))

  it.each([
    ['accepted', accept, ['open'], true],
    ['refused', refuse, ['refused'], false],
  ])('tell of somebody on the way where two ports are %s', (_, how, what, areAccepted) => {
    expect(seen([50_000, how], [50_001, how])).toEqual([what, areAccepted, true])
  })

  it.each([
    ['accepted', accept],
    ['refused', refuse],
  ])(
    'do not where that is one port alone, however often: its server may be another one behind the same address (%s)',
    (_, how) => {
      expect(seen([50_000, how], [50_000, how])).toEqual([[], false, false])
    },
  )

  it('do not where one port is accepted, and another one refused', () => {
    expect(seen([50_000, accept], [50_001, refuse])).toEqual([[], false, false])
  })
})
