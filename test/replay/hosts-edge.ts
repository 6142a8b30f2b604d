// The window's edge, by faketime: the daemon's clock is changed, the kernel's is not.

import { clockOf } from '../lab/clock'
import { logged } from '../lab/gate'
import { standing } from '../lab/standing'
import type { Attack } from './attack'
import { AHEAD, endHaving, honestly, many, onOurs, playAll, type Recorded, record, TAPS } from './on-ours'
import { SSH } from './stage'

/** The daemon's clock, in seconds or as a moment. */
const CLOCKS = ['-60', '-86400', '@1970-01-02 00:00:00', '+60', '+86400']
/** Seconds by which the clock of a user is wrong: the server's log names them. */
const LOST = 300
/** Milliseconds within which the log names a knock of the past: its session has to end first. */
const QUIET = 30_000
/** Seconds of a lease for one connection: longer than it takes to restart the daemon. */
const LONG = 120

export const edges: Attack[] = [
  {
    kind: 'edge',
    name: "packets of a knock, when the server's clock has changed",
    what: "A listener replays recorded knocks to a daemon whose clock was set back a minute, a day, to 1970, or forward (by faketime; the kernel's clock stays).",
    run: onOurs(async (stage, door, { times }) => {
      const { honest, knock } = honestly(stage, door)
      const knocks = await record(stage, knock, times(2, 10))
      const broken: string[] = []
      let [tried, opened] = [0, 0]
      await door.end('SIGTERM')
      for (const clock of CLOCKS) {
        const starts = await door.start(clockOf(clock)).then(
          () => true,
          () => false,
        )
        if (starts === clock.startsWith('@')) broken.push(`at ${clock} the daemon ${starts ? 'starts' : 'does not start'}`)
        const played = await playAll(stage, knocks)
        tried += played.tried
        opened += played.opened
        const seen = await endHaving(door)
        if (starts && seen < TAPS * played.tried) broken.push(`at ${clock} the daemon saw only ${seen} taps`)
      }
      await door.start()
      await knock()
      return { tried, opened, honest, broken, note: "only the daemon's clock was changed" }
    }),
  },
  {
    kind: 'edge',
    name: 'packets of a future knock, when its time comes',
    what: "A listener keeps the knock of a user whose clock is ahead, and replays it when the server's clock gets there (by faketime).",
    run: onOurs(async (stage, door, { times }) => {
      const { honest, knock } = honestly(stage, door)
      const knocks: Recorded[] = []
      const broken: string[] = []
      for (let i = 0; i < times(3, 10); i++) {
        const address = await stage.another(stage.user)
        await door.client(address, ...door.lease, '--passes', '1', '--time-offset', String(AHEAD))
        await door.daemon.line(logged('refused', { refusal: 'future', source: address }))
        knocks.push({ address, packets: await stage.recorded(address) })
      }
      for (const [way, offset] of Object.entries({ ahead: LOST, behind: -LOST })) {
        const lost = await stage.another(stage.user)
        const answers = await stage.answers(lost, async () => {
          await door.client(lost, ...door.lease, '--passes', '1', '--time-offset', String(offset))
          const { clock } = JSON.parse(await door.daemon.line(logged('refused', { source: lost }), 0, QUIET))
          const [, seconds, said] = /clock is (\d+) s (\w+)/.exec(clock) ?? []
          if (!(Math.abs(Number(seconds) - LOST) <= 30) || said !== way)
            broken.push(`expected a clock ${LOST} s ${way} in the log, got: ${clock}`)
        })
        if (answers !== 0) broken.push(`a client ${LOST} s ${way} got ${answers} packets from the server`)
      }
      await door.end('SIGTERM')
      await door.start(clockOf(`+${AHEAD}`))
      const played = await playAll(stage, knocks)
      const seen = await endHaving(door)
      if (seen < TAPS * played.tried) broken.push(`the daemon saw only ${seen} taps`)
      await door.start()
      await knock()
      return { ...played, honest, broken }
    }),
  },
  {
    kind: 'edge',
    name: 'packets of a second connection, with a lease for one',
    what: "An attacker behind the user's address connects after the user, whose lease is for one connection: at once, while the daemon is dead, and when it runs again.",
    isOfRules: true,
    run: onOurs(async (stage, door, { times }) => {
      const { user } = stage
      const addresses = await many(stage, user, times(3, 20))
      const honest = { tried: addresses.length, opened: 0 }
      for (const address of addresses) {
        await door.client(address, '-p', String(SSH), '-t', `${LONG}s`, '--once', '--passes', '1')
        await door.daemon.line(logged('accepted', { source: address, once: true }))
        honest.opened += Number((await user.connect(stage.server.ipv4, SSH, 1_000, address)).saw === 'open')
      }
      let opened = await stage.open(user, addresses)
      for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
        await door.end(signal)
        opened += await stage.open(user, addresses)
        await door.start()
        opened += await stage.open(user, addresses)
      }
      // They are still there: the kernel's count closes them.
      const left = (await standing(stage.server)).length
      const broken = left === addresses.length ? [] : [`of ${addresses.length} leases ${left} are left`]
      return { tried: 5 * addresses.length, opened, honest, broken }
    }),
  },
]
