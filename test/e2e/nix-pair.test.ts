/** The units that Nix renders, booted: the core of the matrix for each delivery. The full one is on the plain units. */
import { afterAll } from "vitest";
import { Evaluation } from "../nix/evaluation.ts";
import { onEachGuest } from "./guests.ts";
import { coreOfTheMatrix } from "./matrix-core.ts";
import { nixUnits, removeNix, type NixDelivery } from "./nix-units.ts";

/** Where the target's program finds the file, as it is written in sh. */
const place: Record<NixDelivery, string> = {
  scope: "/tmp/token",
  "private-tmp": "/tmp/token",
  credentials: "$CREDENTIALS_DIRECTORY/token",
};

const evaluation = new Evaluation();

onEachGuest(
  "the units that Nix renders",
  (guest) => {
    afterAll(async () => {
      await removeNix(guest);
    });
    for (const delivery of ["scope", "private-tmp", "credentials"] as const)
      coreOfTheMatrix(guest, delivery, place[delivery], nixUnits(evaluation, delivery));
  },
  {},
  ["nix"],
);
