import { PassThrough } from 'node:stream'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { lineSplitter } from '../../../src/daemon/taps/lines'
import { logLineReader, MAX_LINE } from '../../../src/daemon/taps/log-line'
import { stdinSource } from '../../../src/daemon/taps/stdin'
import type { Tap } from '../../../src/gate/tap'
import { plain } from './plain-tap'

const reader = (prefix: string) => {
  const read = logLineReader(prefix)
  return (line: string) => plain(read(line))
}
const read = reader('KNOCK: ')

const MAC4 = 'MAC=9a:69:bb:3f:7a:cd:5a:f3:16:26:a3:3d:08:00'
const MAC6 = 'MAC=9a:69:bb:3f:7a:cd:5a:f3:16:26:a3:3d:86:dd'
const LONG6 = 'SRC=2001:0db8:0001:0000:0000:0000:0000:0002 DST=2001:0db8:0001:0000:0000:0000:0000:0001'
const SHORT6 = 'SRC=2001:db8:1::2 DST=2001:db8:1::1'
const IP4 = 'SRC=198.51.100.2 DST=198.51.100.1'
const KERNEL4 = `KNOCK: IN=v0 OUT= ${MAC4} ${IP4} LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=6276 DF PROTO=TCP SPT=59840 DPT=50001`
const KERNEL6 = `KNOCK: IN=v0 OUT= ${MAC6} ${LONG6} LEN=80 TC=0 HOPLIMIT=64 FLOWLBL=550359 PROTO=TCP SPT=60776 DPT=50001`
const FLAGS = 'WINDOW=64240 RES=0x00 SYN URGP=0'
const LINE = `${KERNEL4} ${FLAGS} `

const v4 = (port: number): Tap => ({ source: '198.51.100.2', destination: '198.51.100.1', port })
const v6 = (port: number): Tap => ({ source: '2001:db8:1::2', destination: '2001:db8:1::1', port })

/** As Linux 6.18 wrote them into its ring buffer. */
const KERNEL: [string, string, Tap][] = [
  ['TCP', `[ 3329.127466] ${LINE}`, v4(50001)],
  [
    'TCP with sequence numbers and options',
    `[ 3329.127475] ${KERNEL4} SEQ=2109880051 ACK=0 ${FLAGS} OPT (020405B40402080ACACAE5A6000000000103030A) `,
    v4(50001),
  ],
  ['TCP over IPv6', `[ 3329.127780] ${KERNEL6} WINDOW=64800 RES=0x00 SYN URGP=0 `, v6(50001)],
  [
    'TCP over IPv6 with sequence numbers and options',
    `[ 3329.127783] ${KERNEL6} SEQ=4194811910 ACK=0 WINDOW=64800 RES=0x00 SYN URGP=0 OPT (020405A00402080A5C958C45000000000103030A) `,
    v6(50001),
  ],
  [
    'TCP with a mark',
    `[ 3329.127857] KNOCK: IN=v0 OUT= ${MAC4} ${IP4} LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=18207 DF PROTO=TCP SPT=38456 DPT=50003 ${FLAGS} MARK=0x2a `,
    v4(50003),
  ],
  [
    'TCP with options and a mark',
    `[ 3329.128018] KNOCK: IN=v0 OUT= ${MAC6} ${LONG6} LEN=80 TC=0 HOPLIMIT=64 FLOWLBL=450915 PROTO=TCP SPT=55554 DPT=50003 SEQ=3039358826 ACK=0 WINDOW=64800 RES=0x00 SYN URGP=0 OPT (020405A00402080A59EA7355000000000103030A) MARK=0x2a `,
    v6(50003),
  ],
  [
    'UDP',
    `[ 3329.129076] KNOCK: IN=v0 OUT= ${MAC4} ${IP4} LEN=28 TOS=0x00 PREC=0x00 TTL=64 ID=47424 DF PROTO=UDP SPT=41588 DPT=50002 LEN=8 `,
    v4(50002),
  ],
  [
    'UDP over IPv6',
    `[ 3329.129266] KNOCK: IN=v0 OUT= ${MAC6} ${LONG6} LEN=48 TC=0 HOPLIMIT=64 FLOWLBL=209937 PROTO=UDP SPT=55427 DPT=50002 LEN=8 `,
    v6(50002),
  ],
]

