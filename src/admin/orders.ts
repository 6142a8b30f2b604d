import type { Config } from '../daemon/config'
import type { Answer, Order } from '../daemon/orders/order'

/**
 * Gives an order to the daemon that holds the ledger of a config.
 * @returns its answer; `dead`: no daemon holds the ledger; `silent`: one does, and has not answered in time, so that nobody knows what it has done
 * @throws {Fault} where the caller may give no orders, or the folder of orders is not as it has to be
 */
export async function giveOrder(_config: Config, _order: Order): Promise<Answer | 'dead' | 'silent'> {
  throw new Error('not yet')
}
