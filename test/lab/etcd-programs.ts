import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { ROOT } from '../root'

/** Where test/etcd.mjs puts them. */
const PLACE = join(ROOT, 'node_modules/.cache/knockturn/etcd')

/** The paths of etcd's programs. @throws where they are missing, saying how to get them */
export function etcdPrograms(): { readonly etcd: string; readonly etcdctl: string } {
  if (!existsSync(PLACE))
    throw new Error(`${PLACE}: expected etcd, and it is missing: where a Debian mirror is in reach, run "node test/etcd.mjs"`)
  const folder = join(PLACE, 'usr/bin')
  return { etcd: join(folder, 'etcd'), etcdctl: join(folder, 'etcdctl') }
}
