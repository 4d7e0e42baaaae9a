/** The real servers that exist here. */
import { homedir } from "node:os";
import { delimiter, join } from "node:path";
import { canRun } from "../programs.ts";

/** A product, by the name of its program. */
export type Product = "bao" | "vault";

const products: readonly Product[] = ["vault", "bao"];

/** This product's program in $PATH, otherwise in the tests' cache; undefined if neither has it. */
export function serverBinary(product: Product | undefined = serversHere()[0]): string | undefined {
  if (product === undefined) return undefined;
  const directories = (process.env["PATH"] ?? "").split(delimiter).filter((directory) => directory !== "");
  const cache = process.env["FETCHER_TEST_CACHE"] ?? join(homedir(), ".cache/fetcher-tests");
  return [...directories, join(cache, product)].map((directory) => join(directory, product)).find(canRun);
}

/** The products whose server exists here. */
export function serversHere(): readonly Product[] {
  return products.filter((product) => serverBinary(product) !== undefined);
}
