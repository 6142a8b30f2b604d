/** Follows what other programs do to the ruleset. */
export function followRuleset(_warn: (message: string) => void): (look: () => void, signal: AbortSignal) => void {
  return () => {}
}
