import { asClient, formatKeyFile, hintOf, type KeyFile } from '../keys/key-file'
import { formatService } from '../protocol/service'

/**
 * A key file's text as its client has it: what it may open is a hint there.
 * @param isPlain without that hint
 */
export function clientCopy(file: KeyFile, isPlain: boolean): string {
  const { hint, ...plain } = asClient(file)
  return formatKeyFile(isPlain || !hint ? plain : { ...plain, hint })
}

/** The names that a key's file has to do with: what whoever finds its copy guesses first. */
export function namesOf(file: KeyFile): string[] {
  return [file.id, file.host ?? '', file.key.server, ...(hintOf(file)?.services ?? []).map(formatService)]
}
