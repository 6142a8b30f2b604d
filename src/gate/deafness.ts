/** How long taps may be under way from the firewall to us, in milliseconds: a log daemon that gathers its lines takes a second. */
const GRACE = 5_000

/** Notices that the firewall logs packets of which no tap comes here: a daemon that hears nothing looks just like a quiet day. */
export class Deafness {
  #logged = Number.POSITIVE_INFINITY
  #heard = 0
  /** When the firewall was first seen to have logged more, with nothing heard since. */
  #since: number | null = null
  #isDeaf = false

  /**
   * Takes a look at both ends.
   * @param logged packets that the firewall has logged by now
   * @param heard taps that have come
   * @param steady milliseconds on a monotonic clock
   * @returns what has changed, once
   */
  look(logged: number, heard: number, steady: number): 'deaf' | 'hears again' | null {
    // The counter starts anew with the rules; and what was logged before the first look was not for us to hear.
    const risen = logged > this.#logged
    this.#logged = logged
    if (heard > this.#heard) {
      this.#heard = heard
      this.#since = null
      const wasDeaf = this.#isDeaf
      this.#isDeaf = false
      return wasDeaf ? 'hears again' : null
    }
    if (risen) this.#since ??= steady
    if (this.#isDeaf || this.#since === null || steady - this.#since < GRACE) return null
    this.#isDeaf = true
    return 'deaf'
  }
}
