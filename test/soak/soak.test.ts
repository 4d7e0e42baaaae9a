/**
 * Six services with sidecars on five kinds of stores, one of them without a process that stays, and random events of
 * every kind for any length of time: two minutes here, half an hour with `npm run soak`. If it fails, an operator has a
 * service that stays down, reads what no store held, or finds something left behind. FETCHER_SOAK_SEED repeats the
 * choices, though not the timing.
 */
import { writeFileSync } from "node:fs";
import { expect } from "vitest";
import { Guest } from "../e2e/guest.ts";
import { needs } from "../requirements.ts";
import { report } from "./report.ts";
import { Seeded } from "./random.ts";
import { Soak } from "./soak.ts";

const seconds = Number(process.env["FETCHER_SOAK_SECONDS"] ?? 120);
const seed = Number(process.env["FETCHER_SOAK_SEED"] ?? Math.floor(Math.random() * 2 ** 32));

needs("root", "guest-trixie", "vault-server", "fake-clock").test(
  `${seconds} s of random events, and every service runs with its store's values`,
  async () => {
    const guest = await Guest.boot({ tree: "trixie" });
    const soak = new Soak(guest, new Seeded(seed));
    try {
      await soak.install();
      await soak.run(seconds);
      await soak.end();
      const { text, leaking } = report(soak, seconds);
      console.log(text);
      const file = process.env["FETCHER_SOAK_REPORT"];
      if (file !== undefined) writeFileSync(file, text);
      expect(soak.looks).toBeGreaterThan(10);
      expect(soak.rests).toBeGreaterThan(1);
      expect(leaking).toEqual([]);
    } catch (error) {
      const units = soak.services.flatMap(({ pair }) => [pair.target, pair.sidecar]);
      const last = soak.happened.slice(-40).join("\n");
      if (error instanceof Error)
        error.message += `\n\nseed ${seed}; the last events:\n${last}\n\n${await guest.diagnosis(...units)}`;
      throw error;
    } finally {
      await guest.stop();
    }
  },
  (seconds + 600) * 1000,
);
