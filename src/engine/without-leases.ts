/** A look at the store by a process that ends again renews no lease. Only such a process loads this. */
import { BackendError, type Outcome } from "../contract/backend.ts";
import { isFetched } from "./held-values.ts";
import type { Store } from "./store.ts";

/** A store whose leases are not renewed: it refuses a secret with a lease, which keeps its last value. */
export function withoutLeases(store: Store): Store {
  const refused = (id: string) =>
    new BackendError("invalid", `${store.describe(id)} is a lease, which nothing would renew: set "resident" to true`);
  const { name, pollingInterval, watch } = store;
  return {
    ...{ name, pollingInterval, watch },
    describe: (id) => store.describe(id),
    applied: async (versions) => {
      await store.applied(versions);
    },
    close: async () => {
      await store.close();
    },
    fetch: async (ids, signal, limit) => {
      const outcomes = new Map<string, Outcome>();
      for (const [id, outcome] of await store.fetch(ids, signal, limit)) {
        const isLease = isFetched(outcome) && outcome.refreshAfter !== undefined;
        if (isLease) outcome.value.fill(0);
        outcomes.set(id, isLease ? refused(id) : outcome);
      }
      return outcomes;
    },
  };
}
