import { run } from '../../system/commands'
import { changeText } from '../../system/files'
import { startDaemon } from './daemon-start'
import type { Step } from './plan'
import type { Itself } from './there'

/** Takes a step of a plan. @param root the folder of the programs @throws {Fault} where it fails */
export async function takeStep(step: Step, itself: Itself, root: string, hasSystemd: boolean): Promise<void> {
  switch (step.kind) {
    case 'command': {
      const [program, ...args] = step.argv
      await run(program, args)
      break
    }
    case 'file':
      await changeText(step.path, async () => step.text, step.mode)
      break
    case 'itself':
      await itself(...step.args)
      break
    case 'daemon':
      await startDaemon(root, hasSystemd)
  }
}

/** A step as what a shell would do, with the whole of a file: for who wants to see it first. */
export function printedStep(step: Step, hasSystemd: boolean): string {
  switch (step.kind) {
    case 'command':
      return `# ${step.what}\n${step.argv.join(' ')}\n`
    case 'file':
      return `# ${step.path} (root, mode 0${step.mode.toString(8)})\n${step.text}`
    case 'itself':
      return `# ${step.what}\nknockturn ${step.args.join(' ')}\n`
    case 'daemon':
      return `# ${step.what}\n${hasSystemd ? 'systemctl restart knockdaemon.service' : 'knockdaemon, as the user knockturn'}\n`
  }
}