const DECODED = 'MACSRC=5a:f3:16:26:a3:3d MACDST=22:4a:b8:f4:70:7e'
const TUN4 = `[   27.350000] KNOCK: IN=tun0 OUT= MAC= ${IP4} LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=6276 DF PROTO=TCP SPT=59840 DPT=50001`
const TUN6 = `KNOCK: IN=tun0 OUT= MAC= ${LONG6} LEN=64 TC=0 HOPLIMIT=64 FLOWLBL=550359`
const UDP6 = 'PROTO=UDP SPT=55427 DPT=50002 LEN=8 '
const SEQ = `SEQ=2109880051 ACK=0 ${FLAGS} OPT (020405B40402080ACACAE5A6000000000103030A) `

/** As Linux 6.1 (user-mode) wrote them, for other devices, packets and options of the log rule. */
const KERNEL_6_1: [string, string, Tap][] = [
  [
    'a decoded Ethernet header, and all else that the log rule can add',
    `[   29.860000] KNOCK: IN=tap0 OUT= ${DECODED} MACPROTO=0800 ${IP4} LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=6276 DF PROTO=TCP SPT=59840 DPT=50001 ${SEQ}`,
    v4(50001),
  ],
  [
    'a decoded Ethernet header with IPv6',
    `[   30.070000] KNOCK: IN=tap0 OUT= ${DECODED} MACPROTO=86dd ${LONG6} LEN=48 TC=184 HOPLIMIT=64 FLOWLBL=550359 ${UDP6}`,
    v6(50002),
  ],
  [
    'a decoded Ethernet header behind a bridge',
    `[   41.660000] KNOCK: IN=br0 OUT= PHYSIN=va ${DECODED} MACPROTO=0800 ${IP4} LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=11753 DF PROTO=TCP SPT=43094 DPT=50001 ${SEQ}`,
    v4(50001),
  ],
  ['a tunnel', `${TUN4} ${FLAGS} `, v4(50001)],
  ['a VLAN', `${TUN4} ${FLAGS} `.replace('tun0', 'va.7'), v4(50001)],
  ['options of IPv4', `${TUN4} ${SEQ}`.replace('DF ', 'DF OPT (94040000) '), v4(50001)],
  ['accurate ECN', `${TUN4} WINDOW=64240 RES=0x08 CWR ECE SYN URGP=0 `, v4(50001)],
  ['urgent and pushed data', `${TUN4} WINDOW=64240 RES=0x00 URG PSH SYN URGP=0 `, v4(50001)],
  ['a header of IPv6 options', `[   27.480000] ${TUN6} OPT ( ) PROTO=TCP SPT=60776 DPT=50001 ${SEQ}`, v6(50001)],
  ['a first fragment', `[   27.530000] ${TUN6} FRAG:0 INCOMPLETE ID:00001234 ${UDP6}`, v6(50002)],
  ['a first fragment, with options', `[   27.530000] ${TUN6} OPT ( FRAG:0 INCOMPLETE ID:00001234 ) ${UDP6}`, v6(50002)],
  ['an only fragment', `[   27.550000] ${TUN6} FRAG:0 ID:00001234 ${UDP6}`, v6(50002)],
  [
    'two headers of IPv6 options',
    `[   27.570000] ${TUN6} OPT ( ) OPT ( FRAG:0 ID:00001234 ) PROTO=TCP SPT=60776 DPT=50001 ${SEQ}`,
    v6(50001),
  ],
]

