// Says who has come in, in the place of setup: run in a host that is set up.
//
//     came-in before          # prints what is there
//     came-in who < before    # prints who has come in since

import { text } from 'node:stream/consumers'
import { connectionsNow, whoCameIn } from '../../src/admin/setup/came-in'

async function main(): Promise<void> {
  const said =
    process.argv[2] === 'before' ? [...(await connectionsNow())] : await whoCameIn(new Set(JSON.parse(await text(process.stdin))))
  console.log(JSON.stringify(said))
}

void main()
