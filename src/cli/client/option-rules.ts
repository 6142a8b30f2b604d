import type { Command, Option } from 'commander'
import { refuseIdle } from '../options'

/* All options of knockclient, by their attributes: who keeps each, and what each goes with. A new option needs a row, and is in no other list. */

interface Row<Name extends string> {
  /**
   * Whether a profile keeps it: `always`; where it is `saved` by name, and not of the last knock, as it is of the moment; or `never`, as it asks
   * about this one run.
   */
  readonly kept: 'always' | 'saved' | 'never'
  /** What a profile calls it; without: as the option, with underscores. */
  readonly entry?: string
  /** It says what a passcode can't: what that opens stands on the server. */
  readonly isSealed?: true
  /** It is of a knock that is sent for its own sake: `connect` and `exec` take it from no profile. */
  readonly isPlain?: true
  /** What it has nothing to say without. */
  readonly goesWith?: readonly Name[]
  /** What it takes out of a profile where it is typed: that could not be meant beside it. */
  readonly takesOut?: readonly Name[]
}

/** Has the rows name each other, and nothing else. */
const table = <Name extends string>(rows: Readonly<Record<Name, Row<NoInfer<Name>>>>) => rows

export const OPTIONS = table({
  server: { kept: 'always', entry: 'host' },
  key: { kept: 'always', isSealed: true },
  keyFd: { kept: 'never', isSealed: true },
  port: { kept: 'always', entry: 'services', isSealed: true, isPlain: true },
  time: { kept: 'always', isSealed: true },
  address: { kept: 'always', isSealed: true },
  // Another server is not trusted because the profile's is.
  addressUrl: { kept: 'always', isSealed: true, goesWith: ['address'], takesOut: ['stun', 'stunTrusted'] },
  stun: { kept: 'always', isSealed: true, goesWith: ['address'], takesOut: ['addressUrl', 'stunTrusted'] },
  stunTrusted: { kept: 'always', isSealed: true, goesWith: ['address', 'stun'] },
  close: { kept: 'always', isSealed: true, isPlain: true, takesOut: ['lock', 'once', 'wait', 'time'] },
  lock: { kept: 'always', isSealed: true, isPlain: true, takesOut: ['close', 'once', 'wait', 'time'] },
  once: { kept: 'always', isSealed: true, isPlain: true, takesOut: ['wait', 'close', 'lock'] },
  protocol: { kept: 'always', isSealed: true },
  wait: { kept: 'always', isSealed: true },
  timeSource: { kept: 'always', isSealed: true, goesWith: ['wait'] },
  ipv4: { kept: 'always', takesOut: ['ipv6'] },
  ipv6: { kept: 'always', takesOut: ['ipv4'] },
  udp: { kept: 'always' },
  datagram: { kept: 'always', isSealed: true },
  pace: { kept: 'always' },
  passes: { kept: 'always' },
  parity: { kept: 'always', isSealed: true },
  timeOffset: { kept: 'saved', isSealed: true },
  quiet: { kept: 'never' },
  verbose: { kept: 'never' },
  last: { kept: 'never', isSealed: true },
  dryRun: { kept: 'never' },
  json: { kept: 'never', isSealed: true, goesWith: ['dryRun'] },
  force: { kept: 'never', isSealed: true },
  passcode: { kept: 'never' },
  passcodeBase: { kept: 'never', goesWith: ['passcode'] },
  pinDigits: { kept: 'never', goesWith: ['passcode'] },
  renew: { kept: 'never' },
  as: { kept: 'never' },
  profile: { kept: 'never' },
  replace: { kept: 'never' },
  keepSealed: { kept: 'never' },
  sshConfig: { kept: 'never' },
  knock: { kept: 'never' },
  version: { kept: 'never' },
  helpAll: { kept: 'never' },
})

/** An option by its attribute. */
type OptionName = keyof typeof OPTIONS
export const OPTION_NAMES = Object.keys(OPTIONS) as readonly OptionName[]

/** The options of which this is so. */
export function optionsThat(is: (row: Row<OptionName>) => boolean): OptionName[] {
  return OPTION_NAMES.filter((name) => is(OPTIONS[name]))
}

/** What a profile calls an option. */
export function entryOf(name: OptionName): string {
  return OPTIONS[name].entry ?? name.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`)
}

/** Those options of a command that a profile keeps, and what it calls them. */
export function lasting(command: Command): { readonly option: Option; readonly entry: string }[] {
  return command.options.flatMap((option) => {
    const name = option.attributeName() as OptionName
    return OPTIONS[name].kept === 'never' ? [] : { option, entry: entryOf(name) }
  })
}

/**
 * Refuses what is typed where that is missing which it goes with: see {@link refuseIdle}.
 * @param missing what is not there
 * @param called how a user asks for that
 * @throws {UsageFault}
 */
export function refuseWithout(command: Command, missing: OptionName, called: string): void {
  refuseIdle(
    command,
    optionsThat(({ goesWith }) => goesWith?.includes(missing) ?? false),
    called,
  )
}
