/** AppRole: a role id, and usually a secret id, which may come wrapped. */
import * as v from "valibot";
import { means, option } from "../../../src/contract/option.ts";
import { absolutePath, objectAs, text } from "../../../src/contract/settings.ts";
import { flag } from "../setting-types.ts";
import { method, mount } from "./method.ts";

/** As other programs call them. */
const elsewhere = {
  mount: "path mountpath",
  roleIdPath: "roleidfile roleidfilepath",
  secretIdPath: "secretid secretidfile secretidfilepath",
  wrapped: "secretidresponsewrappingpath",
};
export const AppRole = objectAs(elsewhere, {
  method: method("approle"),
  mount: mount("approle"),
  roleId: option(v.optional(text), means("the role id itself", { otherwise: "required, or `roleIdPath`" })),
  roleIdPath: option(
    v.optional(absolutePath),
    means("a file with the role id", { otherwise: "required, or `roleId`", path: "replaced", secret: true }),
  ),
  secretIdPath: option(
    v.optional(absolutePath),
    means("a file with the secret id", { otherwise: "none", path: "replaced", secret: true }),
  ),
  wrapped: option(
    v.optional(flag, false),
    means("the file of `secretIdPath` has a wrapping token, and the secret id is inside"),
  ),
  role: option(
    v.optional(text),
    means("the role that the wrapped secret id must be made for", { otherwise: "any of this mount" }),
  ),
});
