/** Ports from one to another, both of them in it. */
export type Ports = readonly [low: number, high: number]

/** The last port that there is. */
export const MAX_PORT = 65_535

/** Whether any port lies in both. */
export function overlap([low, high]: Ports, [from, to]: Ports): boolean {
  return low <= to && high >= from
}
