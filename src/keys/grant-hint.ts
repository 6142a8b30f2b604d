import { askedOf, isOver } from '../gate/server-key'
import type { Request } from '../protocol/request'
import type { Service } from '../protocol/service'
import { hintOf, type KeyFile } from './key-file'

/* What the daemon would decide, as far as a key's file tells. The grant may be another one by now. */

/** Whether a key has been revoked or has expired, by its file. @param wall Unix milliseconds */
export function hasEnded({ revoked, expires }: Pick<KeyFile, 'revoked' | 'expires'>, wall: number): boolean {
  return isOver({ revoked, expires }, wall)
}

/** Those services of a key that a request to open asks for, by its file; null: that tells of no services. */
export function grantedBy(key: Pick<KeyFile, 'grant' | 'hint'>, asked: Pick<Request, 'port' | 'protocol'>): Service[] | null {
  const services = hintOf(key)?.services
  return services ? askedOf(services, asked) : null
}
