import { describe, expect, it } from 'vitest'
import { readSocket } from '../../src/daemon/sockets'

/* As Linux 6.18 prints them, on a machine whose byte order is that of a PC. */
const V4 =
  '   2: 016433C6:C350 024433C6:B200 01 00000000:00000000 00:00000000 00000000  65534        0 840560 1 000000003813fdff 20 0 0 10 -1'
const V6 =
  '  14: B80D0120000007000000000001000000:C350 B80D0120000007000000000002000000:9C40 01 00000000:00000000 00:00000000 00000000     0        0 52 1 0 20 0 0 10 -1'
const MAPPED = V6.replaceAll('B80D01200000070000000000', '0000000000000000FFFF0000').replace(/0([12])000000:/g, '0$16433C6:')

describe('a socket', () => {
  it.each([
    ['of IPv4', V4, { state: 1, local: '198.51.100.1', port: 50_000, peer: '198.51.68.2' }],
    ['of IPv6', V6, { state: 1, local: '2001:db8:7::1', port: 50_000, peer: '2001:db8:7::2' }],
    ['of IPv6 with IPv4 addresses', MAPPED, { state: 1, local: '198.51.100.1', port: 50_000, peer: '198.51.100.2' }],
    ['with a number of five digits', V4.replace('   2:', '12345:'), { state: 1, port: 50_000 }],
    [
      'that waits for its end',
      '  61: 016433C6:C350 024433C6:B200 06 00000000:00000000 03:00001761 00000000     0        0 0 3 00000000e2d4ba4c',
      { state: 6, port: 50_000 },
    ],
    [
      'that listens everywhere',
      '   0: 00000000:C350 00000000:0000 0A 00000000:00000000 00:00000000 00000000 65534 0 84 1 0 100 0 0 10 0',
      { state: 10, local: '0.0.0.0', port: 50_000, peer: '0.0.0.0' },
    ],
  ])('%s is read', (_, line, socket) => {
    expect(readSocket(line)).toMatchObject(socket)
  })

  it.each([
    ['the headline', '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode'],
    ['nothing', ''],
    ['half a line', V4.slice(0, 20)],
    ['one with an address of another length', V4.replace('016433C6', '016433C600')],
    ['one without a port', V4.replace(':C350', ':')],
    ['one without a state', V4.replace(' 01 ', ' ')],
    ['one of other digits', V4.replace('016433C6', '016433Z6')],
  ])('is not %s', (_, line) => {
    expect(readSocket(line)).toBeNull()
  })
})
