import { delimiter, isAbsolute, join } from 'node:path'

/**
 * How a shell that ssh starts runs this program: by its name, where PATH has it, and else by its path.
 * @param path PATH, as it is for us
 * @param self where this program lies
 * @param isThere whether a file is there
 */
export function programFor(path: string, self: string, isThere: (file: string) => boolean): string {
  // What is in a folder that depends on where one is will be elsewhere next time.
  if (path.split(delimiter).some((folder) => isAbsolute(folder) && isThere(join(folder, 'knockclient')))) return 'knockclient'
  // ssh replaces what a percent sign begins.
  const escaped = self.replaceAll('%', '%%')
  return /^[\w./%-]+$/.test(self) ? escaped : `'${escaped.replaceAll("'", `'\\''`)}'`
}
