/** Ends a switch over a tagged union: a kind that was added and not handled is a type error here. */
export function assertNever(value: never): never {
  throw new TypeError(`unexpected ${JSON.stringify(value)}`);
}
