import { forbidCoreDumps } from '../system/core-dumps'
import { addDoctor } from './admin/doctor'
import { addFirewall } from './admin/firewall'
import { addGuard } from './admin/guard'
import { addKey } from './admin/key'
import { addLedger } from './admin/ledger'
import { addPage } from './admin/page'
import { addSetup } from './admin/setup'
import { addUninstall } from './admin/uninstall'
import { NAME, warn } from './admin/voice'
import { withCompletion } from './completion'
import { program } from './options'
import { EXIT, runProgram } from './voice'

const command = program(NAME, 'Set up port knocking on this server, and make its keys.', `${NAME} setup --dry-run`)
addSetup(command)
addKey(command)
addFirewall(command)
addGuard(command)
addLedger(command)
addPage(command)
addDoctor(command)
addUninstall(command)
withCompletion(command)

runProgram(NAME, async () => {
  forbidCoreDumps(warn)
  await command.parseAsync()
  return (process.exitCode as number | undefined) ?? EXIT.ok
})
