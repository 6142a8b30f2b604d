/* What an edit of TOML text goes by: its lines, so that all else in a file stays as somebody wrote it. Whoever edits reads the result back. */

/**
 * Finds a table in TOML text, from its header to the next one or to the end.
 * @param heads whether a line is its header
 * @returns the line of its header, and the one behind its last, blank lines and comments included; null where no line heads it
 */
export function findTable(lines: readonly string[], heads: (line: string) => boolean): { from: number; to: number } | null {
  const from = lines.findIndex(heads)
  if (from < 0) return null
  const next = lines.findIndex((line, at) => at > from && /^\s*\[/.test(line))
  return { from, to: next < 0 ? lines.length : next }
}
