// Attacks that open no door: they try to keep the daemon from starting, or to have it report what is not true.

import { setTimeout as sleep } from 'node:timers/promises'
import { usualBackend } from '../lab/backend'
import { PRIVILEGES } from '../lab/gate'
import { against } from './any-door'
import type { Attack } from './attack'
import { openOurs, POOL } from './doors'
import type { Stage } from './stage'

/** Milliseconds of odd packets: more than three of the daemon's checks of its capture. */
const ODD = 35_000
/** Milliseconds between two rounds of them. */
const PAUSE = 500
/** Most lines of warnings: ten of each kind, and how many more there are. */
const MOST_LINES = 22

export type Ours = Awaited<ReturnType<typeof openOurs>>

/** An honest knock. */
async function honestKnock({ user, another, opens }: Stage, door: Ours) {
  const address = await another(user)
  const isOpen = await opens(user, address, () => door.client(address, ...door.lease, '--passes', '1'))
  return { tried: 1, opened: Number(isOpen) }
}

/** The privileges of an ordinary user: those of the daemon without its one capability. */
const PLAIN = PRIVILEGES.map((word) => word.replace(',+net_admin', ''))

/** Listens on each port of the pool, and connects to one of them by the host's own address. */
const squatter = (address: string) => `
  const { createServer, connect } = require('node:net')
  const { createSocket } = require('node:dgram')
  let left = ${POOL.length}
  const one = () => --left || connect(${POOL[0]}, '${address}', () => console.log('there'))
  for (let port = ${POOL[0]}; port <= ${POOL.at(-1)}; port++) createServer((socket) => socket.on('error', () => {}).write('hello')).listen(port, one).on('error', one)
  for (let port = ${POOL[0]}; port < ${POOL[0]} + 1_000; port++) createSocket('udp4').bind(port).on('error', () => {})
`

const squatting: Attack = {
  kind: 'injection',
  name: 'sockets of a local user on every port of the pool, while the server boots',
  what: "A local user listens on every port of the pool, connects to one from the host's own address and has a friend connect from elsewhere, before the log rules are there.",
  run: () =>
    against({ open: openOurs }, async (stage, door) => {
      const { server, attacker } = stage
      const { gate } = door
      await door.end('SIGTERM')
      await gate.knockturn('firewall', 'remove')
      // With nftables nothing but our table shuts.
      const families = usualBackend() === 'iptables' ? ['iptables', 'ip6tables'] : []
      for (const iptables of families) await server.must([iptables, '-P', 'INPUT', 'ACCEPT'])
      const [node = ''] = gate.knockdaemon
      const limit = ['sh', '-c', 'ulimit -n "$(ulimit -Hn)" && exec "$@"', 'sh']
      const user = server.start([...limit, ...PLAIN, node, '-e', squatter(server.ipv4)])
      await user.line((line) => line === 'there')
      await attacker.hold(server.ipv4, (POOL[0] ?? 0) + 1)
      for (const iptables of families) await server.must([iptables, '-P', 'INPUT', 'DROP'])
      // As the unit does.
      const { code, stderr } = await server.run([...gate.command.slice(0, PRIVILEGES.length), ...install(gate)])
      const broken = code === 0 ? [] : [`the log rules are not installed: ${stderr}`]
      const lines = stderr.split('\n').length - 1
      if (lines > MOST_LINES) broken.push(`it printed ${lines} lines`)
      await door.start()
      return {
        tried: POOL.length,
        opened: 0,
        honest: await honestKnock(stage, door),
        broken,
        note: `${lines} warnings`,
      }
    }),
}

/** The unit's ExecStartPre. */
const install = ({ knockdaemon, config }: Ours['gate']) => [
  ...knockdaemon.map((part) => part.replace(/knockdaemon$/, 'knockturn')),
  ...['firewall', 'install', '--unattended', '--config', config],
]

const oddPackets: Attack = {
  kind: 'injection',
  name: 'logged packets that cannot be read',
  what: 'A stranger sends datagrams to the pool behind more and longer IPv6 extension headers than are followed, so that the daemon believes that it hears nothing.',
  run: () =>
    against({ open: openOurs }, async (stage, door) => {
      const { attacker } = stage
      const odd = [Array(9).fill(8), [1_024]].map((extensions) => ({ source: attacker.ipv6, port: POOL[0] ?? NaN, extensions }))
      const packets = stage.pack6(odd)
      let tried = 0
      for (const end = performance.now() + ODD; performance.now() < end; await sleep(PAUSE)) {
        await attacker.must(['tcpreplay', '-q', '--topspeed', '-i', 'eth0', packets])
        tried += odd.length
      }
      const honest = await honestKnock(stage, door)
      await door.end('SIGTERM')
      const lines = door.lines()
      const { unreadable } = JSON.parse(lines.at(-1) ?? '{}')
      const alarms = lines.filter((line) => line.includes('none of them arrives'))
      const broken = alarms.map(() => 'logged that the daemon hears nothing')
      if (unreadable !== tried) broken.push(`only ${unreadable} of ${tried} odd packets arrived`)
      return { tried, opened: await stage.open(attacker, [attacker.ipv4]), honest, broken }
    }),
}

export const local: Attack[] = [squatting, oddPackets]
