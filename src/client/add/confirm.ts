import { askLine, canAsk } from '../../system/ask-line'

/** Asks for yes or no on the terminal; anything else is no. @returns false where there is none */
export async function isConfirmed(question: string): Promise<boolean> {
  if (!canAsk(process.stderr)) return false
  return /^y(es)?$/i.test((await askLine(`${question}\nyes or no [no]: `, process.stderr)) ?? '')
}
