import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { knock } from '../lab/knocks'
import { useGate } from './use-gate'

/* Networks that take a knock for a port scan. Their rules stand in front of the server's taps, as a router's would. */

const SSH = 22
/** Seconds for which the guard holds off who has been caught, from their last SYN on. */
const HELD = 3

const { server, client, gate } = useGate(['client'], { serve: [SSH], keyOptions: ['--services', `${SSH}/tcp`] })

beforeEach(() => client.moveOn())
afterEach(() => server.must(['iptables', '-t', 'raw', '-F']))

const guard = (...rule: string[]) =>
  server.must(['iptables', '-t', 'raw', '-A', 'PREROUTING', '-i', 'eth0', '-p', 'tcp', '--syn', ...rule, '-j', 'DROP'])
/** More than so many SYNs a second of one address. */
const above = (rate: number) =>
  `-m hashlimit --hashlimit-above ${rate}/sec --hashlimit-burst ${rate} --hashlimit-mode srcip --hashlimit-name syns`.split(' ')
const wait = (seconds: number, ...options: string[]) =>
  client.run(knock(gate, '-p', String(SSH), '--wait', String(seconds), ...options), { timeoutMs: 60_000 })
const SILENT = [
  'knockclient: note: the ports of the knock are silent: either the server hears them, or this network drops them',
  'knockclient: note: some networks drop them for minutes after what looks like a port scan, and longer with each pass',
  'hint: try --udp, then --pace 60, then --datagram 443, or another network',
]
/** What of it is said. */
const saidOfSilence = (stderr: string) => stderr.split('\n').filter((line) => SILENT.includes(line))

describe('a limit of 10 SYNs a second', () => {
  beforeEach(() => guard(...above(10)))

  it('keeps a knock out, and what gets through is said', async () => {
    const { code, stderr } = await wait(5)
    expect([code, saidOfSilence(stderr)]).toEqual([3, SILENT])
  })

  it.each([[['--udp']], [['--pace', '60']]])('lets through what is said: %j', async (way) => {
    expect(await wait(20, ...way)).toMatchObject({ code: 0, stderr: '' })
  })
})

describe('a guard that holds off for a time whoever has been caught', () => {
  beforeEach(async () => {
    await guard('-m', 'recent', '--name', 'caught', '--update', '--seconds', String(HELD))
    await guard(...above(20), '-m', 'recent', '--name', 'caught', '--set')
  })

  it('lets --udp through, when that time is over', async () => {
    const { code, stderr } = await wait(5)
    expect([code, saidOfSilence(stderr)]).toEqual([3, SILENT])
    await sleep((HELD + 1) * 1000)
    expect(await wait(20, '--udp')).toMatchObject({ code: 0, stderr: '' })
  })
})

describe('where nothing opens', () => {
  it('a knock is said less and less often', async () => {
    // By passes of the usual pauses it would be eight in this time, or more.
    const { stderr } = await client.run(knock(gate, '-p', '443', '--wait', '12', '-v', '--force'), { timeoutMs: 60_000 })
    const passes = [...stderr.matchAll(/pass (\d+)/g)].map(([, pass]) => Number(pass))
    expect(Math.max(...passes)).toBeLessThan(8)
  })
})
