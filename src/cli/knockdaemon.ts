import { checkDaemon } from '../daemon/check'
import { inLine } from '../daemon/checks/finding'
import { readConfig, SERVER_CONFIG } from '../daemon/config'
import { openLog } from '../daemon/log'
import { type ServeOptions, serve } from '../daemon/serve'
import type { Verdict } from '../system/check'
import { forbidCoreDumps } from '../system/core-dumps'
import { explained, Fault, printable } from '../system/fault'
import { refuseWord } from './meant'
import { oneOf, program, refuseIdle } from './options'
import { VERSION } from './version'
import { EXIT, failWith, jsonOption, printJson, runProgram, warnOf } from './voice'

const NAME = 'knockdaemon'

interface Options {
  config: string
  newLedger?: boolean
  allowRoot?: boolean
  check?: boolean
  json?: boolean
  logLevel: string
}

const command = program(
  NAME,
  "Reads knocks from the firewall's log, and opens ports for those who may. It listens on no port and answers nobody.",
  `${NAME} --check --config ${SERVER_CONFIG}`,
)
  .allowExcessArguments()
  .option('--config <file>', 'the config file', SERVER_CONFIG)
  .option('--new-ledger', 'first start: create the ledger without the one-minute wait')
  .option('--allow-root', 'run even with more privileges than needed, such as root, and log a warning')
  .option('--check', 'report every fault in config, keys and ledger, change nothing, and exit')
  .addOption(jsonOption('with --check: print JSON'))
  .addOption(oneOf('--log-level <level>', 'least level to log', ['error', 'warn', 'info', 'debug']).default('info'))

let isToServe = false
command.action(() => {
  const [word] = command.args
  if (word !== undefined) refuseWord(command, word)
  isToServe = true
})

runProgram(NAME, async () => {
  const options = command.parse().opts<Options>()
  if (!isToServe) return EXIT.ok
  forbidCoreDumps((message) => warnOf(NAME, message))
  if (!options.check) refuseIdle(command, ['json'], '--check')
  if (options.check) return check(options.config, options.json === true)
  const read = await readConfig(options.config)
  if (read.faults) return failWith(NAME, read.faults)
  const log = openLog(options.logLevel)
  // Node says twice that it has no file descriptor for a child: once to who asked, and once to nobody.
  process.on('uncaughtException', (error) => {
    log.error(explained(error), 'uncaught exception')
    if (!('syscall' in error && String(error.syscall).startsWith('spawn'))) process.exit(EXIT.failure)
  })
  const isInOrder = await serve(serveOptions(options), read.value, log, (faults) => failWith(NAME, faults))
  return isInOrder ? EXIT.ok : EXIT.failure
})

/** Prints what was found, in the order of what is to be done about it. */
async function check(file: string, isJson: boolean): Promise<number> {
  const checks = await checkDaemon(file)
  const faults = checks.filter(({ verdict }) => verdict === 'fault')
  if (isJson) {
    printJson({ checks })
    return faults.length > 0 ? EXIT.failure : EXIT.ok
  }
  const lines = (wanted: Verdict) => checks.filter(({ verdict }) => verdict === wanted).map(inLine)
  const unknown = lines('unknown')
  for (const line of [...lines('note'), ...unknown]) process.stdout.write(`note: ${printable(line)}\n`)
  if (faults.length > 0)
    return failWith(
      NAME,
      faults.map(({ evidence, remedy }) => new Fault(evidence, { hint: remedy })),
    )
  process.stdout.write(`${file}: no fault${unknown.length > 0 ? ' in what was checked' : ''}\n`)
  return EXIT.ok
}

/** What the command line has beside the config. */
function serveOptions({ config: file, newLedger = false, allowRoot = false }: Options): ServeOptions {
  const words = process.argv.slice(1).filter((word) => word !== '--allow-root')
  return { file, newLedger, allowRoot, command: words.join(' '), program: VERSION }
}
