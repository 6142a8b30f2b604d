import type * as v from 'valibot'
import type { EtcdStatus } from './etcd'
import type { statusSchema } from './json'

/** What etcd lets its database grow to where nothing else is said (etcd's documentation, "Space quota"). */
const DEFAULT_QUOTA = 2 * 1024 * 1024 * 1024

/**
 * How a member is.
 * @param said by the member @param metrics its metrics, as text; null where it shows none to us
 */
export function statusOf(said: v.InferOutput<typeof statusSchema>, metrics: string | null): EtcdStatus {
  const { version, dbSize: size, dbSizeInUse: sizeInUse, dbSizeQuota, leader, errors } = said
  // Its alarms are among what it says of itself, which needs no quorum; to ask for them does.
  const alarms = errors.flatMap((error) => /\balarm:([A-Z]+)/.exec(error)?.[1] ?? [])
  const quota = dbSizeQuota > 0 ? dbSizeQuota : ((metrics === null ? null : quotaIn(metrics)) ?? DEFAULT_QUOTA)
  return { version, size, sizeInUse, quota, hasLeader: leader !== '0', alarms: [...new Set(alarms)] }
}

/** The quota that metrics tell; null where they don't, or there is none. */
export function quotaIn(metrics: string): number | null {
  const [, text] = /^etcd_server_quota_backend_bytes ([\d.e+]{1,32})$/m.exec(metrics) ?? []
  const quota = Number(text)
  return Number.isSafeInteger(quota) && quota > 0 ? quota : null
}
