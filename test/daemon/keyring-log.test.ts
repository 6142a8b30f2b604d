import pino from 'pino'
import { describe, expect, it } from 'vitest'
import { KeyringLog } from '../../src/daemon/keyring-log'
import type { ServerKeys } from '../../src/daemon/server-keys'
import { Fault } from '../../src/system/fault'

/** What a keyring has had said, look by look. */
function keyring() {
  const lines: Record<string, unknown>[] = []
  const log = new KeyringLog(pino({ base: null }, { write: (line) => void lines.push(JSON.parse(line)) }))
  const look = (found: Partial<ServerKeys>, steady = 0) => {
    lines.length = 0
    log.tell({ keys: [], faults: [], held: [], unread: [], ignored: [], ...found }, steady)
    return lines.map(({ level, reason, file, count }) => [level, reason ?? file, ...(count ? [count] : [])])
  }
  return { look, forget: () => log.forget() }
}

const fault = new Fault('alice.key: broken')

describe('what is wrong with a keyring', () => {
  it.each<[string, Partial<ServerKeys>, unknown[]]>([
    ['a key that is refused', { faults: [fault] }, [50, 'alice.key: broken']],
    ['a key that stays for a while', { held: [{ id: 'alice', faults: [fault], until: 10_000 }] }, [50, 'alice.key: broken']],
    ['a file that is no key', { ignored: ['keys/alice.key~'] }, [40, 'keys/alice.key~']],
  ])('is said once (%s), and again when somebody asks', (_, found, line) => {
    const { look, forget } = keyring()
    expect([look(found), look(found)]).toEqual([[line], []])
    forget()
    expect(look(found)).toEqual([line])
  })

  it('is said again when it has been mended meanwhile', () => {
    const { look } = keyring()
    expect([look({ faults: [fault] }), look({}), look({ faults: [fault] })].map(({ length }) => length)).toEqual([1, 0, 1])
  })

  it('and cannot be known is said each minute, with how much that is', () => {
    const { look } = keyring()
    const unread = [new Fault('alice.key: EIO'), new Fault('bob.key: EIO')]
    const said = [0, 10_000, 59_999, 60_000, 119_999, 120_000].map((steady) => look({ unread }, steady))
    const line = [50, 'alice.key: EIO', 2]
    expect(said).toEqual([[line], [], [], [line], [], [line]])
  })
})
