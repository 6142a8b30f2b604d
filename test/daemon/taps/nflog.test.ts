import { describe, expect, it } from 'vitest'
import { netlinkDrops } from '../../../src/daemon/taps/nflog'
import { missing } from '../../../src/system/commands'
import { inOneLine } from '../../../src/system/fault'

/* /proc/net/netlink of Linux 6.18 while tcpdump, with socket 1204517, was stopped and 60,000 packets came. */
const SOCKETS = `sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
000000000b5cdc64 0   0          00000000 0        0        0     2        0        4       
00000000a1b23c4d 9   7          00000000 0        0        0     2        3        1204400 
000000004b9760cc 12  0          00000000 0        0        0     2        0        1204507 
00000000d47bbe37 12  7          00000000 8388224  0        0     2        49918    1204517 
`

describe('what the kernel drops of an NFLOG group', () => {
  it('is what it drops of the socket of its reader', () => {
    expect(netlinkDrops(SOCKETS, ['1204400', '1204517'])).toBe(49_918)
  })

  it.each([
    ['other sockets', SOCKETS, ['1204516', '7']],
    ['a socket that is none of netfilter’s', SOCKETS, ['1204400']],
    ['no socket', SOCKETS, []],
    ['no table', '', ['1204517']],
    ['a table of another form', 'sk Eth\n0 12\n', ['1204517']],
  ])('is not known of %s', (_, text, inodes) => {
    expect(netlinkDrops(text, inodes)).toBeNull()
  })

  it('is not what it drops of a socket that somebody has named after its process', () => {
    const squatter = '00000000f4ea6aaf 12  7          00000000 0        0        0     2        0        2283017 \n'
    const moved = SOCKETS.replace(/12 {2}7 /, '12  -7')
    expect(netlinkDrops(moved.replace(/\n/, `\n${squatter}`), ['1204400', '1204517'])).toBe(49_918)
  })
})

describe('tcpdump', () => {
  it('that is missing is a fault that says what to install, or to set', () => {
    expect(inOneLine(missing('tcpdump'))).toBe(
      'tcpdump is not installed: install it (Debian: apt-get install tcpdump), or set source = "file" or "journal" in [taps]',
    )
  })
})
