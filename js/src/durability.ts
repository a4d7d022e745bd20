// How durable a write is, as page and worker call it, and IndexedDB.

/** What a write waits for: that the operating system has it, or the disk. */
export type Durability = 'relaxed' | 'strict';
