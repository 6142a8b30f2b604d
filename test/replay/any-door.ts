// Attacks that work on any port knocker, with real packets at its real daemon: replays, scans and crashes.

import { setTimeout as sleep } from 'node:timers/promises'
import { seededRandom, shuffled } from '../random'
import type { Kind, Outcome, Scale } from './attack'
import { type Door, LEASE, type Maker, said } from './doors'
import { makeStage, type Stage } from './stage'

/** Milliseconds after which a lease has expired: the kernel counts whole seconds. */
const OVER = (LEASE + 2) * 1_000
/** Knocks in a row, before the door of the first has closed again. */
const AT_ONCE = 4
/** Milliseconds of a scan before the first honest knock. */
const LEAD = 1_000

export interface DoorAttack {
  kind: Kind
  name: string
  what: string
  /** the peers whose door it opens: if it does not, the attack proves nothing */
  opens: string[]
  /** whether our log must report `replayed` for each try, or must not report it at all */
  alarms?: boolean
  /** whether it is the kernel's rules that hold it off, of our door */
  isOfRules?: boolean
  run: (maker: Maker, scale: Scale) => Promise<Outcome>
}

/** Opens a door on a stage of its own, attacks it, and clears the stage away. @param others further hosts */
export async function against<D extends Door>(
  maker: { open: (stage: Stage) => Promise<D> },
  attack: (stage: Stage, door: D) => Promise<Outcome>,
  ...others: string[]
) {
  const stage = await makeStage(...others)
  try {
    const door = await maker.open(stage)
    const outcome = await attack(stage, door)
    return { said: said(door.lines()), ...outcome }
  } finally {
    await stage.end()
  }
}

// ---- replay

export interface Replayed {
  /** what happens when the leases have expired, before the knocks are replayed */
  meanwhile?: (door: Door) => Promise<unknown>
  /** they are replayed while the user's door is open */
  isAtOnce?: boolean
  /** they are replayed from the user's own address */
  isOwn?: boolean
}

/** Users knock, something happens, the attacker replays what tcpdump has recorded, byte for byte. */
const replayed =
  ({ meanwhile, isAtOnce, isOwn }: Replayed) =>
  (maker: Maker, { times }: Scale) =>
    against(maker, async (stage, door) => {
      const { user, attacker } = stage
      const honest = { tried: 0, opened: 0 }
      const knock = async () => {
        const address = await stage.another(user)
        honest.tried++
        honest.opened += Number(await stage.opens(user, address, () => door.knock(address)))
        return address
      }
      let [tried, opened] = [0, 0]
      for (let round = 0; round < times(1, 10); round++) {
        const knocks = []
        for (let i = 0; i < AT_ONCE; i++) {
          const address = await knock()
          knocks.push({ address, packets: await stage.recorded(address), as: isOwn ? address : await stage.another(attacker) })
        }
        if (!isAtOnce) await sleep(OVER)
        await meanwhile?.(door)
        for (const { address, packets, as } of knocks) await stage.play(packets, address, as)
        // Everything that was sent before has been handled when this knock opens.
        await knock()
        const [users, attackers] = [knocks.map(({ address }) => address), knocks.map(({ as }) => as)]
        tried += knocks.length
        // A recorded packet may name the user's address, whoever sends it.
        if (!isAtOnce) opened += await stage.open(user, users)
        if (!isOwn) opened += await stage.open(attacker, attackers)
      }
      return { tried, opened, honest }
    })

