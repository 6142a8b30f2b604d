import { chownSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, it } from 'vitest'
import { logged } from '../lab/gate'
import { knocked } from '../lab/knocks'
import { useGate } from './use-gate'

/* A server of version 0.1.0, as that version has left it: its rules, its ledger and its key. Only the leases' ends are of today. */

const SSH = 22
const WEB = 443
const FINGERPRINT = '8edf682848ab83d925f6c5bab8d46ebb'
const KEY = `# A Knockturn key. Whoever can read this file can knock: keep it at mode 0600.
id = "traveller"
secret = "THZKQ4QY7WQ3IHN3KZ4FRTMNB4KCI5N3U7WFTOBOIZ7EQDMHEOBA"
server = "gate.example"
period = 30
pool = "49152-65535"
created = 2026-11-30T11:54:05.000Z
host = "198.51.100.1"
`
const GRANT = `
[grant]
services = [ "22/tcp", "443/tcp" ]
max = "1h"
addresses = [ "0.0.0.0/0", "::/0" ]
bind_source = true
require_address = false
allow_until_closed = true
lock = true
open_prefix = 32
open_prefix6 = 128
`
const LEDGER = `knockturn-ledger 1 0000000000000240
spent ${FINGERPRINT} 30 59867988 783c7a74be4c923a1590c183dae75a59 59867986 e53ac8d9
spent ${FINGERPRINT} 30 59867988 f74930b6e3eb5a7e70a25817c0340494 59867986 0947ae88
`
const LIMIT =
  '-m hashlimit --hashlimit-upto 2000/sec --hashlimit-burst 2000 --hashlimit-mode srcip --hashlimit-name knockturn --hashlimit-htable-size 65536 --hashlimit-htable-max 262144 --hashlimit-htable-gcinterval 500'
const LOG = '-j NFLOG --nflog-prefix "KNOCK: " --nflog-group 5 --nflog-threshold 1'
const rules = (leases: string) => `*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KNOCKTURN - [0:0]
:KNOCKTURN-LEASES - [0:0]
:KNOCKTURN-TAPS - [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p icmpv6 -j ACCEPT
-A INPUT -j KNOCKTURN
-A KNOCKTURN -j KNOCKTURN-LEASES
-A KNOCKTURN -j KNOCKTURN-TAPS
${leases}-A KNOCKTURN-TAPS -p tcp -m tcp --dport 49152:65535 --tcp-flags FIN,SYN,RST,ACK SYN ${LIMIT} ${LOG}
-A KNOCKTURN-TAPS -p udp -m udp --dport 49152:65535 -m conntrack ! --ctstate RELATED,ESTABLISHED ${LIMIT} ${LOG}
-A KNOCKTURN-TAPS ! -i lo -p tcp -m tcp --dport 49152:65535 -m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP
-A KNOCKTURN-TAPS ! -i lo -p udp -m udp --dport 49152:65535 -m conntrack ! --ctstate RELATED,ESTABLISHED -j DROP
COMMIT
`
const lease = (id: string, address: string, port: number, minutes: number, once = '') => {
  const stop = new Date(Date.now() + minutes * 60_000).toISOString().slice(0, 19)
  return `-A KNOCKTURN-LEASES -s ${address}/32 -p tcp -m tcp --dport ${port} -m time --datestop ${stop} ${once}-m comment --comment "knockturn:lease:${id}:traveller:${FINGERPRINT}" -j ACCEPT\n`
}
const ONCE =
  '-m conntrack --ctstate NEW -m hashlimit --hashlimit-upto 1/day --hashlimit-burst 1 --hashlimit-mode srcip --hashlimit-name ktf74930b6 '

const { server, client, stranger, gate, lab } = useGate(['client', 'stranger'], { serve: [SSH, WEB], backend: 'iptables' })
let copy = ''

beforeAll(async () => {
  await gate.daemon.end()
  const folder = lab.folder()
  for (const [restore, leases] of [
    ['iptables-restore', lease('783c7a74', client.ipv4, SSH, 45) + lease('f74930b6', client.ipv4, WEB, 10, ONCE)],
    ['ip6tables-restore', ''],
  ] as const) {
    const file = join(folder, restore)
    writeFileSync(file, rules(leases).replace(restore === 'iptables-restore' ? /^.*icmpv6.*\n/m : /^$/m, ''))
    await server.must([restore, file])
  }
  for (const [path, text] of [
    [join(gate.keys, 'traveller.key'), KEY + GRANT],
    [gate.ledger, LEDGER],
  ] as const) {
    writeFileSync(path, text, { mode: 0o600 })
    chownSync(path, gate.user.uid, gate.user.gid)
  }
  copy = join(folder, 'traveller.key')
  writeFileSync(copy, KEY, { mode: 0o600 })
  gate.daemon = await gate.startDaemon()
})

it('an open lease of version 0.1.0 stays open, and its one connection is still one', async () => {
  await gate.daemon.line(logged('restored', { kept: 2, swept: 0 }))
  const sees = async (port: number) => [
    (await client.connect(server.ipv4, port)).saw,
    (await stranger.connect(server.ipv4, port)).saw,
  ]
  expect(await sees(SSH)).toEqual(['open', 'silence'])
  expect(await sees(WEB)).toEqual(['open', 'silence'])
  expect(await sees(WEB)).toEqual(['silence', 'silence'])
})

it.each(['ipv4', 'ipv6'] as const)('the next knock with a key of version 0.1.0 opens, over %s', async (family) => {
  await client.moveOn()
  expect((await client.connect(server[family], SSH)).saw).toBe('silence')
  const flag = family === 'ipv4' ? '-4' : '-6'
  await knocked(client, gate.daemon, copy, '-r', server[family], flag, '-p', String(SSH))
  expect((await client.connect(server[family], SSH)).saw).toBe('open')
})