/** As ulogd 2.0.8 (NFLOG, LOGEMU) wrote them into its file, for the same packets. */
const ULOGD: [string, string, Tap][] = [
  [
    'TCP',
    `Nov 22 18:43:19 gate KNOCK:  IN=v0 OUT= ${MAC4} ${IP4} LEN=60 TOS=00 PREC=0x00 TTL=64 ID=6276 DF PROTO=TCP SPT=59840 DPT=50001 SEQ=2109880051 ACK=0 WINDOW=64240 SYN URGP=0 MARK=0x0 `,
    v4(50001),
  ],
  [
    'TCP over IPv6',
    `Nov 22 18:43:19 gate KNOCK:  IN=v0 OUT= ${MAC6} ${SHORT6} LEN=80 TC=0 HOPLIMIT=64 FLOWLBL=550359 PROTO=TCP SPT=60776 DPT=50001 SEQ=4194811910 ACK=0 WINDOW=64800 SYN URGP=0 MARK=0x0 `,
    v6(50001),
  ],
  [
    'TCP with a mark',
    `Nov 22 18:43:19 gate KNOCK:  IN=v0 OUT= ${MAC4} ${IP4} LEN=60 TOS=00 PREC=0x00 TTL=64 ID=18207 DF PROTO=TCP SPT=38456 DPT=50003 SEQ=1128550699 ACK=0 WINDOW=64240 SYN URGP=0 MARK=0x2a `,
    v4(50003),
  ],
  [
    'UDP',
    `Nov 22 18:43:19 gate KNOCK:  IN=v0 OUT= ${MAC4} ${IP4} LEN=28 TOS=00 PREC=0x00 TTL=64 ID=47424 DF PROTO=UDP SPT=41588 DPT=50002 LEN=8 MARK=0x0 `,
    v4(50002),
  ],
  [
    'UDP over IPv6',
    `Nov 22 18:43:19 gate KNOCK:  IN=v0 OUT= ${MAC6} ${SHORT6} LEN=48 TC=0 HOPLIMIT=64 FLOWLBL=209937 PROTO=UDP SPT=55427 DPT=50002 LEN=8 MARK=0x0 `,
    v6(50002),
  ],
  [
    'a tunnel',
    `Nov 29 17:00:23 gate KNOCK:  IN=tun0 OUT= MAC= ${IP4} LEN=60 TOS=1C PREC=0xC0 TTL=64 ID=6276 DF PROTO=TCP SPT=59840 DPT=50001 SEQ=2109880051 ACK=0 WINDOW=64240 SYN URGP=0 MARK=0x0 `,
    v4(50001),
  ],
  [
    'urgent and pushed data',
    `Nov 29 17:00:23 gate KNOCK:  IN=tun0 OUT= MAC= ${IP4} LEN=60 TOS=00 PREC=0x00 TTL=64 ID=6276 DF PROTO=TCP SPT=59840 DPT=50001 SEQ=2109880051 ACK=0 WINDOW=64240 URG PSH SYN URGP=0 MARK=0x0 `,
    v4(50001),
  ],
  [
    'a first fragment',
    `Nov 29 17:00:23 gate KNOCK:  IN=tun0 OUT= MAC= ${SHORT6} LEN=64 TC=0 HOPLIMIT=64 FLOWLBL=550359 FRAG: 0 ID: 00001234 PROTO=UDP SPT=55427 DPT=50002 LEN=8 MARK=0x0 `,
    v6(50002),
  ],
  [
    'an older one’s tunnel and mark',
    `Nov 29 17:00:23 gate KNOCK:  IN=tun0 OUT= MAC=45:00:00:4e ${IP4} LEN=28 TOS=00 PREC=0x00 TTL=64 ID=6276 PROTO=UDP SPT=41588 DPT=50002 LEN=8 MARK=2a `,
    v4(50002),
  ],
]

