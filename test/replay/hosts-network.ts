// Attacks on the client by the network that it is in: what the network answers about time and names, and what a laptop from elsewhere sends there.

import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { serveNothing } from '../e2e/names'
import { serveNtp } from '../e2e/time'
import { clockOf } from '../lab/clock'
import { logged } from '../lab/gate'
import { knock as knockclient } from '../lab/knocks'
import { BIN } from '../root'
import { against } from './any-door'
import type { Attack } from './attack'
import { openOurs } from './doors'
import { HEARD } from './on-ours'
import { SSH } from './stage'

const KNOCKCLIENT = join(BIN, 'knockclient')
/** Seconds by which a time source lies, just below what the client once accepted from one answer, and how often it does. */
const LIE = 290
const LIES = 3
/** Milliseconds after which a client that was to wait one second is taken to hang. */
const NEVER = 15_000

const lyingTime: Attack = {
  kind: 'cafe',
  name: 'a time source that lies',
  what: "A café's network holds a knock back, answers by NTP that the user's clock is behind, again and again, and replays what it heard when that time comes (by faketime).",
  run: ({ times }) =>
    against({ open: openOurs }, async (stage, door) => {
      const { user, attacker, server, another } = stage
      const short = ['--services', `${SSH}/tcp`, '--max', '1h', '--period', '10']
      const usual = short.slice(0, -2)
      // The door's own key is for honest knocks: a knock sent with another clock moves a key's floor.
      const keys = [await door.gate.newKey('usual', ...usual), await door.gate.newKey('short', ...short)]
      const bait = await door.gate.newKey('bait', ...usual)
      await door.daemon.line(logged('reloaded', { keys: 4 }))
      const source = await serveNtp(attacker, LIE)
      const broken: string[] = []
      /** Has the user knock from a new address, while the server hears nothing of it. */
      const held = async (knock: (address: string) => Promise<unknown>) => {
        const address = await another(user)
        await stage.speakFrom(user, address)
        const rule = ['PREROUTING', '-s', address, '-j', 'DROP']
        await server.must(['iptables', '-t', 'raw', '-A', ...rule])
        await knock(address)
        await server.must(['iptables', '-t', 'raw', '-D', ...rule])
        return { address, packets: await stage.recorded(address), as: await another(attacker) }
      }
      /** Knocks as often as the client names another offset, with that offset. */
      const follow = async (key: string) => {
        let offset = 0
        for (let i = 0; i < LIES; i++) {
          const options = [...door.lease, '--wait', '1', '--time-source', source, '--time-offset', String(offset)]
          const { stderr } = await user.run(knockclient({ key }, ...options))
          const named = Number(/knock with --time-offset (-?\d+)/.exec(stderr)?.[1] ?? offset)
          if (named === offset) break
          offset = named
        }
        if (offset !== 0) broken.push(`the client's clock was moved by ${offset} s`)
      }
      const knocks = []
      for (let i = 0; i < times(1, 5); i++) for (const key of keys) knocks.push(await held(() => follow(key)))
      const early = await held(() =>
        user.must(knockclient({ key: bait }, ...door.lease, '--passes', '1', '--time-offset', String(LIE))),
      )
      await door.end('SIGTERM')
      await door.start(clockOf(`+${LIE}`))
      /** Whether what was held back opens when it is replayed. */
      const opens = ({ address, packets, as }: typeof early) => stage.opens(attacker, as, () => stage.play(packets, address, as))
      // It proves something: anyone who follows such an answer has left a knock that opens.
      if (!(await opens(early))) broken.push('a knock that was early does not open when its time comes')
      let opened = 0
      for (const knock of knocks.reverse()) opened += Number(await opens(knock))
      await door.end('SIGTERM')
      await door.start()
      const honest = { tried: 0, opened: 0 }
      for (let i = 0; i < times(1, 5); i++) {
        const address = await another(user)
        honest.tried++
        honest.opened += Number(await stage.opens(user, address, () => door.knock(address)))
      }
      return { tried: knocks.length, opened, honest, broken }
    }),
}

const carriedAway: Attack = {
  kind: 'cafe',
  name: 'a laptop carried into a café',
  what: 'A laptop whose connection was made at the office, with --renew and --close, gets an address of the café: an attacker there waits for its knocks.',
  run: ({ times }) =>
    against({ open: openOurs }, async (stage, door) => {
      const { user, server, lab, another } = stage
      const pipe = join(lab.folder(), 'pipe')
      await user.must(['mkfifo', pipe])
      const broken: string[] = []
      const honest = { tried: 0, opened: 0 }
      let [tried, opened] = [0, 0]
      for (let i = 0; i < times(2, 10); i++) {
        const [office, here] = [await another(user), await another(user)]
        await stage.speakFrom(user, office)
        const options = ['-k', door.gate.key, '-t', '3s', '--renew', '--close', '-v']
        const connect = [KNOCKCLIENT, 'connect', server.ipv4, String(SSH), ...options]
        // Its input never ends.
        const session = user.start(['sh', '-c', 'exec "$@" <> "$0"', pipe, ...connect])
        await session.line((line) => line.includes('connected to'))
        await user.must(['ip', 'address', 'del', `${office}/32`, 'dev', 'eth0'])
        await stage.speakFrom(user, here)
        const since = door.daemon.lines.length
        await session.line((line) => / (knocked|could not knock) again/.test(line))
        await sleep(HEARD)
        tried++
        opened += await stage.open(user, [here])
        await session.end()
        await sleep(HEARD)
        const taken = door.daemon.lines.slice(since).filter(logged('accepted', { source: here }))
        for (const line of taken) broken.push(`the server accepted a knock from the café: ${JSON.parse(line).action}`)
        // It proves something: a knock sent from there opens there.
        honest.tried++
        honest.opened += Number(await stage.opens(user, here, () => door.knock(here)))
      }
      return { tried, opened, honest, broken }
    }),
}

const slowNames: Attack = {
  kind: 'cafe',
  name: 'a name server that never finishes its answer',
  what: 'A café\'s name server answers "truncated", and then sends nothing over TCP, so that the client and its caller wait for ever.',
  run: ({ times }) =>
    against({ open: openOurs }, async (stage, door) => {
      const { user, attacker, another } = stage
      const names = await serveNothing(attacker)
      const name = 'gate.example'
      const waits = [
        [...door.lease, '--wait', '1', '-r', name],
        [...door.lease, '--wait', '1', '-i', 'auto', '--address-url', `https://${name}/`],
        [...door.lease, '--wait', '1', '-i', 'auto', '--stun', name, '--stun-trusted'],
        // With a clock of another day, so that nothing opens and the client asks for the time.
        [...door.lease, '--wait', '1', '--time-offset', '-86400', '--time-source', `ntp://${name}`],
      ]
      const broken: string[] = []
      const honest = { tried: 0, opened: 0 }
      let [tried, opened] = [0, 0]
      for (let i = 0; i < times(1, 5); i++) {
        for (const options of waits) {
          const address = await another(user)
          await stage.speakFrom(user, address)
          const { signal } = await user.run(names.asking(knockclient(door.gate, ...options)), { timeoutMs: NEVER })
          tried++
          opened += await stage.open(user, [address])
          if (signal !== null) broken.push(`the client does not end: ${options.slice(door.lease.length).join(' ')}`)
        }
        if (!names.server.lines.includes('truncated')) broken.push('the name server was not asked')
        const address = await another(user)
        honest.tried++
        honest.opened += Number(await stage.opens(user, address, () => door.knock(address)))
      }
      return { tried, opened, honest, broken }
    }),
}

export const network: Attack[] = [lyingTime, carriedAway, slowNames]
