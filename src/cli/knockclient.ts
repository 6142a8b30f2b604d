import { addAdd } from './client/add'
import { NAME } from './client/aim'
import { addConnect } from './client/connect'
import { addDoctor } from './client/doctor'
import { addExec } from './client/exec'
import { knockCommand } from './client/knock'
import { addProfile } from './client/profile'
import { withCompletion } from './completion'
import { EXIT, runProgram } from './voice'

const command = knockCommand()
addAdd(command)
addProfile(command)
addConnect(command)
addExec(command)
addDoctor(command)
withCompletion(command)

runProgram(NAME, async () => {
  await command.parseAsync()
  return (process.exitCode as number | undefined) ?? EXIT.ok
})