describe('a line of the kernel', () => {
  it.each([...KERNEL, ...KERNEL_6_1])('is a tap (%s)', (_, line, tap) => {
    expect(read(line)).toEqual(tap)
  })

  it.each([
    ['nothing', ''],
    ['the kernel’s time', '[    0.000001] '],
    ['who called printk', '[ 3329.127466] [   C1] '],
    ['who called printk, without a space', '[ 3329.127466][  T123] '],
    ['a priority', '<4>[ 3329.127466] '],
    ['a priority alone', '<4>'],
    ['what /dev/kmsg has', '4,154,41660000,-;'],
    ['what /dev/kmsg has, with who called printk', '4,154,41660000,-,caller=C1;'],
    ['what netconsole has', '6.1.176,4,154,41660000,-;'],
    ['dmesg’s facility and level', 'kern  :warn  : [   41.660000] '],
    ['dmesg’s date', '[Sun Nov 29 16:59:09 2026] '],
    ['dmesg’s ISO date', '2026-11-29T16:59:09,660000+00:00 '],
    ['dmesg’s delta', '[  +0.000010] '],
    ['dmesg’s time and delta', '[   41.660000 <    0.000000>] '],
    ['syslog', 'Nov 22 18:43:19 gate kernel: [ 3329.127466] '],
    ['syslog without a kernel’s time', 'Nov  2 18:43:19 gate kernel: '],
    ['syslog with a priority', '<4>Nov 22 18:43:19 gate kernel: [ 3329.127466] '],
    ['syslog with a year', 'Nov 22 2026 18:43:19 gate kernel: '],
    ['syslog of a host that is an address', 'Nov 22 18:43:19 2001:db8::1 kernel: [ 3329.127466] '],
    ['syslog of a host with a scope', 'Nov 22 18:43:19 fe80::1%eth0 kernel: '],
    ['syslog of a host with its domain', 'Nov 22 18:43:19 gate.example kernel: '],
    ['syslog of a relayed host', 'Nov 22 18:43:19 s_net@gate.example/relay kernel: [ 3329.127466] '],
    ['syslog without a space', 'Nov 29 16:59:47 gate kernel:'],
    ['syslog in columns', 'Nov 29 16:59:47\tgate\tkernel:\t'],
    ['an ISO time', '2026-11-22T18:43:19.127466+01:00 gate kernel: '],
    ['an ISO time in UTC', '2026-11-22T18:43:19Z gate kernel: [ 3329.127466] '],
    ['BusyBox’s syslogd', 'Nov 29 17:06:31 gate kern.warn kernel: [   31.130000] '],
    ['OpenWrt’s logread', 'Sun Nov 22 18:43:19 2026 kern.warn kernel: [ 3329.127466] '],
    ['RFC 5424', '<4>1 2026-11-22T18:43:19.127466+01:00 gate.example kernel - - - [ 3329.127466] '],
    [
      'RFC 5424 with structured data',
      '<4>1 2026-11-22T18:43:19.127466+01:00 gate.example kernel - - [timeQuality tzKnown="1" isSynced="1" syncAccuracy="3000"][origin ip="2001:db8::1" software="rsyslogd" swVersion="8.2302.0"] [ 3329.127466] ',
    ],
    ['RFC 5424 with syslog-ng’s structured data', '<4>1 2026-11-22T18:43:19+01:00 gate kernel - - [meta sequenceId="29"] '],
    ['journalctl’s short-monotonic', '[ 3329.127466] gate kernel: '],
    ['journalctl’s short-delta', '[ 3329.127466 <    0.000009 >] gate kernel: '],
    ['journalctl’s short-unix', '1763833399.127466 gate kernel: '],
    ['journalctl’s short-full', 'Sun 2026-11-22 18:43:19 CET gate kernel: '],
    ['a date that an administrator puts there', '22/Nov/2026:18:43:19 +0100 policy '],
    ['ulogd’s and an older time', 'Nov 22 18:43:19 gate '],
    ['300 characters and a space', `${'x'.repeat(300)} `],
  ])('may have in front of it %s', (_, head) => {
    expect(read(head + LINE)).toEqual(v4(50001))
  })

  it.each([
    ['a bridge', LINE.replace('OUT= ', 'OUT= PHYSIN=eth1 '), v4(50001)],
    ['a bridge to forward by', LINE.replace('OUT= ', 'OUT= PHYSIN=eth1 PHYSOUT=eth2 '), v4(50001)],
    ['no MAC', LINE.replace(`${MAC4} `, ''), v4(50001)],
    ['a tunnel of 6in4', LINE.replace(MAC4, `${MAC4} TUNNEL=192.0.2.2->192.0.2.1`), v4(50001)],
    [
      'a VLAN in a decoded Ethernet header',
      LINE.replace(MAC4, 'MACSRC=86:6c:92:ea:d6:73 MACDST=0e:3b:eb:86:73:76 VPROTO=8100 VID=10 MACPROTO=0800'),
      v4(50001),
    ],
    ['who owns the socket', `${LINE}UID=0 GID=0 `, v4(50001)],
    ['who owns the socket, and a mark', `${LINE}UID=0 GID=0 MARK=0x2a `, v4(50001)],
    ['an empty MAC', LINE.replace(MAC4, 'MAC='), v4(50001)],
    ['ECN', LINE.replace('SYN', 'CWR ECE SYN'), v4(50001)],
    ['a type of service', LINE.replace('TOS=0x00', 'TOS=0x1C').replace('PREC=0x00', 'PREC=0xC0'), v4(50001)],
    ['a longest name', LINE.replace('IN=v0', 'IN=abcdefghijklmno'), v4(50001)],
    ['an IPv4-mapped address', LINE.replace(IP4, 'SRC=::ffff:198.51.100.2 DST=::ffff:198.51.100.1'), v4(50001)],
    ['no space at its end', LINE.trimEnd(), v4(50001)],
    ['spaces at its end', `${LINE}  `, v4(50001)],
    ['a serial console’s end', `${LINE}\r`, v4(50001)],
    ['port 1', LINE.replace('DPT=50001', 'DPT=1'), v4(1)],
    ['port 65535', LINE.replace('DPT=50001', 'DPT=65535'), v4(65535)],
  ])('may have %s', (_, line, tap) => {
    expect(read(line)).toEqual(tap)
  })
})

