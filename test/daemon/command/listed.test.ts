import { describe, expect, it } from 'vitest'
import { readListed } from '../../../src/daemon/command/listed'

describe('what a program lists', () => {
  it('is a way in each line, with the lease behind it or without', () => {
    expect(readListed('198.51.100.2 tcp 22\n  2001:DB8::7\tudp  53   ab12cd34.1 \r\n\n198.51.100.0/24 tcp 443')).toEqual({
      ways: [
        { address: '198.51.100.2', protocol: 'tcp', port: 22, lease: null },
        { address: '2001:db8::7', protocol: 'udp', port: 53, lease: 'ab12cd34.1' },
        { address: '198.51.100.0/24', protocol: 'tcp', port: 443, lease: null },
      ],
      odd: null,
    })
  })

  it('is nothing where it has printed nothing', () => {
    expect(readListed('\n')).toEqual({ ways: [], odd: null })
  })

  it.each([
    'everything is fine',
    '198.51.100.2',
    '198.51.100.2 tcp',
    '198.51.100.2 tcp 0',
    '198.51.100.2 tcp 65536',
    '198.51.100.2 icmp 8',
    '198.51.100 tcp 22',
    '198.51.100.1/24 tcp 22',
    '198.51.100.2 tcp 22 a b',
    '198.51.100.2 tcp 22 -rf',
    '198.51.100.2 tcp 22 $(id)',
  ])('may have a line that is not understood, beside others: %j', (line) => {
    expect(readListed(`198.51.100.9 tcp 22\n${line}\nworse`)).toMatchObject({ ways: [{ address: '198.51.100.9' }], odd: line })
  })
})
