import { afterAll, beforeAll } from 'vitest'
import { type Gate, type GateOptions, provision } from '../lab/gate'
import type { Host } from '../lab/host'
import { Lab } from '../lab/lab'

/** What the gate is like, and at which ports something listens behind the server's door. */
type Options = GateOptions & { serve?: readonly number[] }

/**
 * What most files here begin with: a server and clients on one wire, and a gate on the server. They are made before the first test of the file
 * or `describe` that calls this, and ended after its last; until then the hosts have their addresses and nothing else, and the gate is empty.
 * @param options or what gives them when the hosts are there
 * @returns the hosts by their names; `gate.daemon` is for the tests to set when they start another
 */
export function useGate<Client extends string>(
  clients: readonly Client[],
  options: Options | ((lab: Lab) => Options | Promise<Options>) = {},
): { lab: Lab; gate: Gate } & Record<'server' | Client, Host> {
  const lab = new Lab([...clients])
  const gate = {} as Gate
  beforeAll(async () => {
    await lab.build()
    const { serve = [], ...more } = typeof options === 'function' ? await options(lab) : options
    for (const port of serve) await lab.server.service(port)
    Object.assign(gate, await provision(lab, more))
  })
  afterAll(() => lab.end())
  return { lab, gate, ...(lab.hosts as Record<'server' | Client, Host>) }
}
