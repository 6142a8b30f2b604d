import type { Option } from 'commander'
import { readService } from '../../protocol/service'
import { reading } from '../options'

/** Reads items with commas between them; null where one of them is none. */
export function listOf<T>(read: (text: string) => T | null): (text: string) => T[] | null {
  return (text) => {
    const items = text.split(',').map((item) => read(item.trim()))
    return items.every((item) => item !== null) ? items : null
  }
}

/** The option for a list of services. */
export const servicesOption = (description: string): Option =>
  reading('--services <list>', description, listOf(readService), 'services such as 22/tcp,53/udp')
