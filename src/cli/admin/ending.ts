/** What ends in order what goes on until it is ended. The last comes when the terminal is gone. */
export const ENDING = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
/** Milliseconds between two looks at the clock: nobody who has waited for minutes notices. */
const LOOK = 200

/**
 * Aborts what it gives when somebody ends this program, or its time is over; the program does not end until it is aborted, and goes on behind it.
 * @param seconds Infinity: until it is ended
 */
export function endingAfter(seconds: number): AbortController {
  const ending = new AbortController()
  const end = () => ending.abort()
  for (const signal of ENDING) process.on(signal, end)
  const last = performance.now() + seconds * 1_000
  // In steps, since a timer of Node's takes 24 days at most; and without one nothing would keep the process waiting.
  const timer = setInterval(() => performance.now() >= last && end(), LOOK)
  ending.signal.addEventListener('abort', () => clearInterval(timer))
  return ending
}
