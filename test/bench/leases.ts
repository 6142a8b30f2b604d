// What one more lease costs beside many others: wanted → in force in nftables, as the daemon brings it about. `fill COUNT` has so many in force,
// and `measure COUNT` opens some more, in a process that has found these.

import pino from 'pino'
import { Doors } from '../../src/daemon/doors/doors'
import { NO_GUARD } from '../../src/daemon/guard'
import { OwnChanges } from '../../src/daemon/nftables/monitor'
import { nftablesFirewall } from '../../src/daemon/nftables/nftables'
import { Leases } from '../../src/gate/leases'
import type { Grant } from '../../src/gate/policy'
import { inNamespace } from '../lab/lab'
import { report, times } from './figures'

/** How many are opened in turn. */
const OPENED = times(100, 2)
/** More than all of them. */
const ROOM = 1_000_000
/** Seconds that a lease lives: longer than this takes. */
const LIFE = 3_600

const now = () => ({ wall: Date.now(), steady: performance.now() })
const address = (n: number) => `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`

function grantFor(n: number): Grant {
  return {
    action: 'open',
    address: address(n),
    services: [{ protocol: 'tcp', port: 22 }],
    once: false,
    until: Math.floor(Date.now() / 1_000) + LIFE,
  }
}

report(async () => {
  inNamespace()
  const leases = new Leases({ all: ROOM, key: ROOM })
  const firewall = nftablesFirewall(
    () => ({ guard: NO_GUARD, taps: null }),
    (entry) => leases.left(entry, now()),
    () => {},
    new OwnChanges(),
  )
  const doors = new Doors({ leases, firewall, log: pino({ level: 'silent' }), now })
  let opened = 0
  const add = () => {
    const n = ++opened
    const [lease] = leases.open(n.toString(16).padStart(8, '0'), 'bench', 'f'.repeat(32), grantFor(n), now()) ?? []
    if (!lease) throw new Error('there is no room for a lease')
    return lease
  }
  const fill = async (count: number) => {
    while (leases.size < count) add()
    doors.follow()
    await doors.settle()
    const there = (await firewall[0]?.read())?.entries.length
    if (there !== count) throw new Error(`${count} leases are wanted, and ${there} are in force`)
  }
  const open = async () => {
    const began = performance.now()
    const lease = add()
    doors.follow()
    await doors.opened(lease)
    return performance.now() - began
  }
  const [what, text] = process.argv.slice(2)
  const count = Number(text)
  if (what === 'fill') {
    await doors.adopt()
    await fill(count)
    return []
  }
  // As a daemon does that starts again.
  const { entries, left } = await doors.adopt()
  leases.restore(entries, () => true, now(), left)
  if (leases.size !== count) throw new Error(`${count} leases stand there, and ${leases.size} were found`)
  opened = count
  const samples: number[] = []
  for (let i = 0; i < OPENED; i++) samples.push(await open())
  return samples
})
