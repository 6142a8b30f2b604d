import { dirname, join } from 'node:path'
import * as v from 'valibot'
import { KEY_ID } from '../../protocol/key'
import { Fault } from '../../system/fault'
import { changeText } from '../../system/files'
import { count, parseJson, readBy } from '../../system/json'
import { readGiven } from '../state/state'
import type { Header } from './etcd/etcd'
import type { Base } from './rows'

/** The form of the file that this program writes, and the latest that it reads. */
const VERSION = 1
/** Longest file in bytes: it has a few numbers and names. */
const MAX_MEMORY = 4_096

/** What a gateway remembers of its fleet, beside its ledger: by it, an etcd that was restored is told from the one that it has known. */
export interface FleetMemory {
  /** Of {@link Base}. */
  readonly fleet: string
  /** The name that this gateway has joined by. */
  readonly gateway: string
  /** Of the newest base that was adopted, and its seconds: two bases of one epoch are of two histories. */
  readonly epoch: number
  readonly seconds: number
  /** The newest that was seen of etcd. An empty cluster: none yet. */
  readonly cluster: string
  readonly revision: number
  readonly term: number
  /** How far its log had come; 0: that is not known yet. */
  readonly reached: number
  /** The last beat that etcd has taken; 0: none yet. */
  readonly beat: number
  /** Which run of this gateway's wrote that beat; empty: none yet. */
  readonly life: string
  /** etcd was found restored, and no later base has been adopted since. */
  readonly restored: boolean
}

const text = v.pipe(v.string(), v.maxLength(64))

const schema = v.object({
  version: v.literal(VERSION),
  fleet: v.pipe(v.string(), v.regex(/^[0-9a-f]{16}$/)),
  gateway: v.pipe(v.string(), v.regex(KEY_ID)),
  epoch: count,
  seconds: count,
  cluster: text,
  revision: count,
  term: count,
  reached: count,
  beat: count,
  life: text,
  restored: v.boolean(),
})

/** Where a gateway's memory is. @param ledger the ledger's path */
export const memoryPath = (ledger: string): string => join(dirname(ledger), 'fleet.json')

/** What a gateway knows that joins, by what it has just read. */
export function joined({ fleet, epoch, seconds }: Base, { cluster, revision, term }: Header, gateway: string): FleetMemory {
  return { fleet, gateway, epoch, seconds, cluster, revision, term, reached: 0, beat: 0, life: '', restored: false }
}

/**
 * Reads a gateway's memory.
 * @param ledger the ledger's path
 * @returns null where it has not joined a fleet
 * @throws {Fault} where it can't be read, is damaged, or of a later version
 */
export async function readMemory(ledger: string): Promise<FleetMemory | null> {
  const path = memoryPath(ledger)
  const found = await readGiven(path, MAX_MEMORY)
  return found && parseMemory(path, found.text)
}

/**
 * The memory of a gateway that has to have joined.
 * @param ledger the ledger's path
 * @param gateway its name, as the config has it
 * @throws {Fault} where it has not, or under another name
 */
export async function joinedMemory(ledger: string, gateway: string): Promise<FleetMemory> {
  const memory = await readMemory(ledger)
  const path = memoryPath(ledger)
  if (!memory)
    throw new Fault(`${path}: is missing: this gateway has not joined its fleet`, {
      hint: 'run "knockturn fleet join", or on the first gateway "knockturn fleet init"',
    })
  if (memory.gateway !== gateway)
    throw new Fault(`${path}: this gateway has joined as "${memory.gateway}", and the config says "${gateway}"`, {
      hint: 'set gateway in [ledger], or run "knockturn fleet leave" and "knockturn fleet join"',
    })
  return memory
}

function parseMemory(path: string, text: string): FleetMemory {
  const json = parseJson(text)
  const version = (json as { version?: unknown } | null | undefined)?.version
  if (typeof version === 'number' && version > VERSION)
    throw new Fault(`${path}: is of a later version of Knockturn (${version})`, { hint: 'use the program that has written it' })
  const read = readBy(schema, json)
  if (!read) throw new Fault(`${path}: is damaged`, { hint: 'delete it and run "knockturn fleet join"' })
  const { version: _, ...memory } = read
  return memory
}

/** Writes a gateway's memory, durably, in one step. @param ledger the ledger's path @throws {Fault} */
export async function writeMemory(ledger: string, memory: FleetMemory): Promise<void> {
  await changeText(memoryPath(ledger), async () => `${JSON.stringify({ version: VERSION, ...memory })}\n`)
}
