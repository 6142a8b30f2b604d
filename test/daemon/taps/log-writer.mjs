// A log daemon's part, in a process of its own: holds a file open and does what it is told over node's own channel.
//
//     { write: ['a line', ...] }         as many writes, in the order told, as fast as they go
//     { write: [...], within: ms }       the same, spread over some time
//     { reopen: path }                   lets go of its file and opens this one, made where it is missing
//     { rename: [from, to] }, { create: path }, { truncate: path }, { link: [target, path] }

import { closeSync, openSync, renameSync, symlinkSync, truncateSync, writeSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

/** Lines between two rests of writing that is spread. */
const BATCH = 20

let file = -1

/** @type {Record<string, (value: any, order: any) => unknown>} */
const work = {
  reopen(path) {
    if (file >= 0) closeSync(file)
    file = openSync(path, 'a')
  },
  rename: ([from, to]) => renameSync(from, to),
  create: (path) => closeSync(openSync(path, 'a')),
  truncate: (path) => truncateSync(path, 0),
  link([target, path]) {
    symlinkSync(target, `${path}.new`)
    renameSync(`${path}.new`, path)
  },
  async write(lines, { within = 0 }) {
    for (const [i, line] of lines.entries()) {
      if (within > 0 && i % BATCH === 0) await sleep((within * BATCH) / lines.length)
      writeSync(file, `${line}\n`)
    }
  },
}

/** @type {Promise<unknown>} */
let turn = Promise.resolve()
process.on('message', (/** @type {Record<string, unknown>} */ order) => {
  turn = turn.then(async () => {
    const [[name, value] = ['', null]] = Object.entries(order)
    await work[name]?.(value, order)
    process.send?.('done')
  })
})
process.on('disconnect', () => process.exit())