describe('a line of ulogd', () => {
  it.each(ULOGD)('is a tap (%s)', (_, line, tap) => {
    expect(read(line)).toEqual(tap)
  })
})

describe('a line', () => {
  const udp = KERNEL[6][1]
  it.each([
    ['empty', ''],
    ['SYN and ACK', LINE.replace('SYN', 'ACK SYN')],
    ['ACK', LINE.replace('SYN', 'ACK')],
    ['RST', LINE.replace('SYN', 'RST')],
    ['RST and ACK', LINE.replace('SYN', 'ACK RST')],
    ['FIN', LINE.replace('SYN', 'FIN')],
    ['SYN and FIN', LINE.replace('SYN', 'SYN FIN')],
    ['SYN and RST', LINE.replace('SYN', 'RST SYN')],
    ['no flag', LINE.replace('SYN ', '')],
    ['ICMP', LINE.replace(/PROTO=.*/, 'PROTO=ICMP TYPE=8 CODE=0 ID=1 SEQ=1 ')],
    ['ICMP about UDP', LINE.replace(/PROTO=.*/, `PROTO=ICMP TYPE=3 CODE=3 [${udp.slice(udp.indexOf('SRC='))}] `)],
    ['SCTP', LINE.replace('PROTO=TCP', 'PROTO=SCTP')],
    ['a protocol’s number', LINE.replace(/PROTO=.*/, 'PROTO=47 ')],
    ['a later fragment', LINE.replace('DF PROTO=TCP SPT=59840 DPT=50001', 'FRAG:64 PROTO=TCP').replace(` ${FLAGS}`, '')],
    ['a cut header', LINE.replace(/PROTO=.*/, 'PROTO=TCP INCOMPLETE [4 bytes] ')],
    ['another prefix', LINE.replace('KNOCK: ', 'DROP: ')],
    ['a longer prefix', LINE.replace('KNOCK: ', 'XKNOCK: ')],
    ['a prefix in small letters', LINE.replace('KNOCK: ', 'knock: ')],
    ['no prefix', LINE.replace('KNOCK: ', '')],
    ['three spaces after the prefix', LINE.replace('KNOCK: ', 'KNOCK:   ')],
    ['no space after the prefix', LINE.replace('KNOCK: ', 'KNOCK:')],
    ['301 characters and a space in front', `${'x'.repeat(301)} ${LINE}`],
    ['17 parameters in front', `${'a="" '.repeat(17)} ${LINE}`],
    ['another’s field in front', `SRC=203.0.113.9 ${LINE}`],
    ['another’s field in structured data', `<4>1 - - - - - [x SRC="203.0.113.9"] ${LINE}`],
    ['a caller that is none', `caller=203.0.113.9 ${LINE}`],
    ['a line in front', `${LINE}${LINE}`],
    ['a line with its end', `${LINE}\n`],
    ['two ends of a serial console', `${LINE}\r\r`],
    ['an end of a serial console within', LINE.replace(' DST', '\r DST')],
    ['that the same line came again', 'Nov 22 18:43:19 gate last message repeated 3 times'],
    ['the same line again', `Nov 22 18:43:19 gate kernel: message repeated 2 times: [${LINE}]`],
    ['in colours', `\x1b[32m[  +0.000000] \x1b[0m\x1b[33mKNOCK: \x1b[0m${LINE.replace('KNOCK: ', '')}`],
    ['of JSON', JSON.stringify({ msg: LINE })],
    ['a later fragment of IPv6', `${TUN6} FRAG:1448 INCOMPLETE ID:00001234 PROTO=UDP `],
    ['a later fragment that has ports', `${TUN6} FRAG:1448 ID:00001234 ${UDP6}`],
    ['an authenticated header', `${TUN6} OPT ( AH SPI=0x1 ) ${UDP6}`],
    ['options that are cut off', `${TUN4} ${FLAGS} OPT (TRUNCATED)`],
    ['UDP-Lite', LINE.replace(/PROTO=.*/, 'PROTO=UDPLITE SPT=41588 DPT=50002 LEN=8 ')],
    ['a half decoded Ethernet header', LINE.replace(MAC4, DECODED)],
    ['two Ethernet headers', LINE.replace(MAC4, `${MAC4} ${DECODED} MACPROTO=0800`)],
    ['something behind', `${LINE}x`],
    ['a second port behind', `${LINE}DPT=50002`],
    ['a second SYN', LINE.replace('SYN', 'SYN SYN')],
    ['two spaces', LINE.replace(' DST', '  DST')],
    ['a tab', LINE.replace(' DST', '\tDST')],
    ['NUL', LINE.replace('TTL=64', 'TTL=\0')],
    ['NUL at its end', `${LINE}\0`],
    ['no source', LINE.replace('SRC=198.51.100.2', 'SRC=')],
    ['a source that is a name', LINE.replace('SRC=198.51.100.2', 'SRC=face')],
    ['a part over 255', LINE.replace('SRC=198.51.100.2', 'SRC=198.51.100.256')],
    ['three parts', LINE.replace('SRC=198.51.100.2', 'SRC=198.51.2')],
    ['a leading zero', LINE.replace('SRC=198.51.100.2', 'SRC=198.51.100.02')],
    ['nine groups', LINE.replace('SRC=198.51.100.2', 'SRC=1:2:3:4:5:6:7:8:9')],
    ['two gaps', LINE.replace('SRC=198.51.100.2', 'SRC=1::2::3')],
    ['a destination that is none', LINE.replace('DST=198.51.100.1', 'DST=198.51.100.')],
    ['port 0', LINE.replace('DPT=50001', 'DPT=0')],
    ['port 65536', LINE.replace('DPT=50001', 'DPT=65536')],
    ['port 99999', LINE.replace('DPT=50001', 'DPT=99999')],
    ['a port of six digits', LINE.replace('DPT=50001', 'DPT=050001')],
    ['a negative port', LINE.replace('DPT=50001', 'DPT=-1')],
    ['no port', LINE.replace('DPT=50001 ', '')],
    ['UDP with flags', udp.replace('LEN=8', FLAGS)],
    ['over-long', `${'x'.repeat(MAX_LINE)} ${LINE}`],
    ['over-long behind', `${LINE.trimEnd()} OPT (${'0'.repeat(MAX_LINE)})`],
    [
      'a packet on its way out',
      'KNOCK: IN= OUT=lo SRC=127.0.0.1 DST=127.0.0.1 LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=879 DF PROTO=TCP SPT=48236 DPT=50009 WINDOW=65495 RES=0x00 SYN URGP=0 UID=0 GID=0 ',
    ],
  ])('that is no tap: %s', (_, line) => {
    expect(read(line)).toBeNull()
  })

  it.each([
    ['behind an extension header', LINE.replace('PROTO=TCP', 'OPT ( ) PROTO=TCP'), 1],
    ['that is cut off', LINE.slice(0, 60), 1],
    ['that is over-long', `${LINE.trimEnd()} OPT (${'0'.repeat(MAX_LINE)})`, 1],
    ['in ulogd’s words', `Nov 22 18:43:19 gate KNOCK:  IN=v0 OUT= MAC= SRC=`, 1],
    ['that is a tap', LINE, 0],
    ['with another prefix', LINE.replace('KNOCK: ', 'DROP: ').slice(0, 60), 0],
    ['with the prefix behind another’s field', `SRC=203.0.113.9 ${LINE}`, 0],
    ['that is empty', '', 0],
  ])('with the prefix is told of where it can’t be read, and no other (%s)', (_, line, times) => {
    let told = 0
    logLineReader('KNOCK: ', () => told++)(line)
    expect(told).toBe(times)
  })

  it('that is none for one prefix is one for another', () => {
    expect(reader('DROP (x|y): ')(LINE.replace('KNOCK: ', 'DROP (x|y): '))).toEqual(v4(50001))
  })

  it('with a prefix full of signs is one for just that', () => {
    expect(reader('[.*] ')(LINE.replace('KNOCK: ', '[xy] '))).toBeNull()
  })
})

