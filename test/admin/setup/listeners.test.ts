import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { bounded, holderOf, parsePublished, parseSockets } from '../../../src/admin/setup/listeners'
import { formatService } from '../../../src/protocol/service'

/** As `ss -Hltunpe` of iproute2 6.15 prints them. */
const SOCKETS = `udp   UNCONN 0      0            127.0.0.53%lo:53         0.0.0.0:*    users:(("systemd-resolve",pid=612,fd=14)) uid:991 ino:5241 sk:1001 cgroup:/system.slice/systemd-resolved.service <->
udp   UNCONN 0      0              0.0.0.0%eth0:68         0.0.0.0:*    users:(("dhcpcd",pid=700,fd=5)) ino:5242 sk:1002 cgroup:/ <->
udp   UNCONN 0      0                   0.0.0.0:51820      0.0.0.0:*    ino:5243 sk:1003 cgroup:unreachable:1 <->
udp   UNCONN 0      0      [fe80::1]%eth0:546         [::]:*    users:(("dhcpcd",pid=700,fd=6)) ino:5244 sk:1004 cgroup:/ v6only:1 <->
tcp   LISTEN 0      128                 0.0.0.0:22         0.0.0.0:*    users:(("sshd",pid=800,fd=7)) ino:5245 sk:1005 cgroup:/system.slice/ssh.service <->
tcp   LISTEN 0      4096                  [::1]:631           [::]:*    users:(("cupsd",pid=801,fd=7)) ino:5246 sk:1006 cgroup:/ v6only:1 <->
tcp   LISTEN 0      511                       *:80               *:*    users:(("nginx",pid=803,fd=6),("nginx",pid=802,fd=6)) ino:5247 sk:1007 cgroup:/ v6only:0 <->
tcp   LISTEN 0      128                    [::]:22            [::]:*    users:(("sshd",pid=800,fd=8)) ino:5248 sk:1008 cgroup:/ v6only:1 <->
tcp   LISTEN 0      128      [::ffff:127.0.0.1]:8000             *:*    users:(("java",pid=900,fd=8)) uid:1000 ino:5249 sk:1009 cgroup:/ v6only:0 <->
tcp   LISTEN 0      128                 0.0.0.0:8443       0.0.0.0:*    users:(("a (b) \\"c",pid=901,fd=8)) uid:1000 ino:5250 sk:1010 cgroup:/ <->
`
const names = (text: string) => parseSockets(text).found.map(({ service }) => formatService(service))

describe('what listens, as ss prints it', () => {
  it('is each socket that others can reach, and none of loopback', () => {
    expect(names(SOCKETS)).toEqual(['68/udp', '51820/udp', '546/udp', '22/tcp', '80/tcp', '22/tcp', '8443/tcp'])
    expect(parseSockets(SOCKETS).unknown).toEqual([])
  })

  it('has its programs, each once', () => {
    const found = new Map(parseSockets(SOCKETS).found.map((one) => [formatService(one.service), one]))
    expect([...found].map(([name, one]) => [name, holderOf(one)])).toEqual([
      ['68/udp', 'dhcpcd'],
      ['51820/udp', 'the kernel'],
      ['546/udp', 'dhcpcd'],
      ['22/tcp', 'sshd'],
      ['80/tcp', 'nginx'],
      ['8443/tcp', 'a (b) \\"c'],
    ])
  })

  it("is an ordinary user's where one of its fields says so, whatever the program calls itself", () => {
    const as = (program: string, uid: string) =>
      parseSockets(`tcp LISTEN 0 1 *:1194 *:* users:(("${program}",pid=1,fd=3)) ${uid}ino:1 sk:1 cgroup:/ <->`).found[0]
        ?.isSystems
    expect([as('openvpn', ''), as('openvpn', 'uid:104 ')]).toEqual([true, true])
    for (const program of ['openvpn', ' uid:0 ', '",pid=1,fd=3))', 'a)) uid:0 ino:1'])
      expect(as(program, 'uid:1000 ')).toBe(false)
  })

  it('is never left out for want of room where it is the system’s, however many sockets a local user has', () => {
    const socket = (port: number, uid: string) =>
      `tcp LISTEN 0 1 *:${port} *:* users:(("x",pid=1,fd=3)) ${uid}ino:1 sk:1 cgroup:/ <->`
    const theirs = Array.from({ length: 2_000 }, (_, i) => socket(1_024 + i, 'uid:1000 '))
    const { found, unknown } = bounded(parseSockets([...theirs, socket(51_820, '')].join('\n')))
    expect([found.length, formatService(found[0].service)]).toEqual([1_024, '51820/tcp'])
    expect(unknown).toEqual(['more than 1024 services listen: the rest is left out'])
  })

  it('is said to be unknown where a line cannot be read', () => {
    expect(parseSockets('tcp LISTEN 0 128 nonsense\nsctp LISTEN 0 128 *:22 *:*\n')).toEqual({
      found: [],
      unknown: ['2 lines of ss cannot be read: what they are about is left out'],
    })
  })

  it('never throws, and never has a port that is none', () => {
    const piece = fc.constantFrom(
      'tcp',
      'udp',
      'LISTEN',
      '0',
      '*:22',
      '[::]:0',
      '1.2.3.4:70000',
      'users:(("',
      '",pid=1',
      '\n',
      ' ',
    )
    fc.assert(
      fc.property(fc.array(fc.oneof(piece, fc.string()), { maxLength: 40 }), (parts) => {
        for (const { service } of parseSockets(parts.join(' ')).found) {
          expect(service.port).toBeGreaterThan(0)
          expect(service.port).toBeLessThan(65536)
        }
      }),
    )
  })
})

describe('what containers publish', () => {
  it.each([
    ['0.0.0.0:8080->80/tcp, [::]:8080->80/tcp', ['8080/tcp', '8080/tcp']],
    [':::5432->5432/tcp', ['5432/tcp']],
    ['0.0.0.0:8000-8002->8000-8002/udp', ['8000/udp', '8001/udp', '8002/udp']],
    ['127.0.0.1:9000->9000/tcp, [::1]:9000->9000/tcp', []],
    ['443/tcp, 80/tcp', []],
    ['', []],
    ['0.0.0.0:9->9/tcp\n0.0.0.0:10->9/tcp', ['9/tcp', '10/tcp']],
    ['0.0.0.0:70000->80/tcp', []],
    ['0.0.0.0:9-1->80/tcp', []],
  ])('is of %j: %j', (text, expected) => {
    expect(parsePublished(text).map(formatService)).toEqual(expected)
  })

  it('is bounded', () => {
    expect(parsePublished('0.0.0.0:1-65535->1-65535/tcp').length).toBe(256)
  })
})
