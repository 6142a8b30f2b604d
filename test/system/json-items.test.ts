import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { itemSplitter } from '../../src/system/json-items'

const LONGEST = 1_000

/** The items of the list "elem" of a document's first set, whatever the pieces in which it comes. */
function split(text: string, sizes: readonly number[] = [text.length], maxItem = LONGEST) {
  const items: unknown[] = []
  const push = itemSplitter('elem', 4, (item) => items.push(JSON.parse(item)), maxItem)
  let at = 0
  for (let i = 0; at < text.length; i++) {
    const size = sizes[i % sizes.length] ?? 1
    push(text.slice(at, at + size))
    at += size
  }
  return items
}

const documentOf = (elem: readonly unknown[], before: object = {}) =>
  JSON.stringify({
    nftables: [
      { metainfo: { elem: 1 } },
      { set: { ...before, deeper: { elem: [{ not: 'this' }] }, elem, stmt: [{ counter: null }] } },
    ],
  })

const item = fc.oneof(fc.dictionary(fc.string(), fc.jsonValue()), fc.array(fc.jsonValue(), { minLength: 1 }))

describe('the items of a list', () => {
  it('are all of it and nothing else, whatever is in them and in whatever pieces it comes', () => {
    fc.assert(
      fc.property(fc.array(item), fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), (items, sizes) => {
        const text = documentOf(items)
        expect(split(text, sizes, text.length)).toEqual(JSON.parse(JSON.stringify(items)))
      }),
    )
  })

  it.each([
    ['brackets and quotes in a string', [{ comment: 'a,}{b]["\\' }]],
    ['a list as an item', [[{ elem: { val: 1 } }, 'once_1']]],
    ['a list of the same name in an item', [{ elem: [{ elem: [1] }] }]],
  ])('are told apart beside %s', (_, items) => {
    expect(split(documentOf(items), [1])).toEqual(items)
  })

  it('are none where another list has them', () => {
    expect(split(documentOf([], { type: ['mark'], flags: [{ a: 1 }] }))).toEqual([])
  })

  it('are refused where one is too long, before it is whole', () => {
    expect(() => split(documentOf([{ comment: 'x'.repeat(LONGEST) }]), [100], 500)).toThrow('an item is longer than 500')
  })
})
