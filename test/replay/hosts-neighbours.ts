// Honest users beside each other.

import { setTimeout as sleep } from 'node:timers/promises'
import { logged } from '../lab/gate'
import { knock as knockclient } from '../lab/knocks'
import type { Attack } from './attack'
import { LEASE } from './doors'
import { OVER, onOurs } from './on-ours'
import { SSH } from './stage'

export const neighbours: Attack[] = [
  {
    kind: 'neighbours',
    name: 'two users behind one NAT address',
    what: 'Two users with their own keys knock at the same moment from behind one router: nobody attacks, both doors must open, and no alarm may be logged.',
    isOfRules: true,
    run: onOurs(
      async (stage, door, { times }) => {
        const { server, user, lab, attacker } = stage
        const { alice, bob } = lab.hosts
        const doors = [SSH, SSH + 1]
        await server.service(doors[1])
        const keys = [door.gate.key, await door.gate.newKey('bob', '--services', `${doors[1]}/tcp`, '--max', '1h')]
        await door.daemon.line(logged('reloaded', { keys: 2 }))
        // The user's host is the router: its neighbours reach the server only through it.
        await user.must(['sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward'])
        await user.must(['iptables', '-t', 'nat', '-A', 'POSTROUTING', '-s', '10.0.0.0/24', '-j', 'MASQUERADE'])
        await user.addAddress('10.0.0.1/24')
        for (const [i, host] of [alice, bob].entries()) {
          await host.addAddress(`10.0.0.${i + 2}/24`)
          await host.must(['ip', 'route', 'replace', `${server.ipv4}/32`, 'via', '10.0.0.1', 'src', `10.0.0.${i + 2}`])
        }
        const honest = { tried: 0, opened: 0 }
        let tried = 0
        for (let i = 0; i < times(2, 20); i++) {
          const users = [alice, bob].map((host, at) => ({ host, port: doors[at] ?? SSH, key: keys[at] ?? '' }))
          const knocks = users.map(({ host, port, key }) =>
            host.must(knockclient({ key }, '-p', String(port), '-t', `${LEASE}s`)),
          )
          // Checked meanwhile: the first pass opens, and what it opens may have closed again after the second.
          const doorsOpen = users.map(({ host, port }) =>
            host.becomes(server.ipv4, port, 'open').then(
              () => true,
              () => false,
            ),
          )
          await Promise.all(knocks)
          const opened = await Promise.all(doorsOpen)
          honest.tried += opened.length
          honest.opened += opened.filter(Boolean).length
          tried++
          await sleep(OVER)
        }
        const refused = door.lines().filter(logged('refused'))
        return { tried, opened: await stage.open(attacker, [attacker.ipv4]), honest, broken: refused }
      },
      [],
      ['alice', 'bob'],
    ),
  },
]
