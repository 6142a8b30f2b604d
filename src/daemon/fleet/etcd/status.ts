import { readBy } from '../../../system/json'
import { askMember } from './ask'
import { type EtcdStatus, Unavailable } from './etcd'
import { statusSchema } from './json'
import type { Member } from './member'

/** What etcd lets its database grow to where nothing else is said (etcd's documentation, "Space quota"). */
const DEFAULT_QUOTA = 2 * 1024 * 1024 * 1024
/** Longest answer with metrics: an etcd has some 150 KB of them. */
const MAX_METRICS = 4 * 1024 * 1024

const ASKED = {
  path: '/v3/maintenance/status',
  body: {},
  isLook: true,
  needsLeader: false,
  read: (answer: unknown) => readBy(statusSchema, answer),
}

/** Asks a member how it is: it says so alone, whether it has a leader or not. @throws {Unavailable} */
export async function askStatus(member: Member, token: string | null, signal: AbortSignal): Promise<EtcdStatus> {
  const said = await askMember(member, token, ASKED, signal)
  const { version, dbSize: size, dbSizeInUse: sizeInUse, dbSizeQuota, leader, raftIndex: reached, errors } = said
  // Its alarms are among its complaints: to ask for them takes a quorum.
  const alarms = errors.flatMap((error) => /\balarm:([A-Z]+)/.exec(error)?.[1] ?? [])
  const quota = dbSizeQuota > 0 ? dbSizeQuota : ((await askQuota(member, signal)) ?? DEFAULT_QUOTA)
  return { version, size, sizeInUse, quota, hasLeader: leader !== '0', reached, alarms: [...new Set(alarms)] }
}

/** Asks a member how far its log has come. @throws {Unavailable} */
export async function askReached(member: Member, token: string | null, signal: AbortSignal): Promise<number> {
  return (await askMember(member, token, ASKED, signal)).raftIndex
}

/** The quota that a member's metrics tell, as it says nothing of it itself before etcd 3.6; null where they don't, or there is none. */
async function askQuota(member: Member, signal: AbortSignal): Promise<number | null> {
  const call = { method: 'GET', path: '/metrics', body: '', token: null, most: MAX_METRICS, needsLeader: false } as const
  try {
    const { status, text } = await member.call(call, signal)
    return status === 200 ? quotaIn(text) : null
  } catch (error) {
    if (error instanceof Unavailable) return null
    throw error
  }
}

/** The quota in a text of metrics; null where it is not there, or none. */
function quotaIn(metrics: string): number | null {
  const [, text] = /^etcd_server_quota_backend_bytes ([\d.e+]{1,32})$/m.exec(metrics) ?? []
  const quota = Number(text)
  return Number.isSafeInteger(quota) && quota > 0 ? quota : null
}
