import { type AddressInfo, createServer } from 'node:net'
import { expect, it, vi } from 'vitest'
import { knock, knockAllUntilOpen, prepare } from '../../src/client/client'
import type { Sending } from '../../src/client/sending'
import { Touches } from '../../src/client/touches'
import { knockUntilConnected } from '../../src/client/until-connected'
import type { Beside } from '../../src/client/wait-result'
import { keyOf } from '../gate/listener/ear'

/* A knock that is over, and one by one family, when that by the other has come to an end. */

const HERE = '127.0.0.1'
/** More than any test takes. */
const LIMIT = 60_000
const SHUT = 1
const sending: Sending = {
  ...{ key: keyOf(1), parity: undefined, udp: false, pace: 20, passes: 2, timeOffset: 0, random: Math.random },
  request: { action: 'open', protocol: 'tcp', once: true, port: SHUT, seconds: 30, address: '0.0.0.0' },
}
const told = { pass() {}, opened() {} }

it.each<[string, (sequence: ReturnType<typeof prepare>, beside: Beside) => Promise<unknown>]>([
  [
    'that waits for a service',
    (sequence, beside) => knockAllUntilOpen([{ sending, sequence, watched: SHUT }], HERE, LIMIT, told, beside),
  ],
  ['for a connection', (sequence, beside) => knockUntilConnected(sending, HERE, sequence, SHUT, LIMIT, () => {}, beside)],
])('one %s gives its touches up at once', async (_, knock) => {
  const stop = new AbortController()
  const end = vi.spyOn(Touches.prototype, 'end')
  const given: number[] = []
  const server = createServer((socket) => {
    socket.on('error', () => {})
    stop.abort()
    given.push(end.mock.calls.length)
  })
  await new Promise<void>((listening) => server.listen(0, HERE, listening))
  const { port } = server.address() as AddressInfo
  const sequence = { ...prepare(sending, Date.now()), ports: Array(52).fill(port) }
  await knock(sequence, { signal: stop.signal, silent() {} })
  await new Promise((closed) => server.close(closed))
  end.mockRestore()
  expect(given[0]).toBe(1)
})

it('one that is over waits for no answer to its touches: the process would end later', async () => {
  const end = vi.spyOn(Touches.prototype, 'end')
  await knock({ ...sending, pace: 0, passes: 1 }, HERE, prepare(sending, Date.now()), () => {})
  expect(end).toHaveBeenCalledOnce()
  end.mockRestore()
})
