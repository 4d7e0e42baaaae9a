/** What a server's packets cost. If these fail, an answer within the limit of size takes many times that in memory. */
import { expect, test } from "vitest";
import { Body } from "../../../backends/vault/body.ts";

const KIB = 1024;

/** A body of these parts, each in a packet of its own. */
function bodyOf(sizes: readonly number[], packet: number) {
  const packets: Buffer[] = [];
  const body = new Body();
  for (const [at, size] of sizes.entries()) {
    const bytes = Buffer.alloc(packet);
    packets.push(bytes);
    body.add(bytes.fill((at % 255) + 1, 0, size).subarray(0, size));
  }
  return { body, packets };
}

const expected = (sizes: readonly number[]) =>
  Buffer.concat(sizes.map((size, at) => Buffer.alloc(size, (at % 255) + 1)));

test.each([
  [[5], 5],
  [[5, 6, 7], 64],
  [[16 * KIB, 1, 16 * KIB], 16 * KIB],
  [[16 * KIB - 1, 1, 1], 64 * KIB],
  [[40 * KIB, 30 * KIB, 64 * KIB, 7], 64 * KIB],
  [Array.from({ length: 300 }, (_, at) => at * 7), 4 * KIB],
] as const)("gives %j bytes in packets of %i back as they came", (sizes, packet) => {
  const { body } = bodyOf(sizes, packet);
  expect(body.take().equals(expected(sizes))).toBe(true);
  expect(body.take()).toHaveLength(0);
});

test.each([
  ["a byte of each packet of 64 KiB", 1, 64 * KIB],
  ["17 KiB of each packet of 512 KiB", 17 * KIB, 512 * KIB],
  ["packets of a byte", 1, 1],
])("keeps no packet of which it has little, and not one object a byte: %s", (_, size, packet) => {
  const { packets } = bodyOf(
    Array.from({ length: 500 }, () => size),
    packet,
  );
  // What it copies, it overwrites at once.
  const kept = packets.filter((bytes) => bytes[0] !== 0);
  expect(kept.length).toBeLessThanOrEqual(1);
});

test("leaves no byte behind, neither in a copied packet nor in a forgotten body", () => {
  const { body, packets } = bodyOf([3, 20 * KIB, 5], 20 * KIB);
  body.forget();
  for (const packet of packets) expect(packet.every((byte) => byte === 0)).toBe(true);
});