const replays: DoorAttack[] = [
  {
    kind: 'replay',
    name: 'packets of a knock, at once',
    what: 'A listener sends what tcpdump recorded, byte for byte, from their own address, while the door is open to the user.',
    opens: ['knockd'],
    alarms: true,
    run: replayed({ isAtOnce: true }),
  },
  {
    kind: 'replay',
    name: 'packets of a knock, when the lease has ended',
    what: 'A listener waits until the door is closed and sends what tcpdump recorded from their own address.',
    opens: ['knockd'],
    alarms: true,
    run: replayed({}),
  },
  {
    kind: 'replay',
    name: "packets of a knock, from the user's address",
    what: "A listener who can send from the user's address sends what tcpdump recorded, when the door is closed again.",
    opens: ['knockd'],
    alarms: false,
    run: replayed({ isOwn: true }),
  },
  {
    kind: 'replay',
    name: 'packets of a knock, after a restart',
    what: 'A listener sends what tcpdump recorded to a daemon that has been restarted.',
    opens: ['knockd'],
    alarms: true,
    run: replayed({
      meanwhile: async (door) => {
        await door.end('SIGTERM')
        await door.start()
      },
    }),
  },
  {
    kind: 'replay',
    name: 'packets of a knock, after kill -9',
    what: 'A listener sends what tcpdump recorded to a daemon that was killed and started again.',
    opens: ['knockd'],
    alarms: true,
    run: replayed({
      meanwhile: async (door) => {
        await door.end('SIGKILL')
        await door.start()
      },
    }),
  },
  {
    kind: 'replay',
    name: 'packets of a knock, after a reboot',
    what: 'A listener sends what tcpdump recorded to a machine that has been rebooted: no rules, nothing in memory, the disk as before.',
    opens: ['knockd', 'fwknop'],
    alarms: true,
    run: replayed({
      meanwhile: async (door) => {
        await door.end('SIGKILL')
        await door.reboot()
        await door.start()
      },
    }),
  },
]

// ---- scans

/**
 * Each address sends to the pool's ports in a random order, at a fixed rate, while users knock.
 * @param how isOwn: from the address of each user instead of the attacker's; isWhole: until each port has been sent to
 */
const scanned =
  ({ pps, isOwn = false, isWhole = false }: { pps: number; isOwn?: boolean; isWhole?: boolean }) =>
  (maker: Maker, { times }: Scale) =>
    against(maker, async (stage, door) => {
      const { user, attacker } = stage
      const users: string[] = []
      for (let i = 0; i < times(5, 10); i++) users.push(await stage.another(user))
      const scanning = isOwn ? users : [await stage.another(attacker)]
      const order = shuffled(maker.knockPorts, seededRandom(pps))
      const packets = order.flatMap((_, i) =>
        scanning.map((source, at) => ({ source, port: order[(i + at) % order.length] ?? NaN })),
      )
      const scan = stage.flood(stage.pack(packets), pps * scanning.length)
      await sleep(LEAD)
      const open = () => stage.open(isOwn ? user : attacker, scanning)
      let opened = isOwn ? await open() : 0
      let honest = 0
      for (const address of users) {
        honest += Number(await stage.opens(user, address, () => door.knock(address, 2)))
      }
      if (isWhole) await sleep(Math.max(0, (1_000 * order.length) / pps - scan.lasts()))
      const sent = await scan.end()
      if (!isOwn) opened = await open()
      return {
        tried: sent.packets,
        opened,
        honest: { tried: users.length, opened: honest },
        note: `${Math.round(sent.pps / scanning.length)} packets/s from each address`,
      }
    })

const scans: DoorAttack[] = [
  {
    kind: 'scan',
    name: 'packets of a scan, 1,000/s, from another address',
    what: 'An attacker sends to every port of the pool, in a random order, while users knock.',
    opens: [],
    run: scanned({ pps: 1_000, isWhole: true }),
  },
  ...[10, 100, 1_000].map(
    (pps) =>
      ({
        kind: 'scan',
        name: `packets of a scan, ${pps.toLocaleString('en-US')}/s, from the user's address`,
        what: "An attacker behind the user's address, or who can send from it, sends to random ports while the user knocks.",
        opens: [],
        run: scanned({ pps, isOwn: true }),
      }) as DoorAttack,
  ),
]

// ---- crashes

const crashes: DoorAttack[] = [
  {
    kind: 'crash',
    name: 'killed with the door open',
    what: 'The daemon and all its processes are killed while doors are open: the doors must close when their time ends.',
    opens: ['knockd', 'fwknop'],
    isOfRules: true,
    run: (maker, { times }) =>
      against(maker, async (stage, door) => {
        const { user } = stage
        const honest = { tried: 0, opened: 0 }
        let opened = 0
        for (let round = 0; round < times(1, 5); round++) {
          if (round > 0) {
            await door.reboot()
            await door.start()
          }
          const users: string[] = []
          for (let i = 0; i < AT_ONCE; i++) {
            const address = await stage.another(user)
            users.push(address)
            honest.tried++
            honest.opened += Number(await stage.opens(user, address, () => door.knock(address)))
          }
          await door.end('SIGKILL')
          await sleep(OVER)
          opened += await stage.open(user, users)
        }
        return { tried: honest.tried, opened, honest }
      }),
  },
]

/** Every attack that works on any door. */
export const anyDoor = [...replays, ...scans, ...crashes]
