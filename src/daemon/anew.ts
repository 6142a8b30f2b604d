/** Derives something from a value that is asked for again and again: anew only when it is another one. */
export function anew<Value, Derived>(current: () => Value, derive: (value: Value) => Derived): () => Derived {
  let known: { readonly value: Value; readonly derived: Derived } | null = null
  return () => {
    const value = current()
    if (known?.value !== value) known = { value, derived: derive(value) }
    return known.derived
  }
}
