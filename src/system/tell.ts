import { closeSync, fstatSync, openSync, type Stats, statSync, writeSync } from 'node:fs'
import { devNull } from 'node:os'

/* What is said to the user: on standard error, and where who runs us throws that away, on the terminal. */

let say = onStandardError

function onStandardError(text: string): void {
  const { stderr } = process
  // Who reads it may be gone, as with a terminal that was closed: that ends no knock, and no connection.
  if (stderr.listenerCount('error') === 0) stderr.on('error', () => {})
  stderr.write(text)
}

/** Says something to the user. @param text whole lines */
export function tell(text: string): void {
  say(text)
}

/**
 * From now on {@link tell} speaks on the terminal, if standard error is not shown to the user and there is one. ssh does that to its
 * ProxyCommand where it is to become a master in the background (ControlPersist): our words went to /dev/null.
 */
export function tellWhereShown(): void {
  if (isThrownAway()) say = onTerminal
}

/** From now on {@link tell} speaks on standard error again, whether or not anybody sees it. */
export function tellOnStandardError(): void {
  say = onStandardError
}

/**
 * Whether who runs us has thrown our standard error away, without its user's asking: what they have redirected themselves (`ssh gate 2>/dev/null`)
 * is so for who runs us, too. What is not between two pipes is no ProxyCommand, and its redirections are the user's own.
 */
function isThrownAway(): boolean {
  const isBetween = [0, 1].map((fd) => fstatSync(fd)).every((file) => file.isFIFO() || file.isSocket())
  return isBetween && isNull(fstatSync(2)) && !isNullOfParent()
}

/** Not where it can't be seen: a word too many is better than none. */
function isNullOfParent(): boolean {
  try {
    return isNull(statSync(`/proc/${process.ppid}/fd/2`))
  } catch {
    return false
  }
}

const isNull = (file: Stats): boolean => file.isCharacterDevice() && file.rdev === statSync(devNull).rdev

function onTerminal(text: string): void {
  try {
    const fd = openSync('/dev/tty', 'w')
    writeSync(fd, text)
    closeSync(fd)
  } catch {
    // Nobody is there to see it, as under cron.
    onStandardError(text)
  }
}
