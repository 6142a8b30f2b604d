// Says of each test that was skipped why. Vitest's own reporters say how many they were.

/** A reporter of vitest's. */
export default class {
  /** @param {readonly import('vitest/node').TestModule[]} modules */
  onTestRunEnd(modules) {
    for (const module of modules) {
      for (const test of module.children.allTests('skipped')) {
        const result = test.result()
        console.log(`skipped: ${test.fullName}: ${('note' in result && result.note) || 'no reason given'}`)
      }
    }
  }
}
