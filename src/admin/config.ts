import { type Config, readConfig } from '../daemon/config'

/** Reads a config that has to be whole. @throws {Fault} its first fault */
export async function wholeConfig(file: string): Promise<Config> {
  const read = await readConfig(file)
  if (read.faults) throw read.faults[0]
  return read.value
}
