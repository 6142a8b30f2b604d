// Attacks on the client, in a café whose network belongs to the attacker: what it is told, and where it sends. The daemon is the real one.

import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { forgeStun, serveStun } from '../e2e/stun'
import { logged } from '../lab/gate'
import type { Host } from '../lab/host'
import { knock as knockclient } from '../lab/knocks'
import { BIN } from '../root'
import { against } from './any-door'
import type { Attack } from './attack'
import { openOurs } from './doors'
import { HEARD } from './on-ours'
import { SSH, type Stage } from './stage'

const KNOCKCLIENT = join(BIN, 'knockclient')
/** Their addresses in the café's own network, a /24. */
const [ROUTER, GUEST] = ['10.0.0.1', '10.0.0.2']
/** The client's exit status for a call that it refuses. */
const USAGE = 2

/** Puts a host behind the attacker: everything that it sends passes the attacker, and leaves with a source address that they choose. */
async function seat({ attacker }: Stage, guest: Host) {
  await attacker.addAddress(`${ROUTER}/24`)
  await attacker.must([
    'sysctl',
    '-qw',
    'net.ipv4.ip_forward=1',
    'net.ipv4.conf.all.send_redirects=0',
    'net.ipv4.conf.eth0.send_redirects=0',
  ])
  await guest.must(['ip', '-4', 'address', 'flush', 'dev', 'eth0', 'scope', 'global'])
  await guest.addAddress(`${GUEST}/24`)
  await guest.must(['ip', 'route', 'add', 'default', 'via', ROUTER])
  return async (address: string) => {
    await attacker.must(['iptables', '-t', 'nat', '-F', 'POSTROUTING'])
    await attacker.must(['iptables', '-t', 'nat', '-A', 'POSTROUTING', '-s', GUEST, '-j', 'SNAT', '--to-source', address])
  }
}

const forgedStun: Attack = {
  kind: 'cafe',
  name: 'a forged STUN answer',
  what: "A café's network answers in place of a STUN server that the guest has the forger's address, hears the knock for it, and replays that from there.",
  run: ({ times }) =>
    against(
      { open: (stage: Stage) => openOurs(stage, ['--require-address']) },
      async (stage, door) => {
        const { attacker, server, lab, another } = stage
        const { guest, helper } = lab.hosts
        await serveStun(helper)
        const loose = await door.gate.newKey('loose', '--services', `${SSH}/tcp`, '--require-address', '--no-bind-source')
        await door.daemon.line(logged('reloaded', { keys: 2 }))
        await helper.must(['ip', 'route', 'add', '10.0.0.0/8', 'dev', 'eth0'])
        const nameGuest = await seat(stage, guest)
        const knock = (key: string, ...options: string[]) =>
          guest.run(knockclient({ key }, ...door.lease, '--passes', '1', '-i', 'auto', '--stun', helper.ipv4, ...options))
        const broken: string[] = []
        const honest = { tried: 0, opened: 0 }
        let [tried, opened] = [0, 0]
        for (let i = 0; i < times(2, 10); i++) {
          for (const key of [door.gate.key, loose]) {
            const [seen, as] = [await another(attacker), await another(attacker)]
            await nameGuest(seen)
            const forger = await forgeStun(attacker, ROUTER, as)
            const { code } = await knock(key)
            const said = await stage.heard(seen)
            await attacker.replay(said, server.ipv4, as)
            await sleep(HEARD)
            tried++
            opened += await stage.open(attacker, [as])
            if (code !== USAGE) broken.push(`expected exit ${USAGE} of the client, got ${code}`)
            if (said.length > 0) broken.push(`the client sent ${said.length} packets`)
            // It proves something: anyone who trusts the answer knocks for the forger.
            const since = door.daemon.lines.length
            await knock(door.gate.key, '--stun-trusted')
            await door.daemon
              .line(logged('refused', { refusal: 'address-mismatch', source: seen, address: as }), since)
              .catch(() => broken.push('a forged answer that is trusted does not name the forger'))
            await forger.end()
            // With nobody in between, this is how to get in.
            honest.tried++
            honest.opened += Number(await stage.opens(guest, GUEST, () => knock(key, '--stun-trusted')))
          }
        }
        return { tried, opened, honest, broken }
      },
      'guest',
      'helper',
    ),
}

