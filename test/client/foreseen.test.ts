import { describe, expect, it } from 'vitest'
import { type Asked, checkForeseen, mayOpenTcp, onlyService, usualTime } from '../../src/client/foreseen'
import { type KeyFile, parseKeyFile } from '../../src/keys/key-file'
import { Fault, UsageFault } from '../../src/system/fault'
import { keyText } from '../system/scratch'

const NOW = Date.UTC(2026, 10, 22)
const STALE = 'if the grant has changed since, export the key again, or send anyway with --force'

/** A client's copy that says this. */
function copy(more: string): KeyFile {
  const { value, faults } = parseKeyFile('', keyText({ more: `${more}\n`, grant: '' }))
  if (!value) throw faults[0]
  return value
}
const COPY = copy('services = ["22/tcp", "53/udp", "80/tcp", "80/udp"]\nmax = "1h"')
const BARE = copy('')
const open = (port: number, protocol: Asked['protocol'] = 'any', seconds = 300): Asked => ({
  action: 'open',
  port,
  protocol,
  seconds,
})

/** What is said of requests: nothing, or what is wrong, what to do, and whether it is the user's call that is wrong. */
function said(key: KeyFile, asked: readonly Asked[], wall = NOW) {
  try {
    checkForeseen(key, asked, wall)
    return null
  } catch (error) {
    if (!(error instanceof Fault)) throw error
    return [error.message, error.hint, error instanceof UsageFault]
  }
}

describe('a knock that the key’s file says is granted', () => {
  it.each<[string, Asked[]]>([
    ['a port', [open(22)]],
    ['a port and its protocol', [open(22, 'tcp'), open(53, 'udp')]],
    ['all ports', [open(0)]],
    ['all ports of a protocol', [open(0, 'udp')]],
    ['the longest time', [open(22, 'tcp', 3600)]],
    ['no end, which no copy tells of', [open(22, 'tcp', 0)]],
    ['a lock for the longest time', [{ action: 'lock', port: 0, protocol: 'any', seconds: 3600 }]],
    ['closing a port that it may not open (any more)', [{ action: 'close', port: 443, protocol: 'any', seconds: 0 }]],
  ])('is sent: %s', (_, asked) => {
    expect(said(COPY, asked)).toBeNull()
  })

  it('is any, where the file says nothing, as those of version 0.1.0', () => {
    expect(said(BARE, [open(443), open(1, 'udp', 0xffffff)])).toBeNull()
  })

  it('is any port or any time where it says nothing of them', () => {
    expect(said(copy('max = "1h"'), [open(443)])).toBeNull()
    expect(said(copy('services = ["22/tcp"]'), [open(22, 'tcp', 0xffffff)])).toBeNull()
  })
})

describe('a knock that the key’s file says is not granted', () => {
  it.each<[string, Asked[], string]>([
    ['a port', [open(443)], '443'],
    ['a protocol of a port', [open(22, 'udp')], '22/udp'],
    ['two of three', [open(23), open(22), open(443, 'tcp')], '23, 443/tcp'],
  ])('is told, with what is: %s', (_, asked, what) => {
    expect(said(COPY, asked)).toEqual([
      `the key alice may not open ${what}: it opens 22/tcp, 53/udp, 80/tcp, 80/udp`,
      STALE,
      true,
    ])
  })

  it('is told for all ports of a protocol of which there is none', () => {
    expect(said(copy('services = ["22/tcp"]'), [open(0, 'udp')])?.[0]).toBe(
      'the key alice may not open anything by udp: it opens 22/tcp',
    )
  })

  it('is told in one line, however many services there are', () => {
    const services = Array.from({ length: 64 }, (_, n) => `"${n + 1}/tcp"`).join()
    expect(said(copy(`services = [${services}]`), [open(443)])?.[0]).toMatch(/it opens 1\/tcp, .*, 8\/tcp and 56 more$/)
  })

  it.each<[string, Asked]>([
    ['open', open(22, 'tcp', 3601)],
    ['lock', { action: 'lock', port: 0, protocol: 'any', seconds: 3601 }],
  ])('is told where it is too long to %s', (_, asked) => {
    expect(said(COPY, [asked])).toEqual(['-t expected at most 1h, the longest time of the key alice, got 1h1s', STALE, true])
  })

  it('is told of the server’s own file as of a copy', () => {
    const { value } = parseKeyFile('', keyText({ grant: 'services = ["22/tcp"]' }))
    expect(said(value as KeyFile, [open(443)])?.[0]).toBe('the key alice may not open 443: it opens 22/tcp')
  })
})

describe('a key that is over', () => {
  const HINT = 'ask for a new key; if this clock is wrong, set it, or send anyway with --force'
  const CLOSE: Asked = { action: 'close', port: 0, protocol: 'any', seconds: 0 }

  it.each<[string, Asked]>([
    ['to open', open(22)],
    ['to close', CLOSE],
  ])('is told from its last moment on, %s', (_, asked) => {
    const key = copy('expires = 2026-11-22T00:00:00Z')
    expect(said(key, [asked], NOW - 1)).toBeNull()
    expect(said(key, [asked])).toEqual(['the key alice expired at 2026-11-22T00:00:00Z, according to its file', HINT, false])
  })

  it('is told where its copy was made when it was revoked already', () => {
    expect(said(copy('revoked = 2030-01-01T00:00:00Z'), [CLOSE])?.[0]).toBe(
      'the key alice was revoked at 2030-01-01T00:00:00Z, according to its file',
    )
  })
})

describe('where nothing is said', () => {
  it('the only service is opened', () => {
    expect(onlyService(copy('services = ["53/udp"]'), 'any')).toEqual({ port: 53, protocol: 'udp' })
    expect(onlyService(copy('services = ["22/tcp", "53/udp"]'), 'tcp')).toEqual({ port: 22, protocol: 'tcp' })
  })

  it.each<[string, KeyFile, Asked['protocol'], string]>([
    ['several', COPY, 'any', 'the key alice opens 22/tcp, 53/udp, 80/tcp, 80/udp: add -p 22'],
    ['several of a protocol', COPY, 'udp', 'the key alice opens 22/tcp, 53/udp, 80/tcp, 80/udp: add -p 53'],
    ['nobody knows how many', BARE, 'any', 'add -p with the port, such as -p 22'],
  ])('a port is asked for where there are %s', (_, key, protocol, hint) => {
    const fault = (() => {
      try {
        return onlyService(key, protocol)
      } catch (error) {
        return error
      }
    })()
    expect(fault).toMatchObject({ message: 'no port to open: -p is missing', hint })
    expect(fault).toBeInstanceOf(UsageFault)
  })

  it('the usual time is asked for, or the longest that there is', () => {
    expect([usualTime(300, COPY), usualTime(300, copy('max = "90s"')), usualTime(300, BARE)]).toEqual([300, 90, 300])
  })

  it('a connection shows the doors that may be TCP’s', () => {
    expect([mayOpenTcp(COPY, 22), mayOpenTcp(COPY, 53), mayOpenTcp(COPY, 80), mayOpenTcp(BARE, 53)]).toEqual([
      true,
      false,
      true,
      true,
    ])
  })
})
