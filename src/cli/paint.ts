import { styleText } from 'node:util'

/** What a colour stands for. */
export type Style = Parameters<typeof styleText>[0]

/** Colours a text where standard output is a terminal that shows colours, and NO_COLOR does not forbid it. */
export function paint(style: Style, text: string): string {
  return styleText(style, text, { stream: process.stdout })
}
