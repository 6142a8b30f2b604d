/**
 * Cuts the items of a list out of a stream of JSON, one by one: a document of 20 MB takes the memory of its longest item.
 * @param name the list's name in the object that has it
 * @param depth how many objects and lists the list itself lies in
 * @param take told the text of each item that is an object or a list
 * @param maxItem longest text of an item: what is longer ends the reading
 * @returns takes the text as it comes; throws a SyntaxError where an item is too long
 */
export function itemSplitter(
  name: string,
  depth: number,
  take: (text: string) => void,
  maxItem: number,
): (chunk: string) => void {
  let level = 0
  let isString = false
  let isEscaped = false
  /** The string that was read last: a list's name stands in front of it. */
  let last = ''
  let isIn = false
  let rest = ''
  return (chunk) => {
    /** Where the item or string begins that is being read; what came of it before is in `rest`. */
    let start = isString || (isIn && level > depth + 1) ? 0 : -1
    const taken = (end: number) => {
      const text = rest + chunk.slice(start, end)
      rest = ''
      start = -1
      return text
    }
    const isInItem = () => isIn && level > depth + 1
    for (let i = 0; i < chunk.length; i++) {
      const character = chunk[i]
      if (isString) {
        if (isEscaped) isEscaped = false
        else if (character === '\\') isEscaped = true
        else if (character === '"') {
          isString = false
          if (!isInItem()) last = taken(i)
        }
      } else if (character === '"') {
        isString = true
        if (!isInItem()) start = i + 1
      } else if (character === '{' || character === '[') {
        if (level === depth && character === '[') isIn = last === name
        if (isIn && level === depth + 1) start = i
        level++
      } else if (character === '}' || character === ']') {
        level--
        if (isIn && level === depth + 1) take(taken(i + 1))
        else if (level === depth) isIn = false
      }
    }
    if (start < 0) return
    rest += chunk.slice(start)
    if (rest.length > maxItem) throw new SyntaxError(`an item is longer than ${maxItem} characters`)
  }
}
