import { describe, expect, it } from 'vitest'
import { serviceManager } from '../../src/system/service-manager'

const PID = 7
const SOCKET = { NOTIFY_SOCKET: '/run/systemd/notify' }
const watchdog = (env: NodeJS.ProcessEnv) => serviceManager(env, PID).watchdog
const folder = (text?: string) => serviceManager(text === undefined ? {} : { RUNTIME_DIRECTORY: text }, PID).folder

describe('what systemd has told a process', () => {
  it('is nothing where it has not started it', async () => {
    const { folder, watchdog, notify } = serviceManager({}, PID)
    expect([folder, watchdog, await notify('--ready')]).toEqual([null, null, undefined])
  })

  it('is how often it has to be heard of, in milliseconds', () => {
    expect(watchdog({ ...SOCKET, WATCHDOG_USEC: '60000000', WATCHDOG_PID: '7' })).toBe(60_000)
    expect(watchdog({ ...SOCKET, WATCHDOG_USEC: '60000000' })).toBe(60_000)
  })

  it.each([
    ['is meant for another process', { ...SOCKET, WATCHDOG_USEC: '60000000', WATCHDOG_PID: '8' }],
    ['has nowhere to be told', { WATCHDOG_USEC: '60000000' }],
    ['is no number', { ...SOCKET, WATCHDOG_USEC: 'often' }],
    ['is none', { ...SOCKET, WATCHDOG_USEC: '0' }],
  ])('has no watchdog that %s', (_, env) => {
    expect(watchdog(env)).toBeNull()
  })

  it('has the first of its folders', () => {
    expect(['/run/knockturn', '/run/knockturn:/run/more', 'knockturn', '', undefined].map(folder)).toEqual([
      '/run/knockturn',
      '/run/knockturn',
      null,
      null,
      null,
    ])
  })

  it('is not told of where there is nobody', async () => {
    await expect(serviceManager({ NOTIFY_SOCKET: '/nowhere/notify' }, PID).notify('--ready')).rejects.toThrow('systemd-notify')
  })
})
