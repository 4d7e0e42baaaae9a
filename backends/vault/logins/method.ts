/** What several logins have in common. */
import * as v from "valibot";
import { means, option } from "../../../src/contract/option.ts";
import { absolutePath } from "../../../src/contract/settings.ts";
import { pathText } from "../setting-types.ts";

export const method = <const Name extends string>(name: Name) => option(v.literal(name), means("the word itself"));

/** @param name of the method, where it is mounted by default. */
export const mount = (name: string) =>
  option(v.optional(pathText, name), means("where the method is mounted below `auth/`"));

export const jwtPath = option(
  absolutePath,
  means("a file with the signed token, read at each login", { path: "replaced", secret: true }),
);

/** As other programs call them. `path` is the file for Vault Agent, and the mount for others: it is not here. */
export const jwtElsewhere = {
  mount: "mountpath",
  jwtPath: "file jwtfile token tokenfile tokenpath serviceaccounttokenpath",
};
