// How long the client takes to start: the bundle, and the executable that npm run usb makes of it.

import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { ROOT } from '../root'
import { type Row, row, times } from './figures'

const RUNS = times(41, 1)

export async function startRows(): Promise<Row[]> {
  execFileSync(process.execPath, [join(ROOT, 'src/usb/build.mjs')], { stdio: ['ignore', 'ignore', 'pipe'] })
  const commands = [
    [process.execPath, '-e', ''],
    [process.execPath, join(ROOT, 'bin/knockclient'), '--version'],
    [join(ROOT, 'dist/usb/knockclient'), '--version'],
  ]
  // In turn, so that a machine that is busy for a while slows all of them.
  const runs = Array.from({ length: RUNS }, () => commands.map(time))
  const samples = (at: number) => runs.map((run) => run[at] ?? NaN)
  return [
    row('knockclient --version', 'ms', samples(1), { what: "node -e ''", samples: samples(0) }),
    row('  the same from npm run usb', 'ms', samples(2), { what: 'knockclient', samples: samples(1) }),
  ]
}

/** Milliseconds from a command's start to its end. */
function time([program = '', ...args]: string[]) {
  const began = performance.now()
  execFileSync(program, args, { env: { ...process.env, NODE_EXTRA_CA_CERTS: undefined } })
  return performance.now() - began
}