describe('a torn line', () => {
  // Told apart by their sources.
  const lines = [...KERNEL, ...KERNEL_6_1, ...ULOGD].map(([, line], i) => line.replace(/SRC=\S+/, `SRC=203.0.113.${i + 1}`))
  const line = fc.constantFrom(...lines)
  const cut = fc.nat(400)

  it('is null or its own tap', () => {
    fc.assert(
      fc.property(line, cut, (whole, at) => {
        expect([null, read(whole)]).toContainEqual(read(whole.slice(0, at)))
      }),
      { numRuns: 1000 },
    )
  })

  it('with the next one behind it never mixes the two', () => {
    fc.assert(
      fc.property(line, line, cut, (a, b, at) => {
        expect([null, read(a), read(b)]).toContainEqual(read(a.slice(0, at) + b))
      }),
      { numRuns: 2000 },
    )
  })

  it('with one before it never mixes the two', () => {
    fc.assert(
      fc.property(line, line, cut, (a, b, at) => {
        expect([null, read(a), read(b)]).toContainEqual(read(a + b.slice(at)))
      }),
      { numRuns: 2000 },
    )
  })
})

describe('the reader', () => {
  it('takes any text for no tap', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 5000 }), (text) => {
        expect(read(text)).toBeNull()
      }),
    )
  })

  it('takes any mixture of fields for no tap or for one that is in it', () => {
    const words = fc.constantFrom(...new Set([...LINE.split(' '), ...KERNEL[6][1].split(' '), 'SRC=203.0.113.9', 'DPT=7', 'ACK']))
    fc.assert(
      fc.property(fc.array(words, { maxLength: 40 }), (parts) => {
        const tap = read(`KNOCK: ${parts.join(' ')}`)
        expect(tap === null || (parts.includes(`SRC=${tap.source}`) && parts.includes(`DPT=${tap.port}`))).toBe(true)
      }),
    )
  })
})

