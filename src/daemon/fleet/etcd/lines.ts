const LINE_END = 0x0a

/** Puts the pieces of a stream together to lines. */
export class Lines {
  readonly #most: number
  readonly #line: (text: string) => void
  #pieces: Buffer[] = []
  #size = 0

  /** @param most bytes of a line at most @param line gets each, without its end */
  constructor(most: number, line: (text: string) => void) {
    this.#most = most
    this.#line = line
  }

  /** @throws {RangeError} of a line that is too long */
  push(piece: Buffer): void {
    let from = 0
    for (let end = piece.indexOf(LINE_END); end >= 0; end = piece.indexOf(LINE_END, from)) {
      this.#add(piece.subarray(from, end))
      from = end + 1
      this.end()
    }
    this.#add(piece.subarray(from))
  }

  /** The last line need not have an end. */
  end(): void {
    if (this.#size === 0) return
    const text = Buffer.concat(this.#pieces).toString('utf8')
    this.#pieces = []
    this.#size = 0
    this.#line(text)
  }

  #add(piece: Buffer): void {
    if (piece.length === 0) return
    this.#size += piece.length
    if (this.#size > this.#most) throw new RangeError(`expected lines of at most ${this.#most} bytes, got a longer one`)
    this.#pieces.push(piece)
  }
}
