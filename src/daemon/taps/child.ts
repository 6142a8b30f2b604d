import { setTimeout as sleep } from 'node:timers/promises'
import { execa } from 'execa'
import { commandPath, findCommand, run, WHEREVER } from '../../system/commands'
import { Fault, reason } from '../../system/fault'
import { lineSplitter } from './lines'

/** Waits between restarts, in milliseconds: doubled up to the last, and short again for a child that has lived longer than that. */
const FIRST_WAIT = 100
const LAST_WAIT = 5_000
/** How long a child has to start hearing, in milliseconds. */
const START_LIMIT = 10_000

/**
 * When a whole unit is ended, each of its processes gets the signal at the same moment, and which of them is gone first is chance. What is said
 * of a child's death is held back for so many milliseconds, and is not said if our own end comes meanwhile.
 */
const MEANWHILE = 500

/** If we are killed, a child must not live on: tcpdump would keep its group from the next daemon. */
const WITH_US = ['--pdeathsig', 'KILL']
/** Takes away what we may. */
const PLAIN = ['--ambient-caps', '-all', '--inh-caps', '-all']
const REMEDY = 'install setpriv of util-linux 2.33 or later (not that of BusyBox), or set source = "file" in [taps]'

/** A program whose output has no end. */
export interface Program {
  readonly argv: readonly [string, ...string[]]
  /** What it hears, for a fault. */
  readonly hears: string
  /**
   * Makes the reader of one life's output; where the reader throws, that life is ended.
   * @param begun to be called when the program hears
   */
  readonly reader: (begun: () => void) => (chunk: Buffer) => void
  /** For a program that is silent until it has something to say: it hears when it has lived for this many milliseconds. */
  readonly settle?: number
  /** Called in each life that hears: what came before is lost. */
  readonly heard?: () => void
  /** Called when a life has ended: until it hears again, what happens is not heard. */
  readonly lost?: () => void
  /** What to do when it cannot be started. */
  readonly hint?: string
  /** It needs none of our privileges. */
  readonly plain?: boolean
  /** Lines of its standard error that are no complaints. */
  readonly chatter?: RegExp
}

/** A child that lives as long as we do. */
export interface Child {
  /** Of the life that is going on. */
  readonly pid: number | undefined
  /** Resolves when it hears. @throws {Fault} when it cannot be started */
  start(): Promise<void>
  /** Ends the life that is going on, and begins another: nobody is told. */
  renew(): void
  stop(): Promise<void>
}

/**
 * Runs a program as a child, and starts it again when it dies.
 * @param warn told when it has died, and when it hears again
 */
export function keepAlive(program: Program, warn: (message: string) => void): Child {
  const { argv, hears, hint } = program
  const [name] = argv
  const stopping = new AbortController()
  let life: Life | null = null
  let lives: Promise<void> = Promise.resolve()
  let isRenewed = false

  /** Says what concerns a death, when it is no part of our own end. */
  const tell = (message: string) => {
    setTimeout(() => {
      if (!stopping.signal.aborted) warn(message)
    }, MEANWHILE).unref()
  }

  /** One life after another. @param begun called in each that hears */
  const liveOn = async (begun: () => void): Promise<void> => {
    let hasHeard = false
    let said = ''
    for (let wait = FIRST_WAIT; !stopping.signal.aborted; wait = Math.min(2 * wait, LAST_WAIT)) {
      const born = performance.now()
      isRenewed = false
      life = live(program, () => {
        if (said) tell(`${name} restarted`)
        said = ''
        hasHeard = true
        begun()
        program.heard?.()
      })
      const why = await life.end
      program.lost?.()
      if (stopping.signal.aborted) return
      if (isRenewed) continue
      if (!hasHeard) {
        await sleep(MEANWHILE, undefined, { signal: stopping.signal }).catch(() => {})
        if (stopping.signal.aborted) return
        throw cannotStart(name, why) ?? new Fault(`${name} cannot read ${hears}: ${why}`, { hint })
      }
      if (why !== said) tell(`${name} exited, restarting: ${why}`)
      said = why
      if (performance.now() - born > LAST_WAIT) wait = FIRST_WAIT
      await sleep(wait, undefined, { signal: stopping.signal }).catch(() => {})
    }
  }

  return {
    get pid() {
      return life?.pid
    },
    async start() {
      for (const command of ['setpriv', name]) await findCommand(command)
      await new Promise<void>((resolve, reject) => {
        lives = liveOn(resolve).catch(reject)
      })
    },
    renew() {
      isRenewed = true
      life?.kill()
    },
    async stop() {
      stopping.abort()
      life?.kill()
      await lives
    },
  }
}

/** One life of a program. */
interface Life {
  readonly pid: number | undefined
  kill(): void
  /** Resolves with why it has ended. */
  readonly end: Promise<string>
}

/** Begins a life of a program. @param begun called when it hears */
function live({ argv, reader, settle, chatter, plain }: Program, begun: () => void): Life {
  const child = execa('setpriv', setprivArgs(plain, argv), {
    buffer: false,
    reject: false,
    stdin: 'ignore',
    // The stream has no end, and so neither a time limit nor a largest size; each record or line in it has one.
    env: { PATH: commandPath(), LC_ALL: 'C' },
    extendEnv: false,
    cwd: WHEREVER,
    // A terminal's Ctrl-C is for us alone: we end it in order.
    detached: true,
  })
  const kill = () => child.kill('SIGTERM')
  const limit = setTimeout(kill, START_LIMIT)
  let isHearing = false
  const hearing = () => {
    isHearing = true
    clearTimeout(limit)
    begun()
  }
  const settled = settle === undefined ? undefined : setTimeout(hearing, settle)
  let complaint = ''
  const complaints = lineSplitter((line) => {
    // A program that won't start says why, and then how it is called; one that has long been running has said other things before.
    if (line && !chatter?.test(line) && (isHearing || !complaint)) complaint = line
  })
  child.stderr.setEncoding('utf8').on('data', complaints.push)
  let unreadable = ''
  const read = reader(hearing)
  child.stdout.on('data', (chunk: Buffer) => {
    try {
      read(chunk)
    } catch (error) {
      unreadable = reason(error)
      // What follows can't be read any more.
      child.stdout.destroy()
      kill()
    }
  })
  const end = child.then(({ signal, exitCode, shortMessage }) => {
    clearTimeout(limit)
    clearTimeout(settled)
    complaints.end()
    if (unreadable || complaint) return unreadable || complaint
    return signal ? `killed by ${signal}` : exitCode === undefined ? `${shortMessage}` : `exit ${exitCode}`
  })
  return { pid: child.pid, kill, end }
}

const setprivArgs = (plain: boolean | undefined, argv: readonly string[]): string[] => [
  ...WITH_US,
  ...(plain ? PLAIN : []),
  '--',
  ...argv,
]

/** Why setpriv could not start a program; null where it is not setpriv that has said so. */
function cannotStart(name: string, why: string): Fault | null {
  const [, complaint] = /(?:^|: )setpriv: (.*)/.exec(why) ?? []
  return complaint === undefined ? null : new Fault(`setpriv cannot start ${name}: ${complaint}`, { hint: REMEDY })
}

/** Tries whether setpriv could start a program as a child, with one in its place that does nothing. @throws {Fault} */
export async function trySetpriv(name: string, plain: boolean): Promise<void> {
  await run('setpriv', setprivArgs(plain, ['true'])).catch((error) => {
    throw cannotStart(name, reason(error)) ?? error
  })
}
