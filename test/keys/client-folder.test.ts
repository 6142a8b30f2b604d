import { posix, win32 } from 'node:path'
import { describe, expect, it } from 'vitest'
import { configFolder, stateFolder } from '../../src/keys/client-folder'

const ALICE = '/home/alice'
const WINDOWS = 'C:\\Users\\alice'

const joinOf = (platform: NodeJS.Platform) => (platform === 'win32' ? win32 : posix).join

describe("a client's folder", () => {
  it.each<[NodeJS.Platform, Record<string, string>, string, string]>([
    ['linux', {}, ALICE, '/home/alice/.config/knockturn'],
    ['linux', { XDG_CONFIG_HOME: '' }, ALICE, '/home/alice/.config/knockturn'],
    ['linux', { XDG_CONFIG_HOME: '/etc/alice' }, ALICE, '/etc/alice/knockturn'],
    ['linux', { APPDATA: 'C:\\Roaming' }, ALICE, '/home/alice/.config/knockturn'],
    ['darwin', {}, '/Users/alice', '/Users/alice/.config/knockturn'],
    ['win32', { APPDATA: `${WINDOWS}\\AppData\\Roaming` }, WINDOWS, `${WINDOWS}\\AppData\\Roaming\\knockturn`],
    ['win32', {}, WINDOWS, `${WINDOWS}\\AppData\\Roaming\\knockturn`],
    ['win32', { XDG_CONFIG_HOME: 'D:\\config', APPDATA: 'C:\\Roaming' }, WINDOWS, 'D:\\config\\knockturn'],
  ])('of keys and config is on %s with %j and the home %s: %s', (platform, env, home, folder) => {
    expect(configFolder(platform, env, home, joinOf(platform))).toBe(folder)
  })

  it.each<[NodeJS.Platform, Record<string, string>, string, string]>([
    ['linux', {}, ALICE, '/home/alice/.local/state/knockturn'],
    ['linux', { XDG_STATE_HOME: '/var/alice' }, ALICE, '/var/alice/knockturn'],
    ['darwin', {}, '/Users/alice', '/Users/alice/.local/state/knockturn'],
    ['win32', { LOCALAPPDATA: `${WINDOWS}\\AppData\\Local` }, WINDOWS, `${WINDOWS}\\AppData\\Local\\knockturn`],
    ['win32', {}, WINDOWS, `${WINDOWS}\\AppData\\Local\\knockturn`],
  ])('of the last knock is on %s with %j and the home %s: %s', (platform, env, home, folder) => {
    expect(stateFolder(platform, env, home, joinOf(platform))).toBe(folder)
  })
})
