/** A signed token: of an OIDC provider, or of a cluster for one of its pods. */
import * as v from "valibot";
import { means, option } from "../../../src/contract/option.ts";
import { objectAs, text } from "../../../src/contract/settings.ts";
import { jwtElsewhere, jwtPath, method, mount } from "./method.ts";

export const Jwt = objectAs(jwtElsewhere, {
  method: method("jwt"),
  mount: mount("jwt"),
  role: option(v.optional(text), means("the role to log in as", { otherwise: "the server's default" })),
  jwtPath,
});
