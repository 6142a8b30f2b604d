import { expect, it } from 'vitest'
import { LogLength, LogQuestion } from '../../../src/daemon/fleet/log-length'

it('a log that is as long as it was, or longer, is the same', () => {
  const log = new LogLength(10)
  expect([log.note(10, log.known), log.note(12, log.known), log.known]).toEqual([true, true, 12])
})

it('a log that is shorter than it was may be another one, and what is known of it stays', () => {
  const log = new LogLength(10)
  expect([log.note(9, log.known), log.known]).toEqual([false, 10])
})

it('an answer is judged by what was known when it was asked for', () => {
  const log = new LogLength(10)
  const before = log.known
  log.note(20, before)
  expect(log.note(15, before)).toBe(true)
})

it('a log that is shorter at two beats in a row is another one', () => {
  const log = new LogLength(10)
  expect([log.beaten(4, 10), log.beaten(5, 10)]).toEqual([null, 'its log went back from 10 to 5'])
})

it('a member that was behind at one beat, and is not at the next, is forgiven', () => {
  const log = new LogLength(10)
  expect([log.beaten(9, 10), log.beaten(11, 10), log.beaten(10, 11)]).toEqual([null, null, null])
})

it('a log that is begun anew is known from then on', () => {
  const log = new LogLength(10)
  log.beaten(4, 10)
  log.beginAnew()
  expect([log.note(3, log.known), log.beaten(2, log.known)]).toEqual([true, null])
})

it('those who ask while a question is on its way have the next one together', async () => {
  const answers: ((reached: number) => void)[] = []
  const question = new LogQuestion({ reached: () => new Promise((resolve) => answers.push(resolve)) }, new LogLength(10))
  const asked = [question.isSame(), question.isSame(), question.isSame()]
  expect(answers.length).toBe(1)
  answers[0]?.(12)
  expect(await asked[0]).toBe(true)
  await new Promise(setImmediate)
  expect(answers.length).toBe(2)
  // By another etcd: that is no answer to who was there first.
  answers[1]?.(4)
  expect(await Promise.all(asked)).toEqual([true, false, false])
})

it('a log of which nobody says how far it has come is not known to be the same', async () => {
  const question = new LogQuestion({ reached: () => Promise.reject(new Error('nobody is there')) }, new LogLength(10))
  expect([await question.isSame(), await question.isSame()]).toEqual([false, false])
})
