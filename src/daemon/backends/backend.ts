import type { Logger } from 'pino'
import type { Entry, Firewall, Lease } from '../../gate/firewall'
import type { Service } from '../../protocol/service'
import type { Fault } from '../../system/fault'
import type { Config } from '../config'
import type { Exposure } from '../exposure/text'
import type { Guard } from '../guard'
import type { Heard, TapRules } from '../tap-rules'

/** What a firewall is to have beside its leases, as the config and the keys say now. */
export interface Rules {
  readonly guard: Guard
  /** What is to be heard; null: taps come from elsewhere. */
  readonly taps: TapRules | null
}

/** A firewall that a daemon works with. */
export interface OpenFirewall {
  readonly firewall: Firewall
  /** How many packets its log rules have logged; null where that is nobody's business. @throws {Fault} where they can't be looked at */
  readonly logged: (() => Promise<number>) | null
  /** Calls `look` whenever another program may have changed it, from now on until it is aborted. */
  follow(look: () => void, signal: AbortSignal): void
  /**
   * Closes what bin/knockturn-fail-open has opened while no daemon was alive; absent where nothing is ever opened so.
   * @returns whether anything was open
   * @throws {Fault} where that can't be known or done
   */
  closeFailOpen?(): Promise<boolean>
}

/** A lease in force, and what has come through it. */
export interface Counted {
  readonly lease: Lease
  /** How many connections it has let begin, retries counted; null where the kernel does not count them. */
  readonly packets: number | null
}

/** What the log rules lack. */
export interface LeftOut {
  /** Null where they can't be read, so that nobody knows. */
  readonly isInstalled: boolean | null
  /** Whether they, or the guard, are of another config, keyring or version. A daemon that runs mends that by itself where only keys have changed. */
  readonly isOutdated: boolean
  /** Lines for a warning. */
  readonly lines: readonly string[]
}

/** A change of the kernel's rules that an administrator may look at first. */
export interface Change {
  /** The command that takes it on standard input. */
  readonly command: string
  readonly script: string
  /** @throws {Fault} where the kernel refuses it */
  apply(): Promise<void>
}

/** How an installation is asked for. */
export interface InstallationRequest {
  /** Whether its changes are only looked at: then nobody is cut off, and the kernel is not tried. */
  readonly isPreview: boolean
  /** Whether nobody can answer, as at boot: what would be cut off is warned of then. */
  readonly isUnattended: boolean
}

/** What an installation comes to. */
export interface Installation {
  readonly changes: readonly Change[]
  /** What the kernel can't do and we can do without, as lines for a warning. */
  readonly notes: readonly string[]
  /** What to say when it is done. */
  readonly outcome: string
}

/** What is ours in a part of the firewall, as its own program prints it. */
export interface Section {
  readonly name: string
  /** None where there is nothing of ours. */
  readonly lines: readonly string[]
}

/** A file by which bin/knockturn-guard shuts the guarded ports at boot, without us. */
export interface BootFile {
  readonly path: string
  readonly text: string
}

/** A way to have leases in force. It is one file here, and a line in all.ts. */
export interface Backend {
  /** Whether it changes this machine's firewall: then it requires cap_net_admin. */
  readonly isReal: boolean
  /** Whether its log rules hear all that comes by loopback: else a rule of the administrator's may accept it before. */
  readonly hearsLoopback: boolean
  /** The programs that it runs. */
  readonly commands: readonly string[]
  /** Leases of all keys that may be in force. */
  readonly maxLeases: number
  /**
   * Makes ready to work, and changes nothing.
   * @param rules those of now: other ones where keys have changed
   * @param left how long an entry may stand from now on, in milliseconds; Infinity: until it is taken away
   * @param warn told what an administrator should know
   * @param log for what has more to say than a line
   * @throws {Fault} where the firewall can't be read, or can't do what is needed
   */
  open(rules: () => Rules, left: (entry: Entry) => number, warn: (message: string) => void, log: Logger): Promise<OpenFirewall>
  /**
   * Tries everything that a daemon does to the kernel, and leaves nothing behind.
   * @param note told what the daemon can do without
   * @returns what it can't do without
   * @throws {Fault} where that can't be known
   */
  rehearse(rules: Rules, note: (line: string) => void): Promise<readonly Fault[]>
  /** What the log rules that are in place lack, for a daemon with these keys. */
  leftOut(keys: readonly Heard[], config: Config): Promise<LeftOut>
  /**
   * Looks whether our rules are in the firewall, all of them and in their place.
   * @returns null where it has none
   * @throws {Fault} where that can't be known
   */
  isInPlace(): Promise<boolean | null>
  /** Looks whether services that are to open by a knock only are open to strangers, or shut for good. */
  strangers(services: readonly Service[], guard: Pick<Guard, 'ports' | 'interfaces' | 'blocks'>): Promise<Exposure>
  /**
   * Finds what puts our rules in place, and whom that would shut out.
   * @param warn told of warnings as they arise, those of one kind at once
   * @throws {Fault} where it would cut off a connection, or the firewall can't be read
   */
  plan(rules: Rules, request: InstallationRequest, warn: (lines: readonly string[]) => void): Promise<Installation>
  /**
   * Composes what shuts the guarded ports at boot, and hears knocks: by it leases that are in force stay. Where the config has fail_open_to, also
   * what bin/knockturn-fail-open opens.
   * @param warn told of a part that this machine has not
   * @returns files with relative paths; none where the backend has no guard
   */
  atBoot(rules: Rules, warn: (message: string) => void): Promise<readonly BootFile[]>
  /**
   * Finds what takes away all that is ours, leases too: no change where there is nothing.
   * @param warn told of a part that this machine has not, and of what can't be read of it
   * @throws {Fault} where the firewall can't be read
   */
  removal(warn: (message: string) => void): Promise<readonly Change[]>
  /** Reads the leases in force, with what has come through each. @throws {Fault} where the firewall can't be read */
  counted(): Promise<readonly Counted[]>
  /** Reads the leases and locks in force, and changes nothing. @throws {Fault} where they can't be read: what is not readable is never empty */
  standing(): Promise<readonly Entry[]>
  /** Reads what is ours, leases in it, with the warnings of {@link Backend.removal}. @throws {Fault} likewise */
  show(warn: (message: string) => void): Promise<readonly Section[]>
}
