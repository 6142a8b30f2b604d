import { spawnSync } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { expect, onTestFinished } from 'vitest'
import type { State } from '../../../src/daemon/state/state'
import { parseKeyFile } from '../../../src/keys/key-file'

/** The state of a daemon that hears, with one key and nothing in force. @param key the text of the key's file @param ledger its path */
export function stateWith(key: string, ledger: string): State {
  const { value } = parseKeyFile('', key)
  const at = '2026-01-01T00:00:00Z'
  return {
    ...{
      fleet: null,
      version: 1,
      program: '0',
      pid: 1,
      started: at,
      config: '',
      ledger,
      server: 'gate.example',
      backend: 'dry-run',
    },
    ...{ source: 'nflog', hearing: 'well', lastTap: null, lastKnock: null, guard: [], leases: [], locks: [] },
    taps: { seen: 0, ignored: 0, unreadable: 0, dropped: 0 },
    keys: value ? [{ id: value.id, fingerprint: fingerprintOf(key), expires: null, services: [], lastUse: null }] : [],
    day: { since: at, accepted: 0, refused: {}, taps: 0, dropped: 0, busiest: null },
  }
}

/** The fingerprint of a key, in hex. @param key the text of its file */
export const fingerprintOf = (key: string): string =>
  Buffer.from(parseKeyFile('', key).value?.key.fingerprint ?? []).toString('hex')

/** Holds a ledger until the test ends, as a daemon that is alive does: the lock is the open file's. */
export function holdLedger(path: string): void {
  const fd = openSync(path, 'r+')
  onTestFinished(() => closeSync(fd))
  const { status } = spawnSync('flock', ['--exclusive', '--nonblock', '3'], { stdio: ['ignore', 'ignore', 'inherit', fd] })
  expect(status).toBe(0)
}
