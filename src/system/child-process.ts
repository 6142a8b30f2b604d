import type * as childProcess from 'node:child_process'

/*
 * Node's child_process, loaded when something is first started: a knock starts nothing as a rule, and would wait 3 ms for it. The bundles have
 * this in commander's hands, too (src/build/bundle.mjs).
 */

const loaded = (): typeof childProcess => process.getBuiltinModule('node:child_process')

/** @see node:child_process */
export const execFile = ((...call: Parameters<typeof childProcess.execFile>) =>
  loaded().execFile(...call)) as typeof childProcess.execFile

/** @see node:child_process */
export const spawn = ((...call: Parameters<typeof childProcess.spawn>) => loaded().spawn(...call)) as typeof childProcess.spawn

/** @see node:child_process */
export const spawnSync = ((...call: Parameters<typeof childProcess.spawnSync>) =>
  loaded().spawnSync(...call)) as typeof childProcess.spawnSync
