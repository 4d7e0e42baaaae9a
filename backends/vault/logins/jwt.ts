/** A signed token: of an OIDC provider, or of a cluster for one of its pods. */
import * as v from "valibot";
import { means, option } from "../../../src/contract/option.ts";
import { object, text } from "../../../src/contract/settings.ts";
import { jwtPath, method, mount } from "./method.ts";

export const Jwt = object({
  method: method("jwt"),
  mount: mount("jwt"),
  role: option(v.optional(text), means("the role to log in as", { otherwise: "the server's default" })),
  jwtPath,
});
