/* What the build puts into a program as text. */
declare module '*.html' {
  const text: string
  export default text
}
declare module '*.css' {
  const text: string
  export default text
}
declare module '*.txt' {
  const text: string
  export default text
}
declare module '*.service' {
  const text: string
  export default text
}
declare module '*.timer' {
  const text: string
  export default text
}
declare module '*.conf' {
  const text: string
  export default text
}
