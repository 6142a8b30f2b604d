import { chmodSync, mkdtempSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect } from 'vitest'
import type { Check } from '../../src/system/check'
import type { Gate } from '../lab/gate'
import type { Host } from '../lab/host'

/* A server that knockturn doctor is run on. */

/** It starts a hundred programs, also where the machine is busy. */
export const PATIENCE = 90_000

/** What doctor says on a server. */
export class Patient {
  constructor(
    readonly server: Host,
    readonly gate: Gate,
  ) {}

  /** The installed program, with its Node: only root can change them. */
  get knockturn(): string[] {
    const place = dirname(this.gate.folder)
    return [join(place, 'node'), join(place, 'bin/knockturn')]
  }

  run(argv: string[], env = this.shadow({})) {
    return this.server.run([...this.knockturn, 'doctor', '--config', this.gate.config, ...argv], { timeoutMs: PATIENCE, env })
  }

  /** What it finds; without sending packets, unless it is to. */
  async checks(env?: NodeJS.ProcessEnv, tries = false): Promise<Check[]> {
    const { stdout, stderr, code } = await this.run(['--json', ...(tries ? [] : ['--no-try'])], env)
    expect(stderr).toBe('')
    const { checks } = JSON.parse(stdout) as { checks: Check[] }
    expect(code).toBe(checks.some(({ verdict }) => verdict === 'fault') ? 1 : 0)
    return checks
  }

  /** What it says of one thing. */
  async of(name: string, env?: NodeJS.ProcessEnv): Promise<Check[]> {
    return (await this.checks(env)).filter((check) => check.name === name)
  }

  /** Runs the commands that a remedy has in quotes, as the reader would. */
  async follow({ remedy = '' }: Check) {
    const [, commands = ''] = /run "([^"]+)"/.exec(remedy) ?? []
    expect(commands).not.toBe('')
    for (const command of commands.split(' && ')) {
      const [program, ...args] = command.split(' ')
      const own = [...this.knockturn, ...args, '--config', this.gate.config]
      await this.server.must(program === 'knockturn' ? own : [String(program), ...args])
    }
  }

  /** A folder of programs that come before the system's. */
  shadow(programs: Record<string, string>): NodeJS.ProcessEnv {
    const folder = mkdtempSync(join(dirname(this.gate.folder), 'shadow-'))
    // This machine's containers are none of the server's.
    for (const [name, script] of Object.entries({ docker: '', podman: '', ...programs }))
      writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
    chmodSync(folder, 0o755)
    return { PATH: `${folder}:${process.env.PATH}:/usr/sbin:/sbin` }
  }
}

export const verdicts = (checks: readonly Check[]) => checks.map(({ verdict }) => verdict)
export const fault = (evidence: RegExp, remedy: RegExp) => ({
  verdict: 'fault',
  evidence: expect.stringMatching(evidence),
  remedy: expect.stringMatching(remedy),
})