const wrongHost: Attack = {
  kind: 'cafe',
  name: 'a knock at the wrong host',
  what: "A user's client gets the attacker's host, by a typing error or because ssh uses it for every host; the attacker replays to the key's server what they hear.",
  run: ({ times }) =>
    against({ open: openOurs }, async (stage, door) => {
      const { user, attacker, server, lab, another } = stage
      const folder = lab.folder()
      const place = (name: string) => join(folder, 'knockturn', name)
      mkdirSync(place('keys'), { recursive: true, mode: 0o700 })
      copyFileSync(door.gate.key, place('keys/traveller.key'))
      writeFileSync(
        place('config.toml'),
        `[profile.wrong]\nhost = "${attacker.ipv4}"\nservices = ${SSH}\ntime = "2s"\npasses = 1\n`,
      )
      const client = (...words: string[]) => user.run([KNOCKCLIENT, ...words], { env: { XDG_CONFIG_HOME: folder } })
      const options = ['-t', '2s', '--wait', '1']
      const mistakes = [
        ['connect', attacker.ipv4, String(SSH), ...options],
        ['connect', attacker.ipv4, String(SSH), '-k', 'traveller', ...options],
        ['connect', attacker.ipv6, String(SSH), ...options],
        ['exec', attacker.ipv4, '-p', String(SSH), ...options, '--', 'true'],
        ['connect', 'wrong', String(SSH), '--wait', '1'],
        ['wrong'],
      ]
      const broken: string[] = []
      const honest = { tried: 0, opened: 0 }
      let [tried, opened] = [0, 0]
      for (let i = 0; i < times(1, 5); i++) {
        for (const words of mistakes) {
          const [address, as] = [await another(user), await another(attacker)]
          await stage.speakFrom(user, address)
          const { result, taps } = await stage.arriving(() => client(...words))
          const { code } = result
          const ours = [user.ipv4, user.ipv6]
          const said = taps.filter(({ source, port }) => ours.includes(source) && port !== SSH)
          await attacker.replay(said, server.ipv4, as)
          await sleep(HEARD)
          tried++
          opened += await stage.open(attacker, [as])
          if (code !== USAGE) broken.push(`expected exit ${USAGE} of "${words.join(' ')}", got ${code}`)
          if (said.length > 0) broken.push(`"${words.join(' ')}" sent ${said.length} packets`)
          honest.tried++
          const { stdout } = await client('connect', server.ipv4, String(SSH))
          honest.opened += Number(stdout.startsWith('welcome'))
        }
      }
      return { tried, opened, honest, broken }
    }),
}

const namedLikeHost: Attack = {
  kind: 'cafe',
  name: 'a key named like another host',
  what: "A user is given a key that is named like one of their hosts and is for the attacker's: their connection to that host goes to the attacker.",
  run: ({ times }) =>
    against({ open: openOurs }, async (stage, door) => {
      const { user, attacker, server, lab } = stage
      const folder = lab.folder()
      const keys = join(folder, 'knockturn', 'keys')
      mkdirSync(keys, { recursive: true, mode: 0o700 })
      copyFileSync(door.gate.key, join(keys, 'traveller.key'))
      const given = readFileSync(door.gate.key, 'utf8').replace(/^id = .*/m, 'id = "prod.example"')
      writeFileSync(join(keys, 'prod.example.key'), given.replaceAll(server.ipv4, attacker.ipv4), { mode: 0o600 })
      const client = (...words: string[]) => user.run([KNOCKCLIENT, ...words], { env: { XDG_CONFIG_HOME: folder } })
      const options = ['-t', '2s', '--wait', '1']
      const broken: string[] = []
      const honest = { tried: 0, opened: 0 }
      let [tried, opened] = [0, 0]
      for (let i = 0; i < times(1, 5); i++) {
        for (const words of [
          ['connect', 'prod.example', String(SSH), ...options],
          ['connect', 'prod.example', String(SSH), '-k', 'prod.example', ...options],
          ['exec', 'prod.example', '-p', String(SSH), ...options, '--', 'true'],
        ]) {
          const { result, taps } = await stage.arriving(() => client(...words))
          const { code } = result
          const said = taps.filter(({ source }) => source === user.ipv4)
          tried++
          opened += Number(said.length > 0)
          if (code !== USAGE) broken.push(`expected exit ${USAGE} of "${words.join(' ')}", got ${code}`)
        }
        honest.tried++
        const { stdout } = await client('connect', 'traveller', String(SSH))
        honest.opened += Number(stdout.startsWith('welcome'))
      }
      return { tried, opened, honest, broken }
    }),
}

export const cafe: Attack[] = [forgedStun, wrongHost, namedLikeHost]