describe('the line splitter', () => {
  function split(chunks: string[]) {
    const lines: string[] = []
    const { push, end } = lineSplitter((line) => lines.push(line))
    for (const chunk of chunks) push(chunk)
    end()
    return lines
  }

  it('gives the same lines however the text comes', () => {
    const text = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', '\n', ' '), maxLength: 8 }), { maxLength: 20 })
    fc.assert(
      fc.property(text, (chunks) => {
        const lines = chunks.join('').split('\n')
        expect(split(chunks)).toEqual(lines.at(-1) === '' ? lines.slice(0, -1) : lines)
      }),
    )
  })

  it('gives the same over-long line however it comes', () => {
    const text = `${'x'.repeat(3 * MAX_LINE)}\nnext\n`
    fc.assert(
      fc.property(fc.array(fc.nat(text.length), { maxLength: 20 }), (places) => {
        const cuts = [0, ...places.sort((a, b) => a - b), text.length]
        const chunks = cuts.slice(1).map((to, i) => text.slice(cuts[i], to))
        expect(split(chunks)).toEqual(['x'.repeat(MAX_LINE + 1), 'next'])
      }),
    )
  })

  it('keeps no more of an endless line than makes it over-long', () => {
    const lines: string[] = []
    const { push, end } = lineSplitter((line) => lines.push(line))
    const chunk = 'x'.repeat(65_536)
    for (let i = 0; i < 1_000; i++) push(chunk)
    end()
    expect(lines).toEqual(['x'.repeat(MAX_LINE + 1)])
  })
})

