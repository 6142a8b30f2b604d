// How a demo tells what it does and sees: numbered steps, a line for each sight, and an end at the first that is not as expected.

const inColour = process.stdout.isTTY && !process.env.NO_COLOR
const colour = (code: number, text: string) => (inColour ? `\x1b[${code}m${text}\x1b[0m` : text)
let steps = 0

export function step(title: string) {
  console.log(`\n${colour(1, `${++steps}. ${title}`)}`)
}

/** One line: what was done, what was seen, the milliseconds it took. */
export function tell(mark: string, what: string, saw: string, ms?: number) {
  const took = ms === undefined ? '' : `${Math.round(ms)} ms`
  console.log(`   ${mark} ${what.padEnd(50)} ${saw.padEnd(15)} ${took.padStart(8)}`.trimEnd())
}

class Deviation extends Error {}

/** Something that has to be true, or the demo ends here. */
export function expect(what: string, expected: string, saw: string, ms?: number) {
  const isSo = expected === saw
  tell(isSo ? colour(32, '✓') : colour(31, '✗'), what, saw, ms)
  if (!isSo) throw new Deviation(`expected: ${expected}, saw: ${saw}`)
}

/** Plays a demo, and reports whether everything was as expected. @param end what ends all that was started, whatever has come of it */
export async function perform(play: () => Promise<void>, end: () => Promise<void>): Promise<void> {
  try {
    const began = performance.now()
    await play()
    console.log(`\n${colour(32, 'Everything as expected')}, in ${((performance.now() - began) / 1000).toFixed(1)} s.`)
  } catch (error) {
    console.log(`\n${colour(31, 'Not as expected')}: ${error instanceof Deviation ? error.message : (error as Error).stack}`)
    process.exitCode = 1
  } finally {
    await end()
  }
}
