import { afterAll, beforeAll } from "vitest";
import { needs, type Requirement } from "../requirements.ts";
import type { BootOptions } from "./boot.ts";
import { Guest } from "./guest.ts";

/**
 * The systemds to test with. FETCHER_E2E_GUESTS=host,trixie,sid names others; FETCHER_E2E=here means only the running
 * one.
 */
const trees =
  process.env["FETCHER_E2E"] === "here"
    ? ["here"]
    : (process.env["FETCHER_E2E_GUESTS"] ?? "host,trixie").split(",").filter(Boolean);

/**
 * Runs the same tests on each guest, boots it before them and ends it after them. `also` is what else they need, on
 * each guest or on that one.
 */
export function onEachGuest(
  title: string,
  body: (guest: Guest) => void,
  options: Omit<BootOptions, "tree"> = {},
  also: readonly Requirement[] | ((tree: string) => readonly Requirement[]) = [],
): void {
  for (const tree of trees) {
    needs(`guest-${tree}`, ...(typeof also === "function" ? also(tree) : also)).describe(`${title} on ${tree}`, () => {
      const guest = new Guest({ ...options, tree });
      beforeAll(async () => {
        await guest.boot();
      });
      afterAll(async () => {
        await guest.stop();
      });
      body(guest);
    });
  }
}

/** The same on systems that have only what Debian needs to boot. */
export function onEmptyGuests(title: string, body: (guest: Guest) => void, also: readonly Requirement[] = []): void {
  for (const tree of ["empty-bookworm", "empty-trixie"])
    needs("own-guest", `guest-${tree}`, ...also).describe(`${title} on ${tree}`, () => {
      const guest = new Guest({ tree });
      beforeAll(async () => {
        await guest.boot();
      });
      afterAll(async () => {
        await guest.stop();
      });
      body(guest);
    });
}
