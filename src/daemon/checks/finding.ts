import { type Check, remedyOf } from '../../system/check'
import { type Fault, keepFault } from '../../system/fault'

/** Gathers what one check finds: only where that is nothing, all is well. */
export class Finding {
  readonly #found: Check[] = []

  /** @param name of the check */
  constructor(readonly name: string) {}

  /** What can't be as it is, as somebody else has said it. */
  fault(...faults: readonly Fault[]): void {
    for (const { message, hint } of faults) this.#add('fault', message, hint)
  }

  /** What can't be as it is, by evidence and remedy. */
  wrong(evidence: string, remedy: string): void {
    this.#add('fault', evidence, remedy)
  }

  /** What is no fault, but will be felt. */
  felt(evidence: string, remedy?: string): void {
    this.#add('note', evidence, remedy)
  }

  /** What nobody can know. */
  unknown(evidence: string, remedy?: string): void {
    this.#add('unknown', evidence, remedy)
  }

  /** Does something that may fail. @returns what came of it; undefined where that is a fault */
  async attempt<T>(act: () => Promise<T> | T): Promise<T | undefined> {
    const faults: Fault[] = []
    const done = await keepFault(faults, act)
    this.fault(...faults)
    return done
  }

  /** Looks at something; where that can't be done, nobody knows. @returns what was seen; null where it could not be */
  async look<T>(act: () => Promise<T> | T): Promise<T | null> {
    const faults: Fault[] = []
    const seen = await keepFault(faults, act)
    for (const { message, hint } of faults) this.unknown(message, hint)
    return faults.length > 0 ? null : (seen as T)
  }

  /** Whether nothing was found so far. */
  get isWell(): boolean {
    return this.#found.length === 0
  }

  /** What was found. @param well the evidence where that is nothing: that all is well */
  end(well: string): readonly Check[] {
    return this.isWell ? [{ name: this.name, verdict: 'ok', evidence: well }] : this.#found
  }

  #add(verdict: Check['verdict'], evidence: string, remedy: string | undefined): void {
    this.#found.push({ name: this.name, verdict, evidence, ...remedyOf(remedy) })
  }
}

/** The line of a check for who prints no remedies by themselves. */
export function inLine({ evidence, remedy }: Check): string {
  return remedy === undefined ? evidence : `${evidence}: ${remedy}`
}
