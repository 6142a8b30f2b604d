import { spawn } from 'node:child_process'
import { once } from 'node:events'

/** What is waited for on the terminal, and what is then typed, or done; a text that is returned is typed. */
export type Turn = readonly [prompt: string, answer: string | ((shown: string) => unknown)]

/** A word of a shell's command. */
const quoted = (word: string) => `'${word.replaceAll("'", `'\\''`)}'`

/**
 * Runs a command on a terminal of its own, made by script(1).
 * @returns its exit code, and all that the terminal showed
 */
export async function onTerminal(
  argv: readonly string[],
  turns: readonly Turn[] = [],
  { env = {}, cwd }: { env?: NodeJS.ProcessEnv; cwd?: string } = {},
): Promise<{ code: number | null; shown: string }> {
  const script = spawn('script', ['--quiet', '--return', '--command', argv.map(quoted).join(' '), '/dev/null'], {
    cwd,
    env: { ...process.env, NODE_EXTRA_CA_CERTS: undefined, SHELL: '/bin/sh', ...env },
  })
  const waiting = [...turns]
  let [shown, answered] = ['', 0]
  for (const output of [script.stdout, script.stderr]) {
    output.setEncoding('utf8').on('data', (text) => {
      shown += text
      const [turn] = waiting
      if (!turn || !shown.slice(answered).includes(turn[0])) return
      answered = shown.length
      waiting.shift()
      const typed = typeof turn[1] === 'string' ? turn[1] : turn[1](shown)
      if (typeof typed === 'string') script.stdin.write(typed)
    })
  }
  script.stdin.on('error', () => {})
  const [code] = await once(script, 'close')
  script.stdin.destroy()
  if (waiting.length > 0) throw new Error(`it has ended without "${waiting[0][0]}":\n${shown}`)
  return { code, shown }
}
