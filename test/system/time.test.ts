import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatService, parseService, readService, readTyped } from '../../src/protocol/service'
import { humanDuration, parseInstant } from '../../src/system/calendar'
import { Fault } from '../../src/system/fault'
import { checkClock, formatDuration, isoTime, parseDuration } from '../../src/system/time'

describe('a duration', () => {
  it('comes back from its text', () => {
    fc.assert(
      fc.property(fc.nat(0xffffff), (seconds) => {
        expect(parseDuration(formatDuration(seconds))).toBe(seconds)
      }),
    )
  })

  it.each([
    ['90s', 90],
    ['15m', 900],
    ['1h30m', 5400],
    ['1h1s', 3601],
    ['2h0m5s', 7205],
    ['0s', 0],
    ['16777215s', 16_777_215],
    ['007m', 420],
    ['1d', 86_400],
    ['1d12h1s', 129_601],
  ])('%s has %i s', (text, seconds) => {
    expect(parseDuration(text)).toBe(seconds)
  })

  it.each([
    ...[
      '',
      ' ',
      's',
      'm',
      '90',
      '1.5h',
      '1h1d',
      '1w',
      '-5m',
      '+5m',
      '5 m',
      ' 5m',
      '5m ',
      '5M',
      '30m1h',
      '1h1h',
      '1s1m',
      '5m5',
      'h30m',
    ],
    ...['PT15M', '1e3s', '0x10s', '٣m', '999999999s', '5m\n'],
  ])('is not %j', (text) => {
    expect(parseDuration(text)).toBeNull()
  })

  it.each([
    [0, '0s'],
    [59, '59s'],
    [60, '1m'],
    [3600, '1h'],
    [5400, '1h30m'],
    [90_061, '25h1m1s'],
    [86_400, '24h'],
  ])('of %i s is %s for short', (seconds, text) => {
    expect(formatDuration(seconds)).toBe(text)
  })

  it.each([
    [1, '1 second'],
    [90, '1 minute, 30 seconds'],
    [900, '15 minutes'],
    [5400, '1 hour, 30 minutes'],
  ])('of %i s is "%s" for people', (seconds, text) => {
    expect(humanDuration(seconds)).toBe(text)
  })
})

describe('an instant', () => {
  it.each([
    ['2027-01-31', '2027-01-31T00:00:00.000Z'],
    ['2027-01-31T12:00', '2027-01-31T12:00:00.000Z'],
    ['2027-01-31T12:00:00Z', '2027-01-31T12:00:00.000Z'],
    ['2027-01-31T12:00:00+01:00', '2027-01-31T11:00:00.000Z'],
  ])('%s is %s', (text, instant) => {
    expect(parseInstant(text)).toBe(Date.parse(instant))
  })

  it.each(['', 'tomorrow', '2027-02-30', '2027-13-01', '31.01.2027', '1h', '2027-01-31T25:00'])('is not "%s"', (text) => {
    expect(parseInstant(text)).toBeNull()
  })

  it('is printed in UTC, without the rest of its second', () => {
    expect(isoTime(Date.UTC(2026, 10, 22, 23, 12, 47, 999))).toBe('2026-11-22T23:12:47Z')
  })

  it.each([
    [1e300, '+275760-09-13T00:00:00Z'],
    [-1e300, '-271821-04-20T00:00:00Z'],
  ])('is printed as the last or first that there is where it is %f', (milliseconds, text) => {
    expect(isoTime(milliseconds)).toBe(text)
  })
})

describe('a clock', () => {
  it.each([0, Date.UTC(1970, 0, 1), Date.UTC(2000, 1, 29), Date.UTC(2019, 11, 31, 23, 59, 59, 999), -1e12])(
    'that says %i ms is refused',
    (wall) => {
      expect(() => checkClock(wall, 'set it')).toThrow(Fault)
    },
  )

  it.each([Date.UTC(2020, 0, 1), Date.UTC(2026, 10, 22), Date.UTC(2100, 0, 1)])('that says %i ms is believed', (wall) => {
    expect(() => checkClock(wall, 'set it')).not.toThrow()
  })

  it('that is refused is told, with the remedy', () => {
    expect(() => checkClock(0, 'set it')).toThrow(
      expect.objectContaining({
        message: 'the clock is wrong: expected 2020 or later, got 1970-01-01T00:00:00Z',
        hint: 'set it',
      }),
    )
  })
})

describe('a service', () => {
  it.each(['1/tcp', '22/tcp', '65535/udp'])('%s comes back from its text', (text) => {
    const service = parseService(text)
    expect(service && formatService(service)).toBe(text)
  })

  it.each([
    '',
    '22',
    '/tcp',
    '0/tcp',
    '022/tcp',
    '65536/tcp',
    '99999/udp',
    '22/TCP',
    '22/any',
    '22/tcp ',
    '22/tcp/udp',
    'ssh/tcp',
  ])('is not "%s"', (text) => {
    expect(parseService(text)).toBeNull()
  })
})

describe('a service that is typed', () => {
  it.each(['22/tcp', 'tcp/22', '22:tcp', 'tcp:22', '22/TCP', ' tcp/22 '])('may be %j', (text) => {
    expect(readTyped(text)).toEqual({ port: 22, protocol: 'tcp' })
    expect(readService(text)).toEqual({ port: 22, protocol: 'tcp' })
  })

  it('is of no protocol where none is said, and TCP for what a key may open', () => {
    expect(readTyped('53')).toEqual({ port: 53, protocol: null })
    expect(readService('53')).toEqual({ port: 53, protocol: 'tcp' })
  })

  it('may be port 0, and not for what a key may open', () => {
    expect(readTyped('0')).toEqual({ port: 0, protocol: null })
    expect(readService('0')).toBeNull()
  })

  it.each([
    '',
    '/',
    'ssh',
    'tcp',
    '22/',
    '/22',
    'tcp/22/tcp',
    'udp:22/tcp',
    '22/any',
    '22/sctp',
    '22 tcp',
    '-1',
    '65536',
    '123456',
    '22/tcp/',
  ])('is not %j', (text) => {
    expect(readTyped(text)).toBeNull()
    expect(readService(text)).toBeNull()
  })
})
