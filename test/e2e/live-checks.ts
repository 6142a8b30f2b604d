// Runs checks of the doctor that send packets, as root, and prints them as JSON:
//
//     node test/run.mjs test/e2e/live-checks.ts strangers|heard|self-knock CONFIG

import { heardChecks } from '../../src/admin/doctor/heard'
import { selfKnockChecks } from '../../src/admin/doctor/self-knock'
import { strangerChecks } from '../../src/admin/doctor/strangers'
import { readConfig } from '../../src/daemon/config'
import { grantedServices } from '../../src/daemon/exposure/look'
import { loadServerKeys } from '../../src/daemon/server-keys'
import { asOwner } from '../../src/system/files'
import { ROOT } from '../root'

async function main([what = '', file = '']: string[]) {
  const { value: config, faults } = await readConfig(file)
  if (!config) throw faults?.[0]
  const listKeys = async () => (await asOwner(config.keys, () => loadServerKeys(config.keys, config.server))).keys
  const checks = {
    strangers: async () => strangerChecks(config, grantedServices(await listKeys(), Date.now())),
    heard: async () => heardChecks(config, await listKeys()),
    'self-knock': () => selfKnockChecks(config, ROOT),
  }[what]
  process.stdout.write(`${JSON.stringify(await checks?.())}\n`)
}

main(process.argv.slice(2))
