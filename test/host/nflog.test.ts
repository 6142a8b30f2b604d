import { describe, expect, it } from 'vitest'
import { missing } from '../../src/host/commands'
import { netlinkDrops } from '../../src/host/taps/nflog'

/* /proc/net/netlink of Linux 6.18 while tcpdump, process 7, was stopped and 60,000 packets came. */
const SOCKETS = `sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
000000000b5cdc64 0   0          00000000 0        0        0     2        0        4       
00000000a1b23c4d 9   7          00000000 0        0        0     2        3        1204400 
000000004b9760cc 12  0          00000000 0        0        0     2        0        1204507 
00000000d47bbe37 12  7          00000000 8388224  0        0     2        49918    1204517 
`

describe('what the kernel drops of an NFLOG group', () => {
  it('is what it drops of the socket of its reader', () => {
    expect(netlinkDrops(SOCKETS, 7)).toBe(49_918)
  })

  it.each([
    ['another process', SOCKETS, 8],
    ['no process', SOCKETS, undefined],
    ['no table', '', 7],
    ['a table of another form', 'sk Eth\n0 12\n', 7],
  ])('is not known of %s', (_, text, pid) => {
    expect(netlinkDrops(text, pid)).toBeNull()
  })
})

describe('tcpdump', () => {
  it('that is missing is a fault that says what to install, or to set', () => {
    expect(missing('tcpdump').message).toBe(
      'tcpdump is missing: install it (Debian: apt-get install tcpdump), or set source = "file" or "journal" in [taps]',
    )
  })
})
