import { existsSync, readFileSync, utimesSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { changeText, checkFree } from '../../src/system/files'
import { put, scratch } from './scratch'

it('a change so slow that another takes it for killed is made again, on top of what that has made', async () => {
  const path = put(scratch(), 'text', 'a')
  const append = (letter: string) => async () => readFileSync(path, 'utf8') + letter
  let isSlow = true
  await changeText(path, async () => {
    const text = await append('b')()
    if (isSlow) {
      utimesSync(`${path}.new`, 0, 0)
      await changeText(path, append('c'))
    }
    isSlow = false
    return text
  })
  expect([readFileSync(path, 'utf8'), existsSync(`${path}.new`)]).toEqual(['acb', false])
})

it('a slow change that fails leaves the one that has passed it alone', async () => {
  const path = put(scratch(), 'text', 'a')
  let finish = () => {}
  let other = Promise.resolve()
  const slow = changeText(path, async () => {
    utimesSync(`${path}.new`, 0, 0)
    await new Promise<void>((begun) => {
      other = changeText(path, async () => {
        begun()
        await new Promise<void>((resolve) => {
          finish = resolve
        })
        return 'b'
      })
    })
    throw new Error('no')
  })
  await expect(slow).rejects.toThrow('no')
  finish()
  await other
  expect(readFileSync(path, 'utf8')).toBe('b')
})

it('a name in a folder that is not there is refused before anything is written', async () => {
  await expect(checkFree(join(scratch(), 'missing', 'file'))).rejects.toThrow(/file: cannot be written: ENOENT/)
})
