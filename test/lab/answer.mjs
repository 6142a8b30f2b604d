// The other end of agent.ts, in a process that plain Node runs.

/** Does what it is asked to until whoever asks is gone. @param {Record<string, (...args: any[]) => unknown>} work by its name */
export function answer(work) {
  process.on('message', async (/** @type {any} */ { id, work: name, args }) => {
    try {
      process.send?.({ id, result: await work[name]?.(...args) })
    } catch (error) {
      process.send?.({ id, error: String(error) })
    }
  })
  process.on('disconnect', () => process.exit())
}
