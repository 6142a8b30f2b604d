import { describe, expect, it } from 'vitest'
import { findings } from '../../src/client/diagnosis'
import type { Evidence } from '../../src/client/evidence'
import { ANSWERED } from '../../src/client/lookout'
import { SILENCE, SILENT } from './silence'

/** What was found, each as its lines. */
const said = (evidence: Partial<Evidence>) =>
  findings({ ...SILENCE, ...evidence }).map(({ seen, unknown, hint }) =>
    [seen, unknown, hint && `hint: ${hint}`].filter(Boolean).join('\n'),
  )
const clock = (offset: number | string, source = 'https://time.example/') => ({ source, offset })

describe('of the network', () => {
  it.each<[string, Partial<Evidence>]>([
    ['the service is out of reach', { services: new Map([[22, 'ENETUNREACH']]) }],
    ['nobody has had its address meanwhile', { seen: new Set(['silence', 'EHOSTUNREACH']) }],
    ['all is out of reach', { services: new Map([[22, 'EHOSTUNREACH']]), knocked: Array(8).fill('EHOSTUNREACH') }],
  ])('it says that the host cannot be reached, where %s', (_, evidence) => {
    expect(said(evidence)[0]).toMatch(/^gate\.example cannot be reached \(E(NET|HOST)UNREACH\)/)
  })

  it.each<[string, string[]]>([
    ['by a reset', Array(8).fill('refused')],
    ['by ICMP messages, of which routers send few', [...SILENT.slice(1), 'EHOSTUNREACH']],
    ['by IPv6, as what is forbidden', [...SILENT.slice(1), 'EACCES']],
  ])('it says that the ports of the knock are rejected, %s', (_, knocked) => {
    expect(said({ knocked })[0]).toMatch(
      /^the ports of the knock are rejected at once.*\nhint: log in to this network first.*try --udp, or --datagram 443/,
    )
  })

  it.each([
    ['rejected', 'refused'],
    ['answered', 'open'],
  ])('it does not send to --udp who has touched ports by UDP, where they are %s', (_, saw) => {
    const [first] = said({ udp: true, knocked: Array(8).fill(saw) })
    expect(first).toMatch(/try --datagram 443/)
    expect(first).not.toMatch(/--udp/)
  })

  it('it does not blame the service that refuses where the ports of the knock are rejected, too', () => {
    expect(said({ services: new Map([[22, 'refused']]), knocked: ['refused'] })).toEqual([
      expect.stringMatching(/\nhint: log in to this network first/),
    ])
  })

  it('it says of one that answers everything what to try, and nothing of the service', () => {
    expect(said({ services: new Map([[22, ANSWERED]]), knocked: ['open', 'refused'] })).toEqual([
      expect.stringMatching(/^something on the path answers every connection.*\nhint: try --udp, or --datagram 443/),
    ])
  })

  it('it does not say that a host is out of reach whose service refuses', () => {
    expect(said({ services: new Map([[22, 'refused']]), seen: new Set(['EHOSTUNREACH']) }).join('\n')).not.toMatch(
      'cannot be reached',
    )
  })

  it('it says that silence is no sign', () => {
    expect(said({})[0]).toMatch(/^the ports of the knock are silent/)
  })

  it.each<[string, Partial<Evidence>, string]>([
    ['at first', {}, '--udp, then --pace 60, then --datagram 443, or another network'],
    ['behind UDP', { udp: true }, '--pace 60, then --datagram 443, or another network'],
    ['behind a pace that was too quick', { pace: 20 }, '--udp, then --pace 60, then --datagram 443, or another network'],
    ['behind one that was not', { pace: 60 }, '--udp, then --datagram 443, or another network'],
  ])('it says %s what else may get through a guard against port scans', (_, evidence, ways) => {
    expect(said(evidence)[0]).toMatch(
      new RegExp(`for minutes after what looks like a port scan, and longer with each pass\nhint: try ${ways}$`),
    )
  })

  it.each<[string, Partial<Evidence>]>([
    ['by ports', {}],
    ['by a datagram', { datagram: 443, knocked: [] }],
  ])('it says first that nothing came back by IPv6, where IPv4 might do: %s', (_, evidence) => {
    expect(said({ ...evidence, mayTry4: true })[0]).toBe(
      'nothing came back by IPv6\nhint: try -4: IPv6 may not work in this network',
    )
  })

  it.each<[string, Partial<Evidence>]>([
    ['something came back at the service', { services: new Map([[22, 'refused']]) }],
    ['something came back at the ports of the knock', { knocked: [...SILENT.slice(1), 'refused'] }],
    ['nobody was reached', { seen: new Set(['EHOSTUNREACH']) }],
    ['IPv4 would not do, or was tried, too', { mayTry4: false }],
  ])('it does not say so where %s', (_, evidence) => {
    expect(said({ mayTry4: true, ...evidence }).join('\n')).not.toMatch('by IPv6')
  })

  it('it says nothing of ports that were not looked at', () => {
    expect(said({ knocked: [] })).toHaveLength(2)
  })
})

