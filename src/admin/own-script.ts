import { realpath } from 'node:fs/promises'
import { dirname, join } from 'node:path'

/** The path of one of our scripts (bin): beside the program that runs, wherever a link to that lies. @param name such as `knockturn-trial` */
export async function ownScript(name: string): Promise<string> {
  return join(dirname(await realpath(process.argv[1] ?? '')), name)
}
