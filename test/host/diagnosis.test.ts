import { describe, expect, it } from 'vitest'
import { type Evidence, findings } from '../../src/host/diagnosis'

const SILENT = Array<string>(8).fill('silence')
const WELL: Evidence = {
  host: 'gate.example',
  services: new Map([[22, 'silence']]),
  datagram: undefined,
  knocked: SILENT,
  seen: new Set(['silence']),
  period: 30,
  clock: null,
  timeOffset: 0,
  named: null,
  ended: null,
}
const said = (evidence: Partial<Evidence>) => findings({ ...WELL, ...evidence })
const clock = (offset: number | string) => ({ source: 'ntp://time.example', offset })

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
  ])('it says that the ports of the knock are rejected, %s', (_, knocked) => {
    expect(said({ knocked })[0]).toMatch(/rejects the ports of the knock at once.*try --datagram 443/)
  })

  it('it does not say that a host is out of reach whose service refuses', () => {
    expect(said({ services: new Map([[22, 'refused']]), seen: new Set(['EHOSTUNREACH']) }).join('\n')).not.toMatch(
      'cannot be reached',
    )
  })

  it('it says that silence is no sign', () => {
    expect(said({})[0]).toMatch(/^the ports of the knock are silent/)
  })

  it('it says nothing of ports that were not looked at', () => {
    expect(said({ knocked: [] })).toHaveLength(2)
  })
})

describe('of the clock', () => {
  it('it says that it is not known where nobody was asked', () => {
    expect(said({})[1]).toMatch(/^whether this clock is right is not known: name somebody to ask, such as --time-source/)
  })

  it('it says why it is not known', () => {
    expect(said({ clock: clock('time.example: no answer') })[1]).toBe(
      'whether this clock is right is not known: time.example: no answer',
    )
  })

  it.each([
    [95_000, 0, /^this clock is 95 s behind that of ntp:\/\/time\.example: set it, or knock with --time-offset 95$/],
    [-299_400, 0, /is 299 s ahead of that .* --time-offset -299$/],
    [-200_000, 200, /^this clock, as --time-offset corrects it, is 200 s ahead .* --time-offset 0$/],
    [
      -3_600_400,
      0,
      /^this clock is 3600 s ahead of what ntp:\/\/time\.example says: if you believe that, set it \(nothing proves [^)]*\)$/,
    ],
    [30_000, 0, /^this clock is right to 30\.0 s/],
    [-240, 0, /^this clock is right to 0\.2 s, by ntp:\/\/time\.example/],
  ])('with an offset of %i ms beside --time-offset %i it says %s', (offset, timeOffset, line) => {
    expect(said({ clock: clock(offset), timeOffset })[1]).toMatch(line)
  })
})

describe('of the key', () => {
  it('it says first that it has ended', () => {
    expect(said({ ended: Date.UTC(2027, 0, 31) })[0]).toMatch(/^the key has ended, at 2027-01-31T00:00:00Z by its file/)
  })
})

describe('of the address', () => {
  it('it says that a door for a named one may stay shut from here', () => {
    expect(said({ named: '198.51.100.7' })[2]).toMatch(/^the door was to open for 198\.51\.100\.7: if the server sees another/)
  })
})

describe('of the service', () => {
  it.each([
    ['refused', /^port 22 refuses/],
    ['silence', /^port 22 is silent: the door is shut/],
    ['open', /^port 22 has just answered/],
  ])('that shows %s it says so', (saw, line) => {
    expect(said({ services: new Map([[22, saw]]) }).at(-1)).toMatch(line)
  })

  it('it has a line for each', () => {
    const services = new Map([
      [22, 'silence'],
      [443, 'refused'],
    ])
    expect(said({ services }).slice(-2)).toEqual([expect.stringMatching(/^port 22 /), expect.stringMatching(/^port 443 /)])
  })
})
