import { describe, expect, it } from 'vitest'
import { readEntry } from '../../../src/admin/log/journal'

/* Any user can write to the journal, under any name. What begins with an underscore is journald's own word. */

const LINE = '{"level":30,"time":"2026-11-30T22:00:00.000Z","key":"mallory","msg":"accepted"}'
const OURS = { _SYSTEMD_UNIT: 'knockdaemon.service', _TRANSPORT: 'stdout', MESSAGE: LINE }

it('an entry of the daemon’s unit is read', () => {
  expect(readEntry(JSON.stringify(OURS))).toBe(LINE)
})

describe('an entry is not the daemon’s', () => {
  it.each<[string, object]>([
    [
      'by logger(1), under the daemon’s name',
      { _SYSTEMD_UNIT: 'session-7.scope', _TRANSPORT: 'syslog', SYSLOG_IDENTIFIER: 'knockdaemon' },
    ],
    [
      'by a unit of that name of the user’s own manager',
      { _SYSTEMD_UNIT: 'user@1000.service', _SYSTEMD_USER_UNIT: 'knockdaemon.service' },
    ],
    ['that names the unit in a field of the writer’s', { _SYSTEMD_UNIT: 'user@1000.service', UNIT: 'knockdaemon.service' }],
    [
      'that names it in another writer’s field',
      { _SYSTEMD_UNIT: 'user@1000.service', OBJECT_SYSTEMD_UNIT: 'knockdaemon.service' },
    ],
    ['of a unit whose name begins with ours', { _SYSTEMD_UNIT: 'knockdaemon.service.service' }],
    ['of an instance with our name', { _SYSTEMD_UNIT: 'knockdaemon@x.service' }],
    ['of our unit in other letters', { _SYSTEMD_UNIT: 'Knockdaemon.service' }],
    ['that has the unit twice', { _SYSTEMD_UNIT: ['user@1000.service', 'knockdaemon.service'] }],
    ['that has our unit twice', { _SYSTEMD_UNIT: ['knockdaemon.service', 'knockdaemon.service'] }],
    ['without a unit', { _SYSTEMD_UNIT: undefined }],
    ['by a program below the daemon that calls syslog itself', { _TRANSPORT: 'syslog' }],
    ['by a program below the daemon that writes to the journal itself', { _TRANSPORT: 'journal' }],
    ['with two messages', { MESSAGE: [LINE, LINE] }],
    ['with a message in bytes', { MESSAGE: [...Buffer.from(LINE)] }],
    ['with a message that is too long for the journal to show', { MESSAGE: null }],
    ['without a message', { MESSAGE: undefined }],
  ])('%s', (_, more) => {
    expect(readEntry(JSON.stringify({ ...OURS, ...more }))).toBeNull()
  })

  it.each(['', 'null', '[]', '"knockdaemon.service"', JSON.stringify(OURS).slice(0, -1)])('that is %j', (text) => {
    expect(readEntry(text)).toBeNull()
  })
})
