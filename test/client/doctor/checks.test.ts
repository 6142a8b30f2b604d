import { describe, expect, it } from 'vitest'
import { judgeClock } from '../../../src/client/doctor/clock-check'
import { judgeKey } from '../../../src/client/doctor/key-check'
import { isPrivate, judgeName } from '../../../src/client/doctor/name-check'
import { judgePortal, type PlainAnswer } from '../../../src/client/doctor/portal'
import { parseKeyFile } from '../../../src/keys/key-file'
import { keyText } from '../../system/scratch'

const NOW = Date.UTC(2026, 10, 30, 12)
const DAY = 24 * 3600 * 1000
const HTTPS = 'https://time.example/'

const iso = (at: number) => new Date(at).toISOString()
const keyOf = (more: string) => {
  const { value } = parseKeyFile('', keyText({ more, grant: '' }))
  if (!value) throw new Error('the test’s own key is faulty')
  return value
}

describe('the key', () => {
  it('is well where it names its host, and is shown with its label and what it opens', () => {
    const [file] = judgeKey(keyOf('host = "gate.example"\nservices = ["22/tcp"]\nmax = "1h"\n'), NOW)
    expect(file).toEqual({
      name: 'key',
      verdict: 'ok',
      evidence: 'alice, server label "gate.example", opens 22/tcp, for 1h at most, at gate.example',
    })
  })

  it('is noted where it names no host', () => {
    expect(judgeKey(keyOf(''), NOW)[0]).toMatchObject({ verdict: 'note', remedy: expect.stringMatching(/^add host = /) })
  })

  it.each([
    ['well where it has no end', 'ok', ''],
    ['well where its end is far', 'ok', `expires = ${iso(NOW + 8 * DAY)}\n`],
    ['noted in its last week', 'note', `expires = ${iso(NOW + 6 * DAY)}\n`],
    ['a fault where it has expired', 'fault', `expires = ${iso(NOW)}\n`],
    ['a fault where it was revoked', 'fault', `revoked = ${iso(NOW - DAY)}\n`],
  ])('is %s', (_, verdict, more) => {
    expect(judgeKey(keyOf(more), NOW)[1]).toMatchObject({ name: "key's end", verdict })
  })

  it('says nothing of its secret', () => {
    const key = keyOf('host = "gate.example"\n')
    const secret = /secret = "(\w+)"/.exec(keyText())?.[1] ?? 'none'
    expect(JSON.stringify(judgeKey(key, NOW))).not.toContain(secret)
  })
})

describe('the clock', () => {
  const judged = (offset: number | string | null, source = HTTPS, created = NOW - DAY, wall = NOW) =>
    judgeClock({ clock: offset === null ? null : { source, offset }, period: 30, timeOffset: 0 }, wall, created)

  it('is unknown where nobody was asked', () => {
    expect(judged(null)).toMatchObject({ verdict: 'unknown', remedy: 'check the clock with --time-source https://HOST' })
  })

  it.each<[string, string, number | string, string]>([
    ['well by a source that proves its answer', 'ok', 400, HTTPS],
    ['a fault where it is more than a window off', 'fault', 95_000, HTTPS],
    ['unknown by one that nobody can trust, though it agrees', 'unknown', 400, 'ntp://time.example/'],
    ['unknown by one that nobody can trust, and that disagrees', 'unknown', 95_000, 'ntp://time.example/'],
    ['unknown where the source gives no time', 'unknown', 'no answer within 5 s', HTTPS],
  ])('is %s', (_, verdict, offset, source) => {
    expect(judged(offset, source).verdict).toBe(verdict)
  })

  it('is a fault where the key was made later than it shows', () => {
    expect(judged(null, HTTPS, NOW + 3600_000)).toMatchObject({
      verdict: 'fault',
      evidence: expect.stringContaining('the key was made at'),
    })
  })

  it('is well all the same where a source proves that the server was wrong', () => {
    expect(judged(400, HTTPS, NOW + 3600_000).verdict).toBe('ok')
  })

  it('is a fault where it cannot be true, without anybody’s answer', () => {
    expect(judged(null, HTTPS, 0, 0)).toMatchObject({ verdict: 'fault', remedy: 'set the clock' })
  })
})

describe('the name', () => {
  it.each([
    ['10.1.2.3', true],
    ['172.31.0.1', true],
    ['172.32.0.1', false],
    ['192.168.1.1', true],
    ['100.64.0.1', true],
    ['198.51.100.1', false],
    ['fd00::1', true],
    ['fe80::1%eth0', true],
    ['2001:db8::1', false],
  ])('of %s is private: %s', (address, expected) => {
    expect(isPrivate(address)).toBe(expected)
  })

  it.each([
    ['well where it leads to a public address', 'gate.example', '198.51.100.1', 'ok'],
    ['noted where it leads to a private one', 'gate.example', '10.0.0.1', 'note'],
    ['well where it is that address itself', '10.0.0.1', '10.0.0.1', 'ok'],
  ])('is %s', (_, host, address, verdict) => {
    expect(judgeName({ host, address, other: null }).verdict).toBe(verdict)
  })
})

describe('a login page', () => {
  const judged = (answer: PlainAnswer | string | null, isAnswered = false) =>
    judgePortal(['gate.example', '198.51.100.1'], answer, isAnswered)
  const to = (location: string | undefined, status = 302) => ({ status, location })

  it.each<[string, PlainAnswer | string | null, boolean, string]>([
    ['port 80 is closed', null, false, 'unknown'],
    ['port 80 says nothing', 'no answer', true, 'unknown'],
    ['port 80 has some page', to(undefined, 200), false, 'unknown'],
    ['the server leads to its own https', to('https://gate.example/'), false, 'unknown'],
    ['the server leads to its own https, by case and www', to('https://WWW.Gate.Example./'), false, 'unknown'],
    ['port 80 leads elsewhere', to('http://login.cafe.example/'), false, 'note'],
    ['port 80 leads elsewhere, and all ports answer', to('http://login.cafe.example/'), true, 'fault'],
    ['port 80 asks for a login', to(undefined, 511), false, 'fault'],
    ['port 80 leads to no address at all', to('::::'), false, 'unknown'],
  ])('where %s is judged so', (_, answer, isAnswered, verdict) => {
    expect(judged(answer, isAnswered).verdict).toBe(verdict)
  })

  it('is never named longer than a line', () => {
    expect(judged(to(`http://${'a'.repeat(5_000)}.example/`)).evidence.length).toBeLessThan(200)
  })
})
