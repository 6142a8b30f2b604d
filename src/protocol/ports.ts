/** Ports from one to another, both of them in it. */
export type Ports = readonly [low: number, high: number]

/** Whether any port lies in both. */
export function overlap([low, high]: Ports, [from, to]: Ports): boolean {
  return low <= to && high >= from
}
