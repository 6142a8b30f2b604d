import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { expect, it } from 'vitest'
import { askPlain } from '../../../src/client/doctor/portal'

/** What a server of whoever it may be does at its port 80. */
async function asked(answer: (socket: Socket) => void) {
  const server = createServer((socket) => {
    socket.on('error', () => {})
    answer(socket)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  try {
    return await askPlain('127.0.0.1', (server.address() as AddressInfo).port)
  } finally {
    server.close()
  }
}

it.each<[string, string, object | string]>([
  ['a page that is cut off', 'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc', { status: 200, location: undefined }],
  ['another protocol', 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n', 'no page'],
  ['a head without end', `HTTP/1.1 302 Found\r\nA: ${'x'.repeat(9_000)}\r\n`, 'HPE_HEADER_OVERFLOW'],
  ['no HTTP', 'SSH-2.0-OpenSSH\r\n', 'HPE_INVALID_CONSTANT'],
])('of a server that answers with %s there is an end', async (_, text, found) => {
  expect(await asked((socket) => socket.write(text))).toEqual(found)
})
