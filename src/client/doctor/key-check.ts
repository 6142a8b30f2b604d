import { hasEnded } from '../../keys/grant-hint'
import { hintOf, type KeyFile } from '../../keys/key-file'
import { formatService } from '../../protocol/service'
import type { Check } from '../../system/check'
import { listed } from '../../system/fault'
import { formatDuration, isoTime } from '../../system/time'

/* Whether a key that could be read is in order, as far as its file tells: pure. */

/** Services that are named in one line. */
const NAMED = 8
/** Milliseconds before the end of a key from which on that is said: time to ask somebody for a new one. */
const SOON = 7 * 24 * 3600 * 1000

/** @param wall Unix milliseconds, as corrected */
export function judgeKey(key: KeyFile, wall: number): Check[] {
  return [judgeFile(key), judgeEnd(key, wall)]
}

function judgeFile(file: KeyFile): Check {
  const { id, host, key } = file
  const hint = hintOf(file)
  const opens = hint?.services ? `opens ${listed(hint.services.map(formatService), NAMED)}` : 'does not say what it opens'
  const longest = hint?.max ? `, for ${formatDuration(hint.max)} at most` : ''
  const evidence = `${id}, server label ${JSON.stringify(key.server)}, ${opens}${longest}`
  if (host !== null) return { name: 'key', verdict: 'ok', evidence: `${evidence}, at ${host}` }
  return {
    name: 'key',
    verdict: 'note',
    evidence: `${evidence}; it names no host, so that nobody can check which server it is for`,
    remedy: 'add host = "..." to the key\'s file, with the name of its server',
  }
}

function judgeEnd({ expires, revoked }: KeyFile, wall: number): Check {
  const name = "key's end"
  const remedy = 'make a new key on the server, or ask for one'
  if (revoked !== null) return { name, verdict: 'fault', evidence: `the key was revoked at ${isoTime(revoked)}`, remedy }
  if (expires === null) return { name, verdict: 'ok', evidence: 'never, according to its file' }
  const at = `${isoTime(expires)}, according to its file`
  if (hasEnded({ revoked, expires }, wall))
    return { name, verdict: 'fault', evidence: `the key expired at ${at}`, remedy: `${remedy}; if this clock is wrong, set it` }
  if (expires - wall > SOON) return { name, verdict: 'ok', evidence: at }
  return { name, verdict: 'note', evidence: `${at}: in less than ${SOON / 24 / 3600 / 1000} days`, remedy }
}
