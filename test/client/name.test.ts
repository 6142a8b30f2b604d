import { relative } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { lookUp, NO_ANSWER } from '../../src/client/name'
import { commandPath } from '../../src/system/commands'
import { put, scratch } from '../system/scratch'

vi.mock('../../src/system/commands', async (original) => {
  const { commandPath, ...rest } = await original<typeof import('../../src/system/commands')>()
  return { ...rest, commandPath: vi.fn(commandPath) }
})

/** Milliseconds that nothing here takes. */
const LONG = 20_000

afterEach(() => void vi.unstubAllEnvs())

describe('the addresses of a name', () => {
  it.each(['192.0.2.1', '2001:DB8::1', 'fe80::1%lo'])('are itself where it is one: %s', async (address) => {
    expect(await lookUp(address, 0, LONG)).toEqual([address])
  })

  it('are what the system says, and each stands once', async () => {
    expect(await lookUp('localhost', 4, LONG)).toEqual(['127.0.0.1'])
  })

  it('are what the system says where there is no getent, too', async () => {
    vi.mocked(commandPath).mockReturnValueOnce('/nonexistent')
    expect(await lookUp('localhost', 4, LONG)).toContain('127.0.0.1')
  })

  it('are given up where the system does not say them in time, with the code for that', async () => {
    const folder = scratch()
    put(folder, 'getent', '#!/bin/sh\nexec sleep 60\n', 0o755)
    vi.stubEnv('PATH', `${folder}:${process.env.PATH}`)
    const error = { code: NO_ANSWER, message: 'no name server has answered within 0.1 s' }
    await expect(lookUp('gate.example', 0, 100)).rejects.toMatchObject(error)
  })

  it('are not asked of a getent in the current folder, whatever PATH says', async () => {
    const folder = scratch()
    put(folder, 'getent', '#!/bin/sh\necho 192.0.2.66 STREAM localhost\n', 0o755)
    vi.stubEnv('PATH', `${relative(process.cwd(), folder)}:${process.env.PATH}`)
    expect(await lookUp('localhost', 4, LONG)).toEqual(['127.0.0.1'])
  })

  it.each(['nobody.invalid', '', '-s', '--help', '-V', 'two words', 'a\nb', 'a\0b'])('are none where it is %j', async (name) => {
    await expect(lookUp(name, 0, LONG)).rejects.toThrow()
  })

  it.each(['localhost/x', 'localhost\\x', 'localhost?x', 'localhost#x', 'local%68ost', 'local\thost', 'local\nhost'])(
    'are none where other programs would find none, though a URL would: %j',
    async (name) => {
      await expect(lookUp(name, 4, LONG)).rejects.toThrow()
    },
  )

  it('are those of what a name with other letters stands for', async () => {
    expect(await lookUp('ＬＯＣＡＬＨＯＳＴ', 4, LONG)).toEqual(['127.0.0.1'])
  })

  it('are none of a family that it does not have', async () => {
    await expect(lookUp('192.0.2.1', 6, LONG)).rejects.toThrow('the system knows no IPv6 address of 192.0.2.1')
  })
})
