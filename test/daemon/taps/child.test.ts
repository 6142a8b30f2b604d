import { expect, it } from 'vitest'
import { type Child, keepAlive } from '../../../src/daemon/taps/child'
import { until } from '../../lab/waiters'

it('a child that is renewed lives again, hears again, and nobody is told', async () => {
  let [lives, heard] = [0, 0]
  const warnings: string[] = []
  const child: Child = keepAlive(
    {
      argv: ['sh', '-c', 'echo a line; exec sleep 60'],
      hears: 'itself',
      settle: 10,
      heard: () => heard++,
      reader() {
        lives++
        return () => {
          if (lives === 1) child.renew()
        }
      },
    },
    (message) => warnings.push(message),
  )
  await child.start()
  await until(() => lives === 2 && heard > 0, 'it hears in its second life')
  const { pid } = child
  // A death that is none of ours is told of, and so would that of before have been by then.
  process.kill(pid as number, 'SIGKILL')
  await until(() => lives === 3 && warnings.length > 1, 'it hears in its third life')
  await child.stop()
  expect(warnings).toEqual(['sh exited, restarting: killed by SIGKILL', 'sh restarted'])
})