describe('of the clock', () => {
  it('it says that it is not known where nobody was asked', () => {
    expect(said({})[1]).toBe('it is not known whether this clock is right\nhint: check the clock with --time-source https://HOST')
  })

  it('it says why it is not known', () => {
    expect(said({ clock: clock('time.example: no answer') })[1]).toBe(
      'it is not known whether this clock is right: time.example: no answer',
    )
  })

  it.each([
    [
      95_000,
      0,
      /^this clock is 95 s behind that of https:\/\/time\.example\/\nhint: set the clock, or knock with --time-offset 95$/,
    ],
    [-119_400, 0, /is 119 s ahead of that .*\nhint: .* --time-offset -119$/],
    [-200_000, 200, /^this clock, as --time-offset corrects it, is 200 s ahead .*\nhint: .* --time-offset 0$/],
    [30_000, 0, /^this clock is right to 30\.0 s/],
    [-240, 0, /^this clock is right to 0\.2 s, according to https:\/\/time\.example/],
  ])('with an offset of %i ms beside --time-offset %i it says %s', (offset, timeOffset, line) => {
    expect(said({ clock: clock(offset), timeOffset }).find((said) => said.startsWith('this clock'))).toMatch(line)
  })

  const SET_IT =
    /^this clock.* is \d+ s (ahead of|behind) that of https:\S+\na correction of more than .*\nhint: set the clock, if you trust that answer$/

  it.each([
    ['at once', 121_000, 0, 30],
    ['backwards', -3_600_400, 0, 30],
    ['on top of what it was corrected by', 100_000, 90, 30],
    ['for a key of short windows', 50_000, 0, 10],
  ])('it names no offset of more than four windows, %s', (_, offset, timeOffset, period) => {
    expect(said({ clock: clock(offset), timeOffset, period })[0]).toMatch(SET_IT)
  })

  it.each([
    [
      95_000,
      /^this clock and that of ntp:\/\/time\.example differ by 95 s\nnothing proves an answer by ntp: .*\nhint: ask with --time-source https:/,
    ],
    [-95_000, /^this clock and that of ntp:\/\/time\.example differ by 95 s\n/],
    [
      -240,
      /^this clock and that of ntp:\/\/time\.example differ by 0\.2 s, unless somebody in this network forged that answer\n/,
    ],
  ])('of an answer by ntp of %i ms, which nothing proves, it tells the difference alone', (offset, line) => {
    const lines = said({ clock: clock(offset, 'ntp://time.example') })
    expect(lines.find((said) => said.startsWith('this clock'))).toMatch(line)
    expect(lines.join('\n')).not.toMatch(/--time-offset|behind|ahead/)
  })
})

describe('of the key', () => {
  it('it says first that it has ended', () => {
    expect(said({ ended: Date.UTC(2027, 0, 31) })[0]).toMatch(
      /^the key expired at 2027-01-31T00:00:00Z, according to its file\nhint: /,
    )
  })
})

describe('of the address', () => {
  it('it says that a door for a named one may stay shut from here', () => {
    expect(said({ named: '198.51.100.7' })[2]).toMatch(/^the knock opens for 198\.51\.100\.7: if the server sees another/)
  })
})

describe('of the service', () => {
  it.each([
    ['silence', /^port 22 is silent: it is closed, or this network blocks it\nhint: read the server's log/],
    ['open', /^port 22 has just answered/],
  ])('that shows %s it says so, at the end', (saw, line) => {
    expect(said({ services: new Map([[22, saw]]) }).at(-1)).toMatch(line)
  })

  it('it has a line for each that is silent', () => {
    const services = new Map([
      [22, 'silence'],
      [80, 'silence'],
    ])
    expect(said({ services }).slice(-2)).toEqual([expect.stringMatching(/^port 22 /), expect.stringMatching(/^port 80 /)])
  })

  const REFUSED = new Map([
    [443, 'refused'],
    [80, 'refused'],
  ])

  it('that refuses it says first what to do, and nothing of clock and silence', () => {
    expect(said({ services: REFUSED })).toEqual([
      expect.stringMatching(/^either no service listens on ports 443, 80, or .*\nhint: start the service on ports 443, 80, or /),
    ])
  })

  it('that refuses behind a datagram it says may be the network', () => {
    const refuses = { services: new Map([[22, 'refused']]), knocked: [], datagram: 443 }
    expect(said(refuses)[0]).toMatch(
      /\nhint: log in to this network first, if it has a login page; else start the service on port 22, or/,
    )
    expect(said({ ...refuses, opened: [443] })[0]).toMatch(/\nhint: start the service on port 22, or/)
  })

  it('that refuses it says what is wrong all the same, where it is known', () => {
    expect(said({ services: REFUSED, clock: clock(95_000) })).toEqual([
      expect.stringMatching(/\nhint: start the service/),
      expect.stringMatching(/^this clock is 95 s behind/),
    ])
  })

  it('that refuses beside a silent one it says first', () => {
    const services = new Map([...REFUSED, [22, 'silence']] as const)
    expect(said({ services }).map((line) => line.slice(0, 17))).toEqual([
      'either no service',
      'the ports of the ',
      'it is not known w',
      'port 22 is silent',
    ])
  })
})

describe('of a clock that is wrong for sure', () => {
  it('it says before what is only likely', () => {
    expect(said({ clock: clock(95_000) }).map((line) => line.slice(0, 16))).toEqual([
      'this clock is 95',
      'the ports of the',
      'port 22 is silen',
    ])
  })
})

describe('where another port has opened', () => {
  const opened = [22, 80]

  it('it asks for the grant, and for nothing that the other one has proved right', () => {
    expect(said({ opened, services: new Map([[443, 'silence']]), clock: clock(95_000) })).toEqual([
      "ports 22, 80 opened, so key and clock are right\nport 443 did not: the key may not grant it, or this network may block it\nhint: read the server's log: it says what was refused, and why",
    ])
  })

  it('it says of a port that refuses what to do', () => {
    expect(said({ opened, services: new Map([[443, 'refused']]) })).toEqual([
      expect.stringMatching(/\nhint: start the service on port 443, or/),
    ])
  })
})
