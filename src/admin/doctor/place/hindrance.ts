/**
 * Why something could not be tried, or has failed where it was tried: it becomes the evidence of a check, and is never an error of the program's own.
 */
export class Hindrance extends Error {
  /** What to do about it, if there is a remedy. */
  readonly hint: string | undefined

  constructor(message: string, { hint }: { readonly hint?: string | undefined } = {}) {
    super(message)
    this.hint = hint
  }
}