describe('standard input', () => {
  /** What a source hears of a stream, chunk by chunk, until its end. */
  async function hear(chunks: (string | Uint8Array)[]) {
    const input = new PassThrough()
    const taps: (Tap | null)[] = []
    const source = stdinSource('KNOCK: ', input)
    const ended = new Promise<void>((resolve) => source.start((tap) => taps.push(plain(tap)), resolve))
    for (const chunk of chunks) input.write(chunk)
    input.end()
    await ended
    return { taps, counters: source.counters }
  }

  it('gives the taps of its lines and counts the others', async () => {
    expect(await hear([`${LINE}\nhello\n${KERNEL[6][1]}\n`])).toEqual({
      taps: [v4(50001), v4(50002)],
      counters: { seen: 3, ignored: 1, unreadable: 0, dropped: null },
    })
  })

  it('has a last line without an end', async () => {
    expect((await hear([LINE])).taps).toEqual([v4(50001)])
  })

  it('goes on after bytes that are no UTF-8', async () => {
    const { taps, counters } = await hear([Uint8Array.of(0xff, 0xc3, 10), Uint8Array.of(0xe2, 0x82), `\n${LINE}\n`])
    expect({ taps, ignored: counters.ignored }).toEqual({ taps: [v4(50001)], ignored: 2 })
  })

  it('goes on after an over-long line', async () => {
    expect((await hear(['x'.repeat(100_000), `${LINE}\n`, `${LINE}\n`])).taps).toEqual([v4(50001)])
  })

  it('hears a line of a serial console, which ends in CRLF', async () => {
    expect((await hear([`${LINE}\r\n`])).taps).toEqual([v4(50001)])
  })
})
