import type { Answers, GuardText } from '../../admin/setup/proposal'
import { parseGuarded } from '../../daemon/guard'
import { readService, type Service } from '../../protocol/service'

/* How the answers of a set-up are typed and shown. */

/** The options of `knockturn setup`. */
export interface SetupOptions {
  readonly host?: string
  readonly key?: string
  readonly services?: readonly Service[]
  readonly guard?: 'all' | readonly string[]
  readonly public?: readonly string[]
  readonly backend?: 'nftables' | 'iptables'
  readonly keyOut?: string
  readonly for: number
  readonly yes?: boolean
  readonly dryRun?: boolean
  readonly confirm?: boolean
  readonly revert?: boolean
}

/** Entries of a list: as many as a config may have. */
const MAX_ENTRIES = 256
const NONE = 'none'
const PORTS = 'ports such as 22/tcp,60000-61000/udp'
export const GUARD_RULE = `all, or ${PORTS}`
export const PUBLIC_RULE = `${PORTS}, or none`

/** Reads what is to be guarded; null for any other text. */
export function readGuard(text: string): GuardText | null {
  return text.trim() === 'all' ? 'all' : readPorts(text)
}

/** Reads what is to stay open to everyone; null for any other text. */
export function readPublic(text: string): readonly string[] | null {
  return text.trim() === NONE ? [] : readPorts(text)
}

/** Ports as the config has them: TCP where no protocol is said. */
function readPorts(text: string): string[] | null {
  const entries = text.split(',').map((entry) => {
    const port = entry.trim()
    if (parseGuarded(port)) return port
    const service = readService(port)
    return service ? `${service.port}/${service.protocol}` : null
  })
  return entries.length <= MAX_ENTRIES && entries.every((entry) => entry !== null) ? entries : null
}

export const guardText = (guard: GuardText): string => (guard === 'all' ? 'all' : guard.join(','))
export const publicText = (open: readonly string[]): string => (open.length > 0 ? open.join(',') : NONE)

/** What is closed, in words. */
export function closedText({ guard, public: open }: Pick<Answers, 'guard' | 'public'>): string {
  if (guard !== 'all') return guard.join(', ')
  return open.length > 0 ? `all ports but ${open.join(', ')}` : 'all ports'
}
