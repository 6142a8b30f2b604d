import { createInterface } from 'node:readline'
import { Writable } from 'node:stream'
import { Fault } from './fault'
import { lineSplitter } from './taps/lines'

/** Longest answer in characters, and most lines that are kept unasked: far above any PIN or code. */
const MAX_ANSWER = 256
const MAX_LINES = 64

/** Asks for what nobody else should read. */
export interface Questions {
  /** @throws {Fault} where there is no answer any more */
  ask(question: string): Promise<string>
  /** Gives the terminal back. */
  end(): void
}

/** Questions on the terminal, where nothing that is typed is shown; or, where standard input is none, a line of it for each. */
export function questions(): Questions {
  return process.stdin.isTTY ? onTerminal() : onLines()
}

const noAnswer = (): Fault => new Fault('expected an answer, got the end of the input')

function onTerminal(): Questions {
  const silence = new Writable({ write: (_chunk, _encoding, done) => done() })
  const reader = createInterface({ input: process.stdin, output: silence, terminal: true, historySize: 0 })
  // In raw mode the terminal makes no signal of it.
  reader.on('SIGINT', () => reader.close())
  return {
    ask: (question) =>
      new Promise((resolve, reject) => {
        process.stderr.write(question)
        const gone = () => reject(noAnswer())
        reader.once('close', gone)
        reader.question('', (answer) => {
          reader.off('close', gone)
          process.stderr.write('\n')
          resolve(answer.slice(0, MAX_ANSWER))
        })
      }),
    end: () => reader.close(),
  }
}

function onLines(): Questions {
  const lines: string[] = []
  let over = false
  let tell = () => {}
  const { push, end } = lineSplitter((line) => {
    if (lines.length < MAX_LINES) lines.push(line.replace(/\r$/, ''))
    tell()
  }, MAX_ANSWER)
  process.stdin
    .setEncoding('utf8')
    .on('data', push)
    .on('end', () => {
      over = true
      end()
      tell()
    })
  return {
    ask: () =>
      new Promise((resolve, reject) => {
        tell = () => {
          const line = lines.shift()
          if (line === undefined && !over) return
          tell = () => {}
          if (line === undefined) reject(noAnswer())
          else resolve(line)
        }
        tell()
      }),
    end: () => void process.stdin.destroy(),
  }
}
