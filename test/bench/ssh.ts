// `ssh gate true` through a knock, compared with ssh to an open port and a start of the client; and its time when packets get lost.

import { serveSsh } from '../e2e/sshd'
import { provision } from '../lab/gate'
import { makeLab } from '../lab/lab'
import type { Ended } from '../lab/processes'
import { inTurn } from './doors'
import { median, type Row, row, times } from './figures'

const BEHIND = 22
const OPEN = 2222
const TIMES = times(25, 1)
/** Milliseconds that it may take beyond ssh and a start of the client. */
const MOST_BEYOND = 80
/** Logins when this part of the packets to the server gets lost, and seconds that the slowest may take. */
const LOSS = 0.1
const LOSSY_TIMES = times(30, 1)
const MOST_SECONDS = 10

export async function sshRows(): Promise<Row[]> {
  const lab = await makeLab()
  const { server, client } = lab.hosts
  try {
    const gate = await provision(lab, { id: 'gate', keyOptions: ['--services', `${BEHIND}/tcp`] })
    const { ssh, inside, env } = await serveSsh(lab, gate.key, [BEHIND, OPEN])
    await server.must(['iptables', '-A', 'INPUT', '-p', 'tcp', '--dport', String(OPEN), '-j', 'ACCEPT'])

    const timed = (...argv: string[]): Promise<Ended> => client.run(inside(...argv), { env, timeoutMs: 60_000 })
    // For comparison what cannot be saved, one after the other in one shell.
    const ways = [ssh('gate', 'true'), ['sh', '-c', `${ssh('open', 'true').join(' ')} && knockclient --version`]]
    const [knocked = [], floor = []] = await inTurn(
      TIMES,
      ways.map((argv) => async () => {
        const { code, ms, stderr } = await timed(...argv)
        if (code !== 0) throw new Error(`${argv.join(' ')}: exit ${code}\n${stderr}`)
        return ms
      }),
    )
    const beyond = median(knocked) - median(floor)
    const target = { what: `≤ ${MOST_BEYOND} ms more`, met: beyond <= MOST_BEYOND }

    await server.lose(LOSS)
    const lossy = []
    for (let i = 0; i < LOSSY_TIMES; i++) lossy.push(await timed(...ssh('gate', 'true')))
    const opened = lossy.filter(({ code }) => code === 0)
    const worst = opened.length > 0 ? Math.max(...opened.map(({ ms }) => ms)) / 1000 : null
    return [
      { ...row('ssh gate true, with a knock', 'ms', knocked, { what: 'ssh + --version', samples: floor }), target },
      { what: '  more than the two', value: beyond, unit: 'ms' },
      {
        what: `  at ${LOSS * 100} % loss, the slowest of ${LOSSY_TIMES}`,
        value: worst,
        unit: 's',
        ...(worst === null && { note: 'none succeeded' }),
        target: {
          what: `all, ≤ ${MOST_SECONDS} s`,
          met: opened.length === LOSSY_TIMES && worst !== null && worst <= MOST_SECONDS,
        },
      },
    ]
  } finally {
    await lab.end()
  }
}
