// Disks that refuse writes, ledgers that are damaged, and a daemon that is killed between tap and rule.

import { chownSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { flushLeases } from '../lab/backend'
import { logged } from '../lab/gate'
import { compose } from '../lab/knocks'
import { standing } from '../lab/standing'
import { seededRandom } from '../random'
import { against } from './any-door'
import type { Attack, Scale } from './attack'
import { openOurs } from './doors'
import { endHaving, HEARD, honestly, onOurs, playAll, record, TAPS } from './on-ours'
import type { Stage } from './stage'

/** Milliseconds from a knock's first tap within which everything that it causes happens. */
const TAP_TO_RULE = 20

const DAMAGES: Record<string, (ledger: string) => void> = {
  missing: (ledger) => rmSync(ledger),
  empty: (ledger) => truncateSync(ledger),
  'cut off': (ledger) => truncateSync(ledger, readFileSync(ledger).length - 10),
  'a bit flipped': (ledger) => {
    const bytes = readFileSync(ledger)
    bytes[Math.floor(bytes.length / 2)] ^= 1
    writeFileSync(ledger, bytes)
  },
  'something else': (ledger) => writeFileSync(ledger, 'something else\n'.repeat(100)),
}

/** What is done to a small disk, and what repairs it. */
export type Change = (host: Stage['server'], disk: string) => Promise<unknown>
/** The other options stay: in a user namespace mount would ask for users that do not exist. */
const remount: (options: string) => Change = (options) => (host, disk) =>
  host.must(['mount', '--options-mode', 'ignore', '-o', `remount,${options}`, disk])
const fill: Change = (host, disk) => host.run(['dd', 'if=/dev/zero', `of=${join(disk, 'filler')}`, 'bs=1k'])
const clear: Change = async (_, disk) => rmSync(join(disk, 'filler'))

/**
 * A listener replays what was accepted before the disk refused writes, and what was refused since: at that time, and when the disk works
 * again.
 * @param error the system's name for the error
 */
const onSpoiled =
  (spoil: Change, mend: Change, error: string) =>
  ({ times }: Scale) =>
    against({ open: (stage: Stage) => openOurs(stage, [], { disk: '64k' }) }, async (stage, door) => {
      const { honest, knock } = honestly(stage, door)
      const knocks = await record(stage, knock, times(2, 10))
      const disk = dirname(door.gate.ledger)
      const broken: string[] = []
      await door.end('SIGTERM')
      await spoil(stage.server, disk)
      await door.start()
      for (let i = 0; i < times(2, 10); i++) {
        const address = await stage.another(stage.user)
        await door.client(address, ...door.lease, '--passes', '1')
        knocks.push({ address, packets: await stage.recorded(address) })
      }
      const refused = JSON.parse(await door.daemon.line(logged('refused', { refusal: 'ledger-unavailable' })))
      if (!String(refused.reason).includes(error)) broken.push(`expected ${error} in the log, got ${refused.reason}`)
      const played = [await playAll(stage, knocks)]
      await mend(stage.server, disk)
      played.push(await playAll(stage, knocks))
      await knock()
      // What was refused meanwhile is on the disk by now.
      await door.end('SIGKILL')
      await door.start()
      played.push(await playAll(stage, knocks))
      await knock()
      const [tried, opened] = [
        played.reduce((sum, { tried }) => sum + tried, 0),
        played.reduce((sum, { opened }) => sum + opened, 0),
      ]
      return { tried, opened, honest, broken }
    })

export const crashes: Attack[] = [
  {
    kind: 'crash',
    name: 'packets of a knock, on a full disk',
    what: 'A listener replays what was sent before, while and after the disk under the ledger was full.',
    run: onSpoiled(fill, clear, 'ENOSPC'),
  },
  {
    kind: 'crash',
    name: 'packets of a knock, on a read-only disk',
    what: 'A listener replays what was sent before, while and after the disk under the ledger was read-only.',
    run: onSpoiled(remount('ro'), remount('rw'), 'EROFS'),
  },
  {
    kind: 'crash',
    name: 'kill -9 between tap and rule',
    what: 'The daemon is killed at a random moment after the first tap of a knock; a listener replays the knock to the next daemon, to open a second time.',
    run: onOurs(async (stage, door, { times }) => {
      const { user, attacker, server } = stage
      const { honest, knock } = honestly(stage, door)
      const random = seededRandom(9)
      const at = { 'before it was written': 0, 'between ledger and rule': 0, 'with the rule in force': 0 }
      let [tried, opened] = [0, 0]
      for (let i = 0; i < times(20, 300); i++) {
        const [address, as] = [await stage.another(user), await stage.another(attacker)]
        // The knock names its address: a knock that was not heard at all is of no use to anyone else.
        const { touches } = await compose(user, door.gate.key, ...door.lease, '-i', address)
        const sent = user.replay(touches, server.ipv4, address)
        await sleep(random() * TAP_TO_RULE)
        await door.end('SIGKILL')
        await sent
        const wasOpen = (await standing(server)).some((lease) => lease.address === address)
        await flushLeases(server)
        await door.start()
        // The listener first; then the user, for whom a knock that was never recorded still opens.
        await attacker.replay(touches, server.ipv4, as)
        await sleep(HEARD / 4)
        await user.replay(touches, server.ipv4, address)
        await sleep(HEARD)
        const [isIn, isOpen] = (await Promise.all([stage.open(attacker, [as]), stage.open(user, [address])])).map(Boolean)
        at[isOpen ? 'before it was written' : wasOpen ? 'with the rule in force' : 'between ledger and rule']++
        tried++
        opened += Number(isIn || (wasOpen && isOpen))
      }
      await knock()
      const note = Object.entries(at).map(([when, count]) => `${count} ${when}`)
      return { tried, opened, honest, note: `killed ${note.join(', ')}` }
    }),
  },
  {
    kind: 'crash',
    name: 'packets of a knock, after the ledger was damaged',
    what: 'The ledger is deleted, emptied, cut off, changed or replaced while the daemon is down, and a listener replays the knocks that were in it.',
    run: onOurs(async (stage, door) => {
      const { honest, knock } = honestly(stage, door)
      const knocks = await record(stage, knock, 1)
      const { ledger } = door.gate
      const broken: string[] = []
      let [tried, opened] = [0, 0]
      await door.end('SIGKILL')
      const sound = readFileSync(ledger)
      for (const [damage, make] of Object.entries(DAMAGES)) {
        const since = door.lines().length
        make(ledger)
        // It has to start and to listen: a daemon that does not is closed, and proves nothing.
        await door.start()
        const played = await playAll(stage, knocks)
        tried += played.tried
        opened += played.opened
        const seen = await endHaving(door)
        if (seen < TAPS * played.tried) broken.push(`${damage}: the daemon saw only ${seen} taps`)
        const what = `the ledger is ${damage === 'missing' ? 'missing' : 'damaged'}: no knock opens anything`
        const told = door
          .lines()
          .slice(since)
          .filter((line) => line.includes(what))
        if (told.length !== 1) broken.push(`${damage}: expected "${what}" once in the log, got it ${told.length} times`)
        writeFileSync(ledger, sound)
        chownSync(ledger, door.gate.user.uid, door.gate.user.gid)
      }
      await door.start()
      await knock()
      return { tried, opened, honest, broken }
    }),
  },
]
