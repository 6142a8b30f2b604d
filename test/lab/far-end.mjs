// The far half of a tunnel into a host's namespace: sockets of the file system, which namespaces share, lead to addresses that only the host has.

import { connect, createServer } from 'node:net'
import { answer } from './answer.mjs'

answer({
  /** @param {string} path of the socket @param {string} address @param {number} port */
  lead(path, address, port) {
    return new Promise((resolve) => {
      const server = createServer({ allowHalfOpen: true }, (near) => {
        const far = connect({ host: address, port, allowHalfOpen: true })
        near.pipe(far).pipe(near)
        for (const [one, other] of [
          [near, far],
          [far, near],
        ])
          one?.on('error', () => other?.destroy()).on('close', () => other?.destroy())
      })
      server.listen(path, () => resolve(null))
    })
  },
})
