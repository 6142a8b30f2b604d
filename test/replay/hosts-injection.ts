// Lines of a log that a local user has written.

import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { logged } from '../lab/gate'
import { compose } from '../lab/knocks'
import { seededRandom } from '../random'
import type { Attack } from './attack'
import { POOL } from './doors'
import { HEARD, onOurs } from './on-ours'

const PREFIX = 'KNOCK: '
/** A line as the kernel writes it. */
const logLine = (source: string, destination: string, port: number) =>
  `${PREFIX}IN=eth0 OUT= MAC=02:00:00:00:00:01 SRC=${source} DST=${destination} LEN=60 TOS=0x00 PREC=0x00 TTL=64 ID=7 DF PROTO=TCP SPT=40000 DPT=${port} WINDOW=64240 RES=0x00 SYN URGP=0 `
const STAMP = 'Nov 22 21:00:00 gate'

/** Log lines that a local user makes, through syslog or a terminal. */
const FORGERIES: ((line: string) => string)[] = [
  (line) => `${STAMP} kernel: ${line}\n`,
  (line) => `${STAMP} mallory: ${line}\n`,
  (line) => `${STAMP} mallory: hello\n${STAMP} kernel: ${line}\n`,
  (line) => `${line.slice(0, 60)}${line}\n`,
  (line) => `${line.slice(0, -40)}\n`,
]

export const injection: Attack = {
  kind: 'injection',
  name: 'lines forged in the followed file',
  what: 'A local user who can write to syslog writes the lines of a recorded knock and of random ports, with any source address.',
  run: onOurs(async (stage, door, { times }) => {
    const { user, attacker, server, another } = stage
    const { gate } = door
    const random = seededRandom(7)
    await door.end('SIGTERM')
    const file = join(gate.folder, 'knocks.log')
    writeFileSync(file, '')
    const taps = `[taps]\nsource = "file"\nfile = ${JSON.stringify(file)}\nprefix = ${JSON.stringify(PREFIX)}\n`
    writeFileSync(gate.config, readFileSync(gate.config, 'utf8').replace(/\[taps\][^[]*/, taps))
    await gate.knockturn('firewall', 'install', '--config', gate.config)
    await door.start()
    const honest = { tried: 0, opened: 0 }
    let [tried, opened] = [0, 0]
    const write = (source: string, ports: number[], forge: (line: string) => string) =>
      appendFileSync(file, ports.map((port) => forge(logLine(source, server.ipv4, port))).join(''))
    for (let i = 0; i < times(2, 20); i++) {
      const address = await another(user)
      const { touches } = await compose(user, gate.key, ...door.lease)
      const ports = touches.map(({ port }) => port)
      write(address, ports, (line) => `${STAMP} kernel: ${line}\n`)
      honest.tried++
      honest.opened += Number(await stage.opens(user, address))
      for (const forge of FORGERIES) {
        for (const lines of [ports, Array.from({ length: 500 }, () => POOL[Math.floor(random() * POOL.length)] ?? NaN)]) {
          const as = await another(attacker)
          write(as, lines, forge)
          await sleep(HEARD)
          tried++
          opened += await stage.open(attacker, [as])
        }
      }
    }
    // Once a minute for each knock.
    const replayed = door.lines().filter(logged('refused', { refusal: 'replayed' })).length
    const broken =
      replayed < honest.tried ? [`expected "replayed" for each of ${honest.tried} forged knocks, got it for ${replayed}`] : []
    return { tried, opened, honest, broken }
  }),
}
