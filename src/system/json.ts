import * as v from 'valibot'

/** A whole number from 0 on. */
export const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0))

/** What a text is in JSON; undefined where it is none. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** What a schema makes of a value; null where it does not fit. */
export function readBy<Output>(schema: v.GenericSchema<unknown, Output>, value: unknown): Output | null {
  // One fault is enough: to gather those of a list with millions of them takes all memory.
  const read = v.safeParse(schema, value, { abortEarly: true })
  return read.success ? read.output : null
}

/** What a schema makes of a text of JSON; null where it is none, or does not fit. */
export const readJson = <Output>(schema: v.GenericSchema<unknown, Output>, text: string): Output | null =>
  readBy(schema, parseJson(text))
