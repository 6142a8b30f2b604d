import { fileURLToPath } from 'node:url'
import { defineConfig } from 'vitest/config'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

const E2E = 'test/e2e/**/*.test.ts'

/** The attacks take longest by far: begun last, they would be alone for minutes. */
class AttacksFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const isLong = ({ moduleId }: TestSpecification) => moduleId.endsWith('attacks.test.ts')
    const sorted = await super.sort(files)
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))]
  }
}

/** Milliseconds after which a test hangs, on the busiest machine. */
const LIMITS = { testTimeout: 300_000, hookTimeout: 300_000 }

/** `unit` needs nothing but Node; `e2e` works on real firewalls, two files at a time, since it mostly waits. */
export default defineConfig({
  root: fileURLToPath(new URL('..', import.meta.url)),
  test: {
    ...LIMITS,
    sequence: { sequencer: AttacksFirst },
    projects: [
      { extends: true, test: { name: 'unit', include: ['test/**/*.test.ts'], exclude: [E2E] } },
      {
        extends: true,
        test: { name: 'e2e', include: [E2E], maxWorkers: 2 },
      },
    ],
  },
})
