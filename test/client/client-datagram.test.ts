import { expect, it } from 'vitest'
import { prepare, upToDate } from '../../src/client/client'
import type { Sending } from '../../src/client/sending'
import { openDatagram } from '../../src/protocol/datagram'
import { keyOf, MIDDLE, WINDOW } from '../gate/listener/ear'

const { salt: _, ...request } = {
  action: 'open',
  protocol: 'any',
  once: false,
  salt: 0,
  port: 22,
  seconds: 60,
  address: '::',
} as const
const sending: Sending = {
  ...{ key: keyOf(1), request, parity: undefined, udp: false, datagram: 53, pace: 0, passes: 2, timeOffset: 0 },
  random: Math.random,
}

it('a datagram is the same knock while its window lasts, and a new one in the next', () => {
  const first = prepare(sending, MIDDLE * 1000)
  expect(upToDate(sending, first, MIDDLE * 1000 + 14_000)).toBe(first)
  const next = upToDate(sending, first, MIDDLE * 1000 + 15_000)
  expect([first.window, next.window]).toEqual([WINDOW, WINDOW + 1])
  for (const { window, payload, ports, request } of [first, next]) {
    expect(ports).toEqual([53])
    expect(openDatagram(sending.key, window, payload as Uint8Array)?.request).toEqual(request)
  }
})
