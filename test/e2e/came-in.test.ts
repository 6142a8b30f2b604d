import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { bundleForNode } from '../../src/build/bundle.mjs'
import { logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { knocked } from '../lab/knocks'
import { Lab } from '../lab/lab'
import { BIN } from '../root'
import { OwnEtc } from './own-etc'

/* Who has come in by a knock, as real leases and connections tell. */

const SSH = 22
const SET_UP = `
  set -e
  install -d -m 700 /etc/knockturn/keys /var/lib/knockturn
  printf '%s\\n' 'server = "gate.example"' '[firewall]' "backend = \\"$2\\"" 'guard = ["22/tcp"]' > /etc/knockturn/knockturn.toml
  "$0" "$1/knockturn" key new alice --host 198.51.100.1 --services 22/tcp
  "$0" "$1/knockturn" key export alice --out "$3"
  "$0" "$1/knockturn" firewall install`
/** Another firewall, behind ours, that lets nobody in. */
const DROP =
  'add table inet other; add chain inet other input { type filter hook input priority 5; }; add rule inet other input tcp dport 22 ct state new drop'

describe.each(['nftables', 'iptables'])('with %s', (backend) => {
  const lab = new Lab(['client'])
  const { server, client } = lab.hosts as { server: Host; client: Host }
  const place = new OwnEtc(server)
  const program = join(mkdtempSync(join(tmpdir(), 'came-in-')), 'came-in.cjs')
  let before = ''
  const who = async () => JSON.parse(await place.must([process.execPath, program, 'who'], { input: before }))

  beforeAll(async () => {
    await lab.build()
    await server.service(SSH)
    await place.mount()
    await bundleForNode({ entryPoints: [join(import.meta.dirname, 'came-in.ts')], outfile: program, format: 'cjs' })
  })
  afterAll(() => lab.end())

  it('somebody has come in when a new connection is there through a lease, and no sooner', async () => {
    const old = await client.hold(server.ipv4, SSH)
    before = await place.must([process.execPath, program, 'before'])
    expect(JSON.parse(before)).toEqual([expect.stringMatching(new RegExp(`^${client.ipv4} \\d+ ${server.ipv4} 22$`))])
    // There is no config yet.
    expect(await who()).toBeNull()
    const key = join(lab.folder(), 'alice.key')
    await place.sh(SET_UP, process.execPath, BIN, backend, key)
    const daemon = place.start([process.execPath, join(BIN, 'knockdaemon'), '--allow-root', '--new-ledger'])
    await daemon.line(logged('ready'))
    await knocked(client, daemon, key, '-p', `${SSH}`, '-t', '10m')
    // A lease alone, and what was there before.
    expect([await old.isAlive(), await who()]).toEqual([true, null])
    await server.must(['nft', DROP])
    expect((await client.connect(server.ipv4, SSH)).saw).toBe('silence')
    expect(await who()).toBeNull()
    await server.must(['nft', 'delete table inet other'])
    const session = await client.hold(server.ipv4, SSH)
    expect(await who()).toEqual({ address: client.ipv4, service: '22/tcp', key: 'alice' })
    // By the trial's own list it is one of before.
    await place.must([join(BIN, 'knockturn-trial'), 'begin', '600'])
    before = await place.must([process.execPath, program, 'before'])
    expect(await who()).toBeNull()
    await place.must([join(BIN, 'knockturn-trial'), 'confirm'])
    await session.end()
    // "ssh" by "knockclient connect" has a lease for one connection.
    await knocked(client, daemon, key, '--close')
    before = await place.must([process.execPath, program, 'before'])
    await knocked(client, daemon, key, '-p', `${SSH}`, '--once')
    expect(await who()).toBeNull()
    const single = await client.hold(server.ipv4, SSH)
    expect(await who()).toEqual({ address: client.ipv4, service: '22/tcp', key: 'alice' })
    await single.end()
  })
})
