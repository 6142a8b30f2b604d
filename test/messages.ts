import { readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { parseAst } from 'rolldown/parseAst'

/*
 * What our programs print and log, read from their source: each message as a text in which "…" stands for what is known only when it is made.
 * A message that can't be found out so is an escape; whoever asks has to know about each of them.
 */

/** Stands in a message for what is put in when it is made. */
export const HOLE = '…'

/** A node of the syntax tree, as far as it concerns us. */
// biome-ignore lint/suspicious/noExplicitAny: the kinds of nodes are told apart by their type, one by one
type Node = any

/** `log`: a line of the log, or a warning; `note`: what else is known about an error; `fault`: an error. */
export type Kind = 'log' | 'note' | 'fault'

export interface Message {
  readonly kind: Kind
  readonly text: string
}

/** What a source file says. */
export interface Said {
  readonly messages: readonly Message[]
  /** Messages that are not to be seen where they are made, as `file: expression`, the dollar signs of templates left out. */
  readonly escapes: readonly string[]
}

/** Most texts that one call may come to. */
const MAX_TEXTS = 64
/** What takes the text of a message, by the names that it has with us: of which kind that is, and the place of it among the arguments. */
const TAKERS: Readonly<Record<string, readonly [kind: Kind, at: number]>> = {
  warn: ['log', 0],
  warnOnce: ['log', 0],
  warnEach: ['log', 0],
  warnOf: ['log', 1],
  tell: ['log', 0],
  note: ['note', 0],
  noteOf: ['note', 1],
  complain: ['fault', 1],
}
const isTaker = (name: string | undefined): boolean => name !== undefined && Object.hasOwn(TAKERS, name)
/** What of a finding is a message (see src/client/diagnosis.ts). */
const FOUND = ['seen', 'unknown']
/** What puts a value into a message. */
const FORMATS = ['isoTime', 'listed', 'formatDuration']
/** What names the file in front of a message, which is a value, however it is made. */
const PLACES = ['path']
const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal']

interface Source {
  readonly path: string
  readonly text: string
  readonly root: Node
  /** Constants and functions by their names, wherever in the file they stand; names that stand for several things have them all. */
  readonly named: Map<string, Node[]>
  /** What is assigned to a property of `this`, by its name. */
  readonly assigned: Map<string, Node[]>
  /** Names that are imported: the file that they come from. */
  readonly imports: Map<string, string>
}

/** Reads the messages of source files. @param root the folder of all source, for what they import */
export class Messages {
  readonly #root: string
  readonly #sources = new Map<string, Source>()

  constructor(root: string) {
    this.#root = root
  }

  of(files: readonly string[]): Said {
    const said = files.map((file) => this.#read(this.#source(join(this.#root, file))))
    return { messages: said.flatMap(({ messages }) => messages), escapes: said.flatMap(({ escapes }) => escapes) }
  }

  /**
   * Texts of a message that is chosen by its caller.
   * @param what the name of a function: all that it may return; else a text that stands in the file as it is
   */
  chosen(file: string, what: string): string[] {
    const source = this.#source(join(this.#root, file))
    const found = this.#functionOf(what, source)
    if (found) return returnsOf(found.node).flatMap((one) => this.#texts(one, found.source))
    let isThere = false
    walk(source.root, (node) => {
      isThere ||= writtenIn(node) === what
    })
    return isThere ? [what] : []
  }

  #read(source: Source): Said {
    const messages: Message[] = []
    const escapes: string[] = []
    const take = (kind: Message['kind'], node: Node, message: Node | undefined, above: readonly Node[]) => {
      // A text that is handed in is somebody else's call, which is looked at there.
      if (message && this.#isForwarded(message, above, source)) return
      const texts = message ? this.#texts(message, source) : [HOLE]
      for (const text of texts) if (/\p{L}{2}/u.test(text)) messages.push({ kind, text })
      const isSeen = texts.every((text) => /\p{L}{2}/u.test(text))
      const written = source.text.slice((message ?? node).start, (message ?? node).end)
      if (!isSeen) escapes.push(`${relative(this.#root, source.path)}: ${written.replace(/\$(?=\{)/g, '').replace(/\s+/g, ' ')}`)
    }
    walk(source.root, (node, above) => {
      if (isLogCall(node)) take('log', node, node.arguments.at(-1), above)
      else if (isFault(node, above)) take('fault', node, node.arguments[0], above)
      else if (isFound(node, above)) take('note', node, node.value, above)
      else {
        const [kind, at] = takenBy(node) ?? []
        if (kind !== undefined && at !== undefined) take(kind, node, node.arguments[at], above)
      }
    })
    return { messages, escapes }
  }

  #source(path: string): Source {
    const known = this.#sources.get(path)
    if (known) return known
    const text = readFileSync(path, 'utf8')
    const root = parseAst(text, { lang: 'ts', preserveParens: false }, path)
    const source: Source = { path, text, root, named: new Map(), assigned: new Map(), imports: new Map() }
    const add = (map: Map<string, Node[]>, name: string, node: Node) => map.set(name, [...(map.get(name) ?? []), node])
    walk(root, (node) => {
      if (node.type === 'VariableDeclarator' && node.id.type === 'Identifier' && node.init)
        add(source.named, node.id.name, node.init)
      if (node.type === 'FunctionDeclaration') add(source.named, node.id.name, node)
      if (node.type === 'ForOfStatement' && node.left.declarations?.[0].id.type === 'Identifier')
        add(source.named, node.left.declarations[0].id.name, { type: 'ElementOf', of: node.right })
      if (node.type === 'AssignmentExpression' && node.left.type === 'MemberExpression')
        add(source.assigned, node.left.property.name, node.right)
      if (node.type === 'ImportDeclaration' && node.source.value.startsWith('.'))
        for (const { local } of node.specifiers) source.imports.set(local.name, join(path, '..', `${node.source.value}.ts`))
    })
    this.#sources.set(path, source)
    return source
  }

  /** All texts that an expression may come to. */
  #texts(node: Node, source: Source, depth = 0): string[] {
    if (depth > 12) return [HOLE]
    const texts = (one: Node) => this.#texts(one, source, depth + 1)
    switch (node.type) {
      case 'Literal':
        return typeof node.value === 'string' ? [node.value] : [HOLE]
      case 'TemplateLiteral': {
        const parts = node.quasis.flatMap(({ value }: Node, i: number) => [
          [value.cooked],
          ...(node.expressions[i] ? [texts(node.expressions[i])] : []),
        ])
        return joined(parts)
      }
      case 'BinaryExpression':
        return node.operator === '+' ? joined([texts(node.left), texts(node.right)]) : [HOLE]
      case 'ConditionalExpression':
        return distinct([...texts(node.consequent), ...texts(node.alternate)])
      case 'LogicalExpression':
        return distinct([...(node.operator === '&&' ? [] : texts(node.left)), ...texts(node.right)])
      case 'AwaitExpression':
      case 'ParenthesizedExpression':
        return texts(node.argument ?? node.expression)
      case 'TSAsExpression':
      case 'TSNonNullExpression':
        return texts(node.expression)
      case 'Identifier':
        return this.#textsOfName(node.name, source, depth)
      case 'ElementOf':
        return this.#elements(node.of, source, depth + 1)
      case 'MemberExpression':
        return this.#textsOfMember(node, source, depth)
      case 'CallExpression':
        return this.#textsOfCall(node, source, depth)
      default:
        return [HOLE]
    }
  }

  #textsOfName(name: string, source: Source, depth: number): string[] {
    if (PLACES.includes(name)) return [HOLE]
    const from = source.imports.get(name)
    const nodes = source.named.get(name)
    if (nodes) return distinct(nodes.flatMap((node) => (isFunction(node) ? [HOLE] : this.#texts(node, source, depth + 1))))
    return from ? this.#textsOfName(name, this.#source(from), depth + 1) : [HOLE]
  }

  /** A property of a constant object, or one of `this` that is given a text somewhere. */
  #textsOfMember(node: Node, source: Source, depth: number): string[] {
    if (node.object.type === 'ThisExpression') {
      const given = source.assigned.get(node.property.name) ?? []
      const texts = given.flatMap((one) => this.#texts(one, source, depth + 1)).filter((text) => text !== '')
      return texts.length > 0 ? distinct(texts) : [HOLE]
    }
    const [object] = node.object.type === 'Identifier' ? (source.named.get(node.object.name) ?? []) : []
    if (object?.type !== 'ObjectExpression') return [HOLE]
    return distinct(object.properties.flatMap(({ value }: Node) => this.#texts(value, source, depth + 1)))
  }

  #textsOfCall(node: Node, source: Source, depth: number): string[] {
    const { callee } = node
    if (callee.type === 'MemberExpression' && callee.property.name === 'join') {
      const [separator] = node.arguments.length > 0 ? this.#texts(node.arguments[0], source, depth + 1) : [',']
      return this.#list(callee.object, source, depth + 1).map((text) => (text === '' ? HOLE : `${text}${separator}${HOLE}`))
    }
    const found = callee.type === 'Identifier' ? this.#functionOf(callee.name, source) : null
    if (!found || FORMATS.includes(callee.name)) return [HOLE]
    return distinct(returnsOf(found.node).flatMap((one) => this.#texts(one, found.source, depth + 1)))
  }

  /** Whether an expression is a parameter of a function around it, and that function is one whose calls are looked at. */
  #isForwarded(message: Node, above: readonly Node[], source: Source): boolean {
    if (message.type !== 'Identifier') return false
    const at = above.findIndex(({ params }) => params?.some((one: Node) => (one.parameter ?? one).name === message.name))
    if (at < 0) return false
    const [around, owner] = [above[at + 1], above[at + 2]]
    switch (around.type) {
      case 'VariableDeclarator':
        return isTaker(around.id.name)
      case 'MethodDefinition':
        return around.kind === 'constructor' && owner.type === 'ClassBody' && /Fault$/.test(above[at + 3].id.name)
      case 'CallExpression': {
        const called = around.callee.type === 'Identifier' ? this.#functionOf(around.callee.name, source)?.node : undefined
        return isTaker(called?.params[around.arguments.indexOf(above[at])]?.name)
      }
      default:
        return isTaker(above[at].id?.name)
    }
  }

  /** The first of a list's elements: what a joined text begins with. */
  #list(node: Node, source: Source, depth: number): string[] {
    if (node.type === 'ArrayExpression') {
      const [first] = node.elements
      return first && first.type !== 'SpreadElement' ? this.#texts(first, source, depth) : ['']
    }
    const found =
      node.type === 'CallExpression' && node.callee.type === 'Identifier' ? this.#functionOf(node.callee.name, source) : null
    return found ? distinct(returnsOf(found.node).flatMap((one) => this.#list(one, found.source, depth + 1))) : ['']
  }

  /** Each of a list's elements. */
  #elements(node: Node, source: Source, depth: number): string[] {
    if (depth > 12) return [HOLE]
    const elements = (one: Node) => this.#elements(one, source, depth + 1)
    switch (node.type) {
      case 'ArrayExpression':
        return distinct(
          node.elements.flatMap((one: Node) =>
            one.type === 'SpreadElement' ? elements(one.argument) : this.#texts(one, source, depth + 1),
          ),
        )
      case 'ConditionalExpression':
        return distinct([...elements(node.consequent), ...elements(node.alternate)])
      case 'AwaitExpression':
      case 'ParenthesizedExpression':
        return elements(node.argument ?? node.expression)
      case 'CallExpression': {
        const found = node.callee.type === 'Identifier' ? this.#functionOf(node.callee.name, source) : null
        return found ? distinct(returnsOf(found.node).flatMap((one) => this.#elements(one, found.source, depth + 1))) : [HOLE]
      }
      default:
        return [HOLE]
    }
  }

  #functionOf(name: string, source: Source): { node: Node; source: Source } | null {
    const node = source.named.get(name)?.find(isFunction)
    if (node) return { node, source }
    const from = source.imports.get(name)
    return from ? this.#functionOf(name, this.#source(from)) : null
  }
}

const distinct = (texts: readonly string[]): string[] => [...new Set(texts)]

/** Texts of parts, one behind the other, in each combination; one hole where there are too many. */
function joined(parts: readonly string[][]): string[] {
  const all = parts.reduce((texts, part) => texts.flatMap((text) => part.map((more) => text + more)), [''])
  if (all.length <= MAX_TEXTS) return distinct(all)
  return [parts.map((part) => (part.length === 1 ? part[0] : HOLE)).join('')]
}

/* ---- the syntax tree */

/** Visits each node with those above it, the nearest first. */
function walk(node: Node, visit: (node: Node, above: readonly Node[]) => void, above: readonly Node[] = []): void {
  if (typeof node?.type === 'string') visit(node, above)
  const next = typeof node?.type === 'string' ? [node, ...above] : above
  for (const part of Object.values(node ?? {})) if (part !== null && typeof part === 'object') walk(part, visit, next)
}

const isFunction = ({ type }: Node): boolean =>
  ['FunctionDeclaration', 'FunctionExpression', 'ArrowFunctionExpression'].includes(type)

/** A call of a logger's method. */
function isLogCall({ type, callee }: Node): boolean {
  if (type !== 'CallExpression' || callee.type !== 'MemberExpression' || !LEVELS.includes(callee.property.name)) return false
  const { object } = callee
  return (object.name ?? object.property?.name) === 'log'
}

/** What a call takes that is one of a message's takers. */
function takenBy({ type, callee, arguments: given }: Node): readonly [kind: Kind, at: number] | undefined {
  if (type !== 'CallExpression') return undefined
  const isOwn = callee.type === 'MemberExpression' && callee.object.type === 'ThisExpression'
  if (isOwn) return callee.property.name === 'warn' ? TAKERS.warn : undefined
  // Another function may have such a name, and less to take.
  return isTaker(callee.name) && given.length > TAKERS[callee.name][1] ? TAKERS[callee.name] : undefined
}

/** What was found, or stays unknown, in a finding that a function returns. */
function isFound({ type, key }: Node, above: readonly Node[]): boolean {
  if (type !== 'Property' || above[0].type !== 'ObjectExpression' || !FOUND.includes(key.name)) return false
  return above.find(isFunction)?.returnType?.typeAnnotation.elementType?.typeName?.name === 'Finding'
}

/** The text that a literal is, what is put in left out. */
function writtenIn({ type, value, quasis }: Node): string | undefined {
  if (type === 'TemplateLiteral') return quasis.map((part: Node) => part.value.cooked).join(HOLE)
  return type === 'Literal' && typeof value === 'string' ? value : undefined
}

/** A fault that is made, or what a class of them says of all of its own. */
function isFault({ type, callee }: Node, above: readonly Node[]): boolean {
  if (type === 'NewExpression') return /Fault$/.test(callee.name ?? '')
  if (type !== 'CallExpression' || callee.type !== 'Super') return false
  return /Fault$/.test(above.find((node) => node.type === 'ClassDeclaration')?.id.name ?? '')
}

/** What a function may return. */
function returnsOf(node: Node): Node[] {
  if (node.body.type !== 'BlockStatement') return [node.body]
  const found: Node[] = []
  const look = (one: Node): void => {
    if (one === null || typeof one !== 'object' || (one !== node && typeof one.type === 'string' && isFunction(one))) return
    if (one.type === 'ReturnStatement' && one.argument) found.push(one.argument)
    for (const part of Object.values(one)) look(part)
  }
  look(node.body)
  return found
}

/* ---- whether a page has them */

/** Where a message may end that a page names by its beginning. */
const ENDS = /(?:: |; | \()/g

/** The beginnings by which a page may name a message: as far as it says something, or further, with or without the place in front. */
export function namesOf(text: string): string[] {
  const whole = text.replace(/\n$/, '').replace(new RegExp(`^(?:${HOLE}:? ?)+(?=\\p{L})|[:;] ${HOLE}$`, 'gu'), '')
  const ends = [...[...whole.matchAll(ENDS)].map(({ index }) => index), whole.length]
  const words = (name: string) => name.match(/\p{L}{2,}/gu)?.length ?? 0
  const telling = ends.map((end) => whole.slice(0, end)).filter((name) => words(name) > 1)
  return telling.length > 0 ? telling : [whole]
}

/** Whether a page's tag is such a name: what a hole becomes stands there as "..." or as an example, and a place may stand in front. */
export function isNamedBy(tag: string, text: string): boolean {
  return namesOf(text).some((name) => {
    const pattern = name
      .split(HOLE)
      .map((part) => part.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&'))
      .join('.+')
    return new RegExp(`^(?:.+[: ])?${pattern}$`).test(tag)
  })
}
