import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'

const E2E = 'test/e2e/**/*.test.ts'

/** `unit` needs nothing but Node; `e2e` works on real firewalls, two files at a time, since it mostly waits, and is given time for it. */
export default defineConfig({
  root: fileURLToPath(new URL('..', import.meta.url)),
  test: {
    projects: [
      { extends: true, test: { name: 'unit', include: ['test/**/*.test.ts'], exclude: [E2E] } },
      {
        extends: true,
        test: { name: 'e2e', include: [E2E], maxWorkers: 2, testTimeout: 120_000, hookTimeout: 120_000 },
      },
    ],
  },
})
