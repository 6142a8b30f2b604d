import type { Tap } from '../../gate/tap'

/** What a tap source has been through since it started. */
export interface TapCounters {
  /** Lines or packets seen, and those of them that are no taps. */
  seen: number
  ignored: number
  /** Those of the ignored that carry our prefix, so that the firewall's log arrives, and can't be read as a tap. */
  unreadable: number
  /** Packets that the kernel has dropped before we could see them; null where the source can't tell. */
  dropped: number | null
}

/** Where taps come from. It does not open anything before {@link TapSource.start}. */
export interface TapSource {
  readonly counters: TapCounters
  /** Brings {@link TapCounters.dropped} up to date, in a source that has to ask for it. */
  readonly count?: () => Promise<void>
  /**
   * Starts to deliver taps; resolves when it hears.
   * @param hear takes each tap as it is read; the reader's time is the tap's time
   * @param ended is called once when there will be no more, in a source that has an end
   */
  start(hear: (tap: Tap) => void, ended: () => void): Promise<void>
  stop(): Promise<void>
}
