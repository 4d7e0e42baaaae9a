/** Does several things at once, but not all of them: a store must not get a thousand questions in one moment. */

/**
 * Calls `work` for each item, for at most `limit` items at a time, in their order.
 *
 * @returns when all are done. Rejects with the first error; work in progress then continues.
 */
export async function forEachConcurrently<T>(
  items: Iterable<T>,
  limit: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const all = [...items];
  let next = 0;
  const worker = async () => {
    while (next < all.length) await work(all[next++] as T);
  };
  const workers: Promise<void>[] = [];
  while (workers.length < Math.min(limit, all.length)) workers.push(worker());
  await Promise.all(workers);
}
