import { describe, expect, it } from 'vitest'
import { answer } from '../../src/browser/answer'
import { visible } from '../../src/browser/blocked'
import { duration, lifetimes, nextStep, unseen } from '../../src/browser/words'
import { addressBytes } from '../../src/protocol/address'

const bytes = (text: string) => addressBytes(text) as Uint8Array

describe('an answer', () => {
  const lines = answer('0', bytes('198.51.100.1'), [50_001, 50_002]).split('\r\n')

  it('waits for TCP connections at each port, the first of them first', () => {
    expect(lines.filter((line) => line.startsWith('a=candidate'))).toEqual([
      'a=candidate:1 1 tcp 1518280447 198.51.100.1 50001 typ host tcptype passive',
      'a=candidate:2 1 tcp 1518280446 198.51.100.1 50002 typ host tcptype passive',
    ])
  })

  it('has the name of the section that it answers', () => {
    expect(answer('data7', bytes('::1'), []).split('\r\n')).toEqual(
      expect.arrayContaining(['a=group:BUNDLE data7', 'a=mid:data7']),
    )
  })

  it('writes an IPv6 address without brackets', () => {
    expect(answer('0', bytes('2001:db8::1'), [50_001])).toContain(' 2001:db8::1 50001 ')
  })

  it('ends every line', () => {
    expect(lines.at(-1)).toBe('')
  })
})

describe('what browsers may look at', () => {
  it.each([
    [22, false],
    [25, false],
    [6667, false],
    [443, true],
    [2222, true],
    [8080, true],
  ])('at port %d: %s', (port, may) => {
    expect(visible(port)).toBe(may)
  })
})

describe('the words of a page', () => {
  it.each([
    [90, '1 minute 30 seconds'],
    [900, '15 minutes'],
    [3_600, '1 hour'],
    [9_000, '2 hours 30 minutes'],
    [0, '0 seconds'],
  ])('%d seconds are %j', (seconds, words) => {
    expect(duration(seconds)).toBe(words)
  })

  it('offer the usual times up to the longest, and the usual one', () => {
    expect(lifetimes(120, 1_200)).toEqual([60, 120, 300, 900, 1_200])
    expect(lifetimes(900, 30)).toEqual([30])
  })

  it.each([
    ['gate.example', 22, 'ssh gate.example', null],
    ['gate.example', 2222, 'ssh -p 2222 gate.example', null],
    ['gate.example', 443, 'https://gate.example/', 'https://gate.example/'],
    ['2001:db8::1', 8080, 'http://[2001:db8::1]:8080/', 'http://[2001:db8::1]:8080/'],
    ['gate.example', 5432, 'gate.example:5432', null],
  ])('say at %s port %d: %s', (host, port, line, url) => {
    expect(nextStep(host, port)).toEqual({ line, url })
  })

  it.each([
    ['sent', 2222, 'can see port 2222 only if HTTP answers there'],
    ['sent', null, 'cannot see whether the door is open: browsers refuse to connect to port 22 or 53/udp'],
    ['answered', 2222, 'Something on the network path answers every connection'],
    ['answered', null, 'This page cannot see whether the door is open'],
    ['rejected', 2222, 'Log in to this network first'],
  ] as const)('of a knock that is %s, with a look at %s, say: %s', (why, look, words) => {
    expect(unseen('ssh gate', ['22', '53/udp'], look)[why]).toContain(words)
  })
})
