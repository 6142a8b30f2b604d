// What a listener replays: over the other protocol, a datagram, a passcode.

import { hkdfSync } from 'node:crypto'
import { appendFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { base32nopad } from '@scure/base'
import { generateSync } from 'otplib'
import { logged } from '../lab/gate'
import { against } from './any-door'
import type { Attack } from './attack'
import { LEASE, openOurs } from './doors'
import { honestly, type Ours, OVER, onOurs, playTwice, record, refused } from './on-ours'

export const otherProtocol: Attack = {
  kind: 'replay',
  name: 'packets of a knock, over the other protocol',
  what: 'A listener sends over UDP what was sent over TCP, and the other way round.',
  run: onOurs(async (stage, door, { times }) => {
    const { honest, knock } = honestly(stage, door)
    const broken: string[] = []
    let [tried, opened] = [0, 0]
    for (let i = 0; i < times(2, 20); i++) {
      for (const [options, protocol] of [
        [[], 'udp'],
        [['--udp'], 'tcp'],
      ] as const) {
        const address = await knock(...options)
        const touches = (await stage.heard(address)).map(({ port }) => ({ protocol, port }))
        const as = await stage.another(stage.attacker)
        await stage.attacker.replay(touches, stage.server.ipv4, as)
        await refused(door, as, 'replayed', broken)
        tried++
        opened += await stage.open(stage.attacker, [as])
      }
    }
    return { tried, opened, honest, broken }
  }),
}

const DATAGRAMS = 443

export const datagram: Attack = {
  kind: 'datagram',
  name: 'packets of a datagram',
  what: "A listener replays recorded datagram knocks from addresses of their own and from the users', before and after the daemon is killed and started again.",
  run: (scale) =>
    against({ open: (stage) => openOurs(stage, [], { more: `[datagram]\nports = [${DATAGRAMS}]\n` }) }, async (stage, door) => {
      const { honest, knock } = honestly(stage, door)
      const byDatagram = () => knock('--datagram', String(DATAGRAMS))
      const knocks = await record(stage, byDatagram, scale.times(3, 30))
      return { honest, ...(await playTwice(stage, door, knocks, 1, byDatagram)) }
    }),
}

/** A passcode's PIN, its first port, and its taps. */
const PIN = '0417'
const PASSCODE_BASE = 48_000
const DIGITS = 12

/** Gives the door's key a passcode. @returns what sends the ports of the current PIN and code */
async function enrol(door: Ours) {
  const { keys, config, knockturn } = door.gate
  const file = join(keys, 'traveller.key')
  const secret = base32nopad.decode(/^secret = "(\w+)"/m.exec(readFileSync(file, 'latin1'))?.[1] ?? '')
  // docs/protocol.md, "Derivation".
  const totp = new Uint8Array(hkdfSync('sha256', secret, 'knockturn/1', 'totp\0gate.example', 20))
  const since = door.daemon.lines.length
  appendFileSync(file, `\n[passcode]\npin = "${PIN}"\ntime = "${LEASE}s"\nonce = false\n`)
  await door.daemon.line(logged('reloaded'), since)
  await knockturn('firewall', 'install', '--config', config)
  return () => {
    const code = generateSync({ secret: totp, algorithm: 'sha1', digits: 8, period: 30, epoch: Math.floor(Date.now() / 1000) })
    return Array.from(PIN + code, (digit, i) => ({ protocol: 'tcp', port: PASSCODE_BASE + 10 * i + Number(digit) }))
  }
}

export const passcode: Attack = {
  kind: 'passcode',
  name: 'packets of a passcode',
  what: "A listener replays a recorded passcode from an address of their own and from its user's, before and after the daemon is killed and started again.",
  run: onOurs(async (stage, door) => {
    const { user, server } = stage
    const { honest, knock } = honestly(stage, door)
    const touches = await enrol(door)
    const address = await stage.another(user)
    honest.tried++
    honest.opened += Number(await stage.opens(user, address, () => user.replay(touches(), server.ipv4, address)))
    const knocks = [{ address, packets: await stage.recorded(address) }]
    await sleep(OVER)
    return { honest, ...(await playTwice(stage, door, knocks, DIGITS, knock)) }
  }),
}
