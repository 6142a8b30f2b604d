import { Finding } from '../../daemon/checks/finding'
import type { Config } from '../../daemon/config'
import { isFresh, readState, type State, statePath } from '../../daemon/state/state'
import type { Check } from '../../system/check'

/* What the daemon itself says of its hearing. */

/**
 * Checks what the daemon has written down of itself.
 * @param file the config's path
 * @param isAlive whether a daemon holds the ledger
 */
export async function checkState(file: string, config: Config, isAlive: boolean, hasSystemd: boolean): Promise<readonly Check[]> {
  const found = new Finding('hearing')
  if (!isAlive) {
    found.unknown('no daemon runs that could hear')
    return found.end('')
  }
  const read = await found.look(() => readState(config))
  if (!found.isWell) return found.end('')
  return judgeState(read, { file, path: statePath(config.ledger.path), now: Date.now(), hasSystemd })
}

/** Where a state was read, and when. */
interface Around {
  /** The path of the config that a daemon should have read. */
  readonly file: string
  readonly path: string
  /** Unix milliseconds. */
  readonly now: number
  readonly hasSystemd: boolean
}

/** Judges the state of a daemon that runs. @param read null: there is none */
export function judgeState(
  read: { readonly state: Pick<State, 'hearing' | 'lastTap' | 'source' | 'config'>; readonly written: number } | null,
  { file, path, now, hasSystemd }: Around,
): readonly Check[] {
  const found = new Finding('hearing')
  const restart = hasSystemd ? 'run "systemctl restart knockdaemon"' : 'restart the daemon'
  const log = hasSystemd ? 'run "journalctl -eu knockdaemon"' : "look at the daemon's log"
  if (read === null) {
    found.unknown(`${path}: the daemon has written none: it is of an older version, or cannot write there`, restart)
    return found.end('')
  }
  const { hearing, lastTap, source, config } = read.state
  const age = Math.round((now - read.written) / 1_000)
  if (!isFresh(read.written, now)) {
    found.wrong(
      `${path}: was last written ${age < 0 ? `${-age} s from now` : `${age} s ago`}: the daemon hangs, or cannot write there`,
      `${log} to see why; then ${restart}`,
    )
    return found.end('')
  }
  if (config !== file) found.felt(`the daemon has read another config: ${config}`, 'name that one by --config')
  if (hearing === 'deaf')
    found.wrong(
      `the daemon hears nothing, not even its own probes (source "${source}")`,
      'look at "log rules", "tap source" and "packets heard", and run "knockturn firewall install"',
    )
  if (hearing === 'waiting')
    found.felt(
      `the daemon has not begun to hear (source "${source}"): it starts, or its source does not`,
      `look again in a moment; then ${log} to see why`,
    )
  if (hearing === 'alone')
    found.unknown(
      'nobody sends the daemon probes, so that it does not know whether it hears ("packets heard" tries it)',
      hasSystemd
        ? 'run "systemctl restart knockturn-probe", and "systemctl status knockturn-probe"'
        : 'run knockturn-probe, of the bin folder',
    )
  if (hearing === 'unknown')
    found.unknown(`no probe has arrived (source "${source}"): whether the daemon hears, "packets heard" tries`)
  return found.end(`the daemon hears its probes${lastTap === null ? '' : `, and heard a tap at ${lastTap}`}`)
}
