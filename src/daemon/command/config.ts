import * as v from 'valibot'
import { whole } from '../../system/toml-entries'
import { isProgram, strangers, uses, type Words } from './words'

/** Most words of a call, and characters of each: more than any program needs. */
const MAX_WORDS = 64
const MAX_WORD = 1_024
/** How long a call may take, in seconds: what a login to another machine takes, and as long as somebody who has knocked may wait for it. */
const TIME_LIMIT = 15
const MAX_TIME_LIMIT = 120

/** A user's program that opens, closes and lists doors. */
export interface CommandConfig {
  readonly open: Words
  readonly close: Words
  /** Null: it can't tell what is open. */
  readonly list: Words | null
  /** Seconds that a call may take. */
  readonly timeLimit: number
}

const words = v.pipe(
  v.array(v.pipe(v.string(), v.maxLength(MAX_WORD, `at most ${MAX_WORD} characters`), v.excludes('\0', 'no NUL in it'))),
  v.maxLength(MAX_WORDS, `at most ${MAX_WORDS} words`),
  v.check((words) => words.length > 0 && isProgram(words[0]), 'first the path of a program, or its name where it is in PATH'),
  v.transform((words) => words as [string, ...string[]] as Words),
)

/** Names what is unknown: text in braces is a placeholder, and no shell's variable. */
const known = (names?: readonly string[]) =>
  v.rawCheck<Words>(({ dataset, addIssue }) => {
    if (!dataset.typed || dataset.issues) return
    const [stranger] = strangers(dataset.value, names)
    if (stranger !== undefined) addIssue({ message: `must not contain ${stranger}: it is no placeholder here` })
  })

/** [firewall.command] of the config. */
export const commandSchema = v.pipe(
  v.strictObject({
    open: v.pipe(
      words,
      known(),
      v.check((call) => uses(call, 'address'), 'must contain {address}: it would open for everybody'),
    ),
    close: v.pipe(
      words,
      known(),
      v.check((call) => uses(call, 'address') || uses(call, 'lease'), 'must contain {address} or {lease}'),
    ),
    list: v.optional(v.pipe(words, known([]))),
    time_limit: v.optional(whole(1, MAX_TIME_LIMIT), TIME_LIMIT),
  }),
  v.transform(({ open, close, list, time_limit }): CommandConfig => ({ open, close, list: list ?? null, timeLimit: time_limit })),
)
