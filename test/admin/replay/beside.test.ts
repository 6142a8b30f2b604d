import { expect, it } from 'vitest'
import { compose } from '../../../src/protocol/knock'
import type { Request } from '../../../src/protocol/request'
import { packetsTo, pcap, Server } from './recordings'

/* What comes from one source behind a knock that was opened, without a rest between them: as two people behind one NAT knock. */

const WINDOW = 59_000_000
const PERIOD = 30
/** The middle of that window, in Unix milliseconds. */
const AT = (WINDOW + 0.5) * PERIOD * 1000
const request: Request = { action: 'open', protocol: 'tcp', once: false, salt: 7, port: 22, seconds: 60, address: '0.0.0.0' }

const NOISE = Array.from({ length: 20 }, (_, i) => 50_000 + i)

const heardOf = async (server: Server, packets: ReturnType<typeof packetsTo>) =>
  (await server.replay(pcap(packets))).sources.flatMap(({ heard }) => heard)

it('a knock by a wrong clock is found behind one that is opened', async () => {
  const server = new Server()
  const ports = compose(server.key('alice', 1), WINDOW, request)
  const good = [...packetsTo(ports, AT), ...packetsTo(ports, AT + 1_000)]
  const wrong = packetsTo(compose(server.key('bob', 2), WINDOW + 120, request), AT + 2_000)
  expect(await heardOf(server, [...good, ...wrong])).toMatchObject([
    { kind: 'knock', outcome: 'accepted', key: 'alice' },
    { kind: 'incomplete', why: 'window', key: 'bob', window: WINDOW + 120, at: expect.any(Number) },
  ])
})

it('a knock that is opened and sent again leaves nothing behind, nor does some noise', async () => {
  const server = new Server()
  const ports = compose(server.key('alice', 1), WINDOW, request)
  const packets = [...packetsTo(ports, AT, {}, 20), ...packetsTo(ports, AT + 2_000), ...packetsTo(NOISE, AT + 3_000)]
  expect(await heardOf(server, packets)).toMatchObject([{ kind: 'knock', outcome: 'accepted', key: 'alice' }])
})
