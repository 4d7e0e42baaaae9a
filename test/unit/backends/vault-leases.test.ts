import { expect, test } from "vitest";
import { Leases } from "../../../backends/vault/leases.ts";
import type { Reader } from "../../../backends/vault/read.ts";
import type { Session } from "../../../backends/vault/session.ts";
import type { Settings } from "../../../backends/vault/settings.ts";
import type { Place } from "../../../backends/vault/source.ts";

test("forgets an old lease once it has expired, because it holds a secret", async () => {
  let now = 0;
  let issued = 0;
  const ended: unknown[] = [];
  const token = { endsAt: Infinity };
  // Fakes of a server that issues leases of 90 s, none of which can be renewed.
  const session = {
    token,
    attempt: ({ data }: { data: { lease_id: string } }) => {
      ended.push(data.lease_id);
      return Promise.resolve({ body: undefined });
    },
  } as unknown as Session;
  const reader = {
    read: () => {
      issued += 1;
      const lease = { leaseId: `lease-${issued}`, ttl: 90, renewable: false, token };
      return Promise.resolve({ status: "found", version: String(issued), where: "there", issued: lease });
    },
  } as unknown as Reader;
  const context = { log: () => undefined, random: () => 0.5 };
  const leases = new Leases(session, reader, { server: "fake" } as unknown as Settings, context, () => now);
  const place = { identity: "database/creds/app" } as unknown as Place;
  for (let round = 0; round < 10; round += 1) {
    await leases.read(place, ["a"], new AbortController().signal);
    now += 70;
  }
  expect(issued).toBe(10);
  await leases.revokeAll(new AbortController().signal);
  expect(ended).toEqual(["lease-9", "lease-10"]);
});
