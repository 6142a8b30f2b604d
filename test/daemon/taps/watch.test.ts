import { describe, expect, it } from 'vitest'
import { countLogged } from '../../../src/daemon/iptables/log-rules'
import type { TapSource } from '../../../src/daemon/taps/source'
import { tapWatch } from '../../../src/daemon/taps/watch'

/** A source that has been through what the test says, and a firewall that has logged as much; looks are 10 s apart. */
function watched(logged: (() => Promise<number>) | null = null) {
  const counters: TapSource['counters'] = { seen: 0, ignored: 0, unreadable: 0, dropped: null }
  const said: string[] = []
  const look = tapWatch({ counters, start: async () => {}, stop: async () => {} }, logged, (message) => said.push(message))
  let steady = 0
  return {
    counters,
    look: async () => {
      said.length = 0
      await look(steady)
      steady += 10_000
      return [...said]
    },
  }
}

describe('drops', () => {
  it('are said with their number', async () => {
    const { counters, look } = watched()
    counters.dropped = 7
    expect(await look()).toEqual([expect.stringContaining('the kernel dropped 7 packets')])
  })

  it('are said once a minute, those that came meanwhile too', async () => {
    const { counters, look } = watched()
    const said: string[] = []
    for (let i = 1; i <= 8; i++) {
      counters.dropped = i
      said.push(...(await look()))
    }
    expect(said.map((line) => /\d+/.exec(line)?.[0])).toEqual(['1', '6'])
  })

  it.each([null, 0])('are not said where they are %s', async (dropped) => {
    const { counters, look } = watched()
    counters.dropped = dropped
    expect(await look()).toEqual([])
  })

  it('are asked for before they are said', async () => {
    const said: string[] = []
    const counters: TapSource['counters'] = { seen: 0, ignored: 0, unreadable: 0, dropped: null }
    const count = async () => {
      counters.dropped = 9
    }
    await tapWatch({ counters, count, start: async () => {}, stop: async () => {} }, null, (line) => said.push(line))(0)
    expect(said).toEqual([expect.stringContaining('the kernel dropped 9 packets')])
  })
})

describe('a source', () => {
  it('that hears nothing of what the firewall logs is called deaf, once, and when that is over', async () => {
    let packets = 0
    const { counters, look } = watched(async () => packets)
    await look()
    packets = 52
    await look()
    expect(await look()).toEqual([expect.stringContaining('none of them arrives')])
    expect(await look()).toEqual([])
    counters.seen = 1
    expect(await look()).toEqual(['packets that the firewall logs are read again'])
  })

  it('that sees lines of others only hears nothing', async () => {
    let packets = 0
    const { counters, look } = watched(async () => packets)
    await look()
    packets = counters.seen = counters.ignored = 52
    await look()
    expect(await look()).toEqual([expect.stringContaining('none of them arrives')])
  })

  it('that sees what carries its prefix hears, even if it can’t be read', async () => {
    let packets = 0
    const { counters, look } = watched(async () => packets)
    await look()
    packets = counters.seen = counters.ignored = counters.unreadable = 52
    for (let i = 0; i < 5; i++) expect(await look()).toEqual([])
  })

  it('that can read nothing of what comes for a minute says so in words of its own, once, and when that is over', async () => {
    let packets = 0
    const { counters, look } = watched(async () => packets)
    const said: string[] = []
    for (let i = 0; i < 10; i++) {
      said.push(...(await look()))
      packets = ++counters.seen
      counters.ignored = counters.unreadable = counters.seen
    }
    expect(said).toEqual([expect.stringContaining('none of them could be read')])
    counters.seen++
    expect(await look()).toEqual(['packets that the firewall logs are read again'])
  })

  it('is not judged where the firewall cannot be looked at', async () => {
    let packets = 0
    const { look } = watched(async () => {
      if (packets === 0) throw new Error('locked')
      return packets
    })
    // Were the failure taken for a count, the next one would have risen.
    for (packets of [5, 0, 5, 5, 5]) expect(await look()).toEqual([])
  })
})

describe('the firewall’s count', () => {
  /* As iptables 1.8.9 prints it, of both backends; the first line of a chain is its name. */
  const tcp = (count: number, target: string) =>
    `-A KNOCKTURN-TAPS -p tcp -m tcp --dport 49152:65535 --tcp-flags FIN,SYN,RST,ACK SYN -m hashlimit --hashlimit-upto 2000/sec --hashlimit-burst 2000 --hashlimit-mode srcip --hashlimit-name knockturn -c ${count} ${60 * count} -j ${target}`
  const NFLOG = 'NFLOG --nflog-prefix "KNOCK: " --nflog-group 5 --nflog-threshold 1'
  const LOG = 'LOG --log-prefix "KNOCK: " --log-level 7'
  const drop =
    '-A KNOCKTURN-TAPS ! -i lo -p tcp -m tcp --dport 49152:65535 -m conntrack ! --ctstate RELATED,ESTABLISHED -c 9 540 -j DROP'

  it.each([
    ['NFLOG', NFLOG],
    ['LOG', LOG],
  ])('is that of all rules that log, by %s', (_, target) => {
    const lines = ['-N KNOCKTURN-TAPS', tcp(12, target), tcp(30, target).replaceAll('tcp', 'udp'), drop, '']
    expect(countLogged(lines.join('\n'))).toBe(42)
  })

  it('is 0 without such rules', () => {
    expect(countLogged(`-N KNOCKTURN-TAPS\n${drop}\n`)).toBe(0)
  })
})
