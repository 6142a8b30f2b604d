import { parentPort, workerData } from 'node:worker_threads'
import { inputOf } from './mutate'
import { targets } from './targets'

/* One target, fuzzed in a thread of its own: a reader that hangs or takes all memory ends the thread, and not the fuzzer. */

const { name, seed, from, until, progress } = workerData as {
  readonly name: string
  readonly seed: number
  /** First case, and when to end, in Unix milliseconds. */
  readonly from: number
  readonly until: number
  /** The case that is being read, for the thread that watches. */
  readonly progress: Int32Array
}

async function run(): Promise<void> {
  const target = targets.find((one) => one.name === name)
  if (!target) throw new Error(`expected a target, got ${name}`)
  for (let n = from; n === from || Date.now() < until; n++) {
    Atomics.store(progress, 0, n)
    const { input, random } = inputOf(target, seed, n)
    try {
      await target.read(input, random)
    } catch (error) {
      parentPort?.postMessage(error instanceof Error ? error.stack : String(error))
      return
    }
  }
}
run()
