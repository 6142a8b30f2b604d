// Reports what vitest's own reporters only count: why a test was skipped, and which tests passed only at their second attempt.

/** A reporter of vitest's. */
export default class {
  /** @param {readonly import('vitest/node').TestModule[]} modules */
  onTestRunEnd(modules) {
    for (const module of modules) {
      for (const test of module.children.allTests('skipped')) {
        const result = test.result()
        console.log(`skipped: ${test.fullName}: ${('note' in result && result.note) || 'no reason given'}`)
      }
      for (const test of module.children.allTests('passed')) {
        if (!test.diagnostic()?.flaky) continue
        const [first] = test.result().errors ?? []
        console.log(`second attempt: ${module.relativeModuleId}: ${test.fullName}: ${first?.message.split('\n')[0]}`)
      }
    }
  }
}
