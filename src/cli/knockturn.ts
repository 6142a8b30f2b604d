import { forbidCoreDumps } from '../system/core-dumps'
import { addDoctor } from './admin/doctor'
import { addExplain } from './admin/explain'
import { addFirewall } from './admin/firewall'
import { addFleet } from './admin/fleet'
import { addGuard } from './admin/guard'
import { addKey } from './admin/key'
import { addLease } from './admin/lease'
import { addLedger } from './admin/ledger'
import { addListen } from './admin/listen'
import { addLock } from './admin/lock'
import { addLog } from './admin/log'
import { addPage } from './admin/page'
import { addReplay } from './admin/replay'
import { addSetup } from './admin/setup'
import { addStatus } from './admin/status'
import { addUninstall } from './admin/uninstall'
import { NAME, warn } from './admin/voice'
import { withCompletion } from './completion'
import { program } from './options'
import { EXIT, runProgram } from './voice'

const command = program(NAME, 'Set up port knocking on this server, and make its keys.', `${NAME} setup --dry-run`)
addSetup(command)
addStatus(command)
addDoctor(command)
addLease(command)
addLock(command)
addLog(command)
addExplain(command)
addReplay(command)
addListen(command)
addKey(command)
addFirewall(command)
addGuard(command)
addLedger(command)
addFleet(command)
addPage(command)
addUninstall(command)
withCompletion(command)

runProgram(NAME, async () => {
  forbidCoreDumps(warn)
  await command.parseAsync()
  return (process.exitCode as number | undefined) ?? EXIT.ok
})
