/** Runs an action once at a time; calls that come meanwhile lead to one more run. */
export function inTurn(action: () => Promise<void>): () => void {
  let running = false
  let again = false
  const run = async () => {
    running = true
    do {
      again = false
      await action()
    } while (again)
    running = false
  }
  return () => {
    if (running) again = true
    else run()
  }
}
