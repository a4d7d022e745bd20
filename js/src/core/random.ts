// Randomness for a core that has none.

/** What a node's only random generator starts from. */
export const SEED_BYTES = 32;

/** Names a database. */
export const REPLICA_ID_BYTES = 16;

/** Random bytes that nobody can guess. */
export function random(bytes: number): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(bytes));
}
