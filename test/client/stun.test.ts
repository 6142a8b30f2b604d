import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { crc32 } from 'node:zlib'
import { afterEach, describe, expect, it } from 'vitest'
import { askStun, bindingRequest, mappedAddress, parseStun } from '../../src/client/stun'

const hex = (text: string) => Buffer.from(text.replace(/\s/g, ''), 'hex')

/* RFC 5769, 2.2 and 2.3: the sample responses. */
const TRANSACTION = hex('b7e7a701 bc34d686 fa87dfae')
const SAMPLES = {
  4: hex(`0101003c 2112a442 b7e7a701 bc34d686 fa87dfae
    8022000b 74657374 20766563 746f7220 00200008 0001a147 e112a643
    00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7 80280004 c07d4c96`),
  6: hex(`01010048 2112a442 b7e7a701 bc34d686 fa87dfae
    8022000b 74657374 20766563 746f7220 00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9
    00080014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41 80280004 c8fb0b4c`),
}

/** A response with these attributes, as they stand in hex. */
const response = (attributes: string, type = '0101') => {
  const body = hex(attributes)
  return Buffer.concat([hex(`${type}${body.length.toString(16).padStart(4, '0')}2112a442`), TRANSACTION, body])
}
const MAPPED = '00200008 0001a147 e112a643'

describe('the samples of RFC 5769', () => {
  it.each([4, 6] as const)('are copied right: their fingerprint fits (IPv%i)', (family) => {
    const sample = SAMPLES[family]
    expect((crc32(sample.subarray(0, -8)) ^ 0x5354554e) >>> 0).toBe(sample.readUInt32BE(sample.length - 4))
  })

  it.each([
    [4, '192.0.2.1'],
    [6, '2001:db8:1234:5678:11:2233:4455:6677'],
  ] as const)('say the address (IPv%i)', (family, address) => {
    expect(mappedAddress(SAMPLES[family], TRANSACTION, family)).toBe(address)
  })
})

describe('a request', () => {
  it('is a header alone: type, no attributes, cookie, transaction (RFC 8489, 5)', () => {
    expect(Buffer.from(bindingRequest(TRANSACTION))).toEqual(hex('00010000 2112a442 b7e7a701 bc34d686 fa87dfae'))
  })
})

describe('no answer is', () => {
  it.each<[string, Buffer]>([
    ['nothing', Buffer.alloc(0)],
    ['half a header', SAMPLES[4].subarray(0, 19)],
    ['a request', response(MAPPED, '0001')],
    ['an answer to another method', response(MAPPED, '0103')],
    ['another cookie', Buffer.from(response(MAPPED)).fill(0, 4, 8)],
    ['another transaction', Buffer.from(response(MAPPED)).fill(0, 8, 20)],
    ['another length than it says', Buffer.concat([response(MAPPED), Buffer.alloc(4)])],
    ['one without an address', response('')],
    ['one with an attribute that is cut off', response('0020000c 0001a147 e112a643')],
    ['one with an address of the other family', SAMPLES[6]],
    ['one with half an address', response('00200006 0001a147 e1120000')],
    ['one of another family that has its length', response('00200008 0003a147 e112a643')],
    ['more than a packet', response(`${MAPPED}80220500${'20'.repeat(0x500)}`)],
  ])('%s', (_, answer) => {
    expect(mappedAddress(answer, TRANSACTION, 4)).toBeNull()
  })

  it('any start of the sample', () => {
    for (let length = 0; length < SAMPLES[4].length; length++)
      expect(mappedAddress(SAMPLES[4].subarray(0, length), TRANSACTION, 4)).toBeNull()
  })
})

describe('an answer', () => {
  it('may have other attributes in front, padded', () => {
    expect(mappedAddress(response(`80220003 61626300 ${MAPPED}`), TRANSACTION, 4)).toBe('192.0.2.1')
  })

  it('that is an error is told, with its number', () => {
    expect(() => mappedAddress(response('00090004 00000401', '0111'), TRANSACTION, 4)).toThrow('answers with error 401')
  })
})

describe('a server', () => {
  it.each([
    ['stun.example', { host: 'stun.example', port: 3478 }],
    ['stun.example:19302', { host: 'stun.example', port: 19302 }],
    ['192.0.2.1:1', { host: '192.0.2.1', port: 1 }],
    ['[2001:db8::1]', { host: '2001:db8::1', port: 3478 }],
    ['[2001:db8::1]:3479', { host: '2001:db8::1', port: 3479 }],
  ])('may be %s', (text, server) => {
    expect(parseStun(text)).toEqual(server)
  })

  it.each(['', ':3478', 'a:', 'a:0', 'a:65536', 'a b', 'a/b', 'user@a', '2001:db8::1', 'stun:a:1'])('may not be %j', (text) => {
    expect(parseStun(text)).toBeNull()
  })
})

describe('asking', () => {
  const sockets: ReturnType<typeof createSocket>[] = []
  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.close()
  })
  /** A server on loopback that does something with each request. */
  async function serve(answer: (request: Buffer, send: (packet: Uint8Array) => void, n: number) => void): Promise<number> {
    const socket = createSocket('udp4')
    sockets.push(socket)
    let n = 0
    socket.on('message', (request, { address, port }) => answer(request, (packet) => socket.send(packet, port, address), n++))
    socket.bind(0, '127.0.0.1')
    await once(socket, 'listening')
    return socket.address().port
  }
  const truth = (request: Buffer, attributes = MAPPED) => {
    const packet = response(attributes)
    request.copy(packet, 8, 8, 20)
    return packet
  }
  const ask = (port: number) => askStun({ host: '127.0.0.1', port }, 4, 5_000)

  it('gives the address', async () => {
    expect(await ask(await serve((request, send) => send(truth(request))))).toBe('192.0.2.1')
  })

  it('is done again, as the same transaction, where a packet is lost', async () => {
    const seen: string[] = []
    const port = await serve((request, send, n) => {
      seen.push(request.toString('hex'))
      if (n === 1) send(truth(request))
    })
    expect([await ask(port), new Set(seen).size, seen.length]).toEqual(['192.0.2.1', 1, 2])
  })

  it('passes over what is no answer to it', async () => {
    const port = await serve((request, send) => {
      send(response(MAPPED))
      send(Buffer.from('hello'))
      send(truth(request))
    })
    expect(await ask(port)).toBe('192.0.2.1')
  })

  it('takes no answer from anybody else', async () => {
    const liar = createSocket('udp4')
    sockets.push(liar)
    const server = createSocket('udp4')
    sockets.push(server)
    server.on('message', (request, { address, port }) => {
      liar.send(truth(request, '00200008 0001a147 e112a644'), port, address, () => server.send(truth(request), port, address))
    })
    server.bind(0, '127.0.0.1')
    await once(server, 'listening')
    expect(await ask(server.address().port)).toBe('192.0.2.1')
  })

  it('fails where the server answers with an error', async () => {
    const port = await serve((request, send) => {
      const packet = response('00090004 00000414', '0111')
      request.copy(packet, 8, 8, 20)
      send(packet)
    })
    await expect(ask(port)).rejects.toThrow(/^127\.0\.0\.1: the STUN server answers with error 420$/)
  })
})
